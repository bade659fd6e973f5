"""A server on this machine that speaks the part of Google Cloud Storage's JSON interface that reading needs."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


class Handler(BaseHTTPRequestHandler):
    objects: dict[str, bytes]  # by bucket/key
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        bucket, _, key = parts.path.partition("/b/")[2].partition("/o")
        name = f"{bucket}/{unquote(key.strip('/'))}"
        if not any(known.startswith(f"{bucket}/") for known in self.objects):
            return self.send(404, b'{"error": {"code": 404, "message": "The specified bucket does not exist."}}')
        if not key.strip("/"):
            prefix = query.get("prefix", [""])[0]
            keys = [known.partition("/")[2] for known in sorted(self.objects)]
            items = [self.about(f"{bucket}/{known}") for known in keys if known.startswith(prefix)]
            return self.send(200, json.dumps({"items": items}).encode())
        if name not in self.objects:
            return self.send(404, b'{"error": {"code": 404, "message": "No such object"}}')
        if query.get("alt") != ["media"]:
            return self.send(200, json.dumps(self.about(name)).encode())
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        return self.send(206, self.objects[name][int(first) : int(last) + 1])

    def about(self, name: str) -> dict[str, str]:
        content, (bucket, _, key) = self.objects[name], name.partition("/")
        version = hashlib.md5(content).hexdigest()
        return {"kind": "storage#object", "bucket": bucket, "name": key, "size": str(len(content)), "etag": version}

    def send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving(objects: dict[str, bytes]):
    """Serve objects, by bucket/key, and yield the address of the server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Objects", (Handler,), {"objects": objects}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
