"""A web server on this machine with ranges, ETags and index pages, whose faults tests choose."""

import hashlib
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class WebServer:
    """Files of a folder, and what is wrong with them.

    `log` lists the requests: method, path, first byte. `breaks` maps a path to numbers of bytes, after each of which a
    connection is cut; `failing` a path to statuses that come before the file does; `says` a path to a length that is
    announced, true or not; `moved` a path to an address; `slow` is the seconds that each 64 kB take.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log: list[tuple[str, str, int]] = []
        self.breaks: dict[str, list[int]] = {}
        self.failing: dict[str, list[int]] = {}
        self.says: dict[str, int] = {}
        self.moved: dict[str, str] = {}
        self.passwords: set[str] = set()
        self.sent: list[str | None] = []
        self.slow = 0.0
        self.ranges = self.head = self.index = True
        self.before_body = lambda path: None

    def begin(self) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"web": self}))
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # of clients that have gone
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def end(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def asked(self, method: str, ending: str = "") -> list[tuple[str, int]]:
        return [(path, start) for kind, path, start in self.log if kind == method and path.endswith(ending)]


class Handler(BaseHTTPRequestHandler):
    web: WebServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        web, path = self.web, unquote(urlsplit(self.path).path)
        wanted = self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        web.log.append((self.command, self.path, start))
        web.sent.append(self.headers.get("Authorization"))
        if web.passwords and self.headers.get("Authorization") not in web.passwords:
            return self.short(401)
        if path in web.moved:
            return self.short(302, Location=web.moved[path])
        if not web.head and not body:
            return self.short(405)
        if web.failing.get(path):
            return self.short(web.failing[path].pop(0))
        file = web.folder / path.strip("/")
        if file.is_dir() and web.index:
            names = [f'<a href="{one.name}">{one.name}</a>' for one in sorted(file.iterdir())]
            return self.content(
                ("<a href='../'>up</a><a href='http://elsewhere/x.tar'>x</a>" + "".join(names)).encode()
            )
        if not file.is_file():
            return self.short(404)
        data = file.read_bytes()
        version = f'"{hashlib.md5(data).hexdigest()}"'
        total = web.says.get(path, len(data))
        partial = wanted and web.ranges and self.headers.get("If-Range", version) == version
        if partial and start >= len(data):
            return self.short(416)
        begin = start if partial else 0
        end = 0 if partial and wanted.endswith("-0") else len(data) - 1
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header("Content-Range", f"bytes {begin}-{end}/{total}")
        self.send_header("ETag", version)
        self.send_header("Content-Length", str(end + 1 - begin if partial else total))
        self.end_headers()
        if body:
            web.before_body(path)
            self.write(path, data[begin : end + 1])
        return None

    def write(self, path: str, data: bytes) -> None:
        cut = self.web.breaks[path].pop(0) if self.web.breaks.get(path) else None
        for place in range(0, len(data[:cut]), 1 << 16):
            time.sleep(self.web.slow)
            self.wfile.write(data[:cut][place : place + (1 << 16)])
        if cut is not None or len(data) < self.web.says.get(path, 0):
            self.close_connection = True
            self.wfile.flush()
            self.connection.close()

    def content(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def short(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def serving(folder: Path):
    """Serve a folder on this machine."""
    web = WebServer(folder)
    web.begin()
    try:
        yield web
    finally:
        web.end()
