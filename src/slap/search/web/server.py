"""The local web server: loopback only, no other site may ask it, and nothing is served by path."""

from __future__ import annotations

import ipaddress
import json
import socket
import sys
from collections.abc import Mapping
from contextlib import closing, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from slap.search.web.app import Answer, App, RefusedError
from slap.search.web.media import Media, byte_range

NAMES = ("localhost", "127.0.0.1", "::1")
"""Names by which a browser may have come here. Another one is that of a site which was made to point here."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
"""Sent with everything."""


class Server(ThreadingHTTPServer):
    """Serves an app on this machine only.

    Args:
        app: answers.
        host: a loopback address.
        port: 0 for any that is free.

    Raises:
        ValueError: an address that others can reach.
        OSError: the port is taken.
    """

    daemon_threads = False  # a thread that Python ends while it computes would abort the process

    def __init__(self, app: App, host: str = "127.0.0.1", port: int = 0) -> None:
        self.app = app
        self._connections: set[Any] = set()
        address = _loopback(host, port)
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            super().__init__((address, port), Handler)
        except OSError as error:
            raise OSError(f"port {port} cannot be used ({error.strerror}); name another with --port") from error

    @property
    def url(self) -> str:
        """Where the page is."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}/" if ":" in str(host) else f"http://{host!s}:{port}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer on a thread of its own."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Stop: end the connections, and wait for what is being computed."""
        for connection in list(self._connections):
            with suppress(OSError):  # closed in the meantime
                connection.shutdown(socket.SHUT_RD)
        super().server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of browsers that go away in the middle of an answer, as they do when one seeks in a sound."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _loopback(host: str, port: int) -> str:
    address = "127.0.0.1" if host == "localhost" else host
    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(
            f"--host is {host}, which others can reach; the page has no password and is for this machine only, e.g. "
            f"127.0.0.1. From another machine: ssh -L {port}:127.0.0.1:{port} THIS-MACHINE"
        )
    return address


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that a silent connection is kept

    def do_GET(self) -> None:
        """Answer, or say why not."""
        try:
            path, parameters = self._asked()
            answer = self.server.app.answer(path, parameters)
        except RefusedError as refused:
            self._send(refused.status, _trouble(str(refused)))
        except Exception:
            self._send(500, _trouble("this did not work; the terminal of `slap serve` says why"))
            raise
        else:
            self._send(200, answer)

    do_HEAD = do_GET  # noqa: N815

    def _asked(self) -> tuple[str, dict[str, str]]:
        """The path and the parameters of a request.

        Refuses what another site asks, under its own name (DNS rebinding) or from its page.
        """
        try:
            url = urlsplit(self.path)
            name = urlsplit(f"//{self.headers.get('Host', '')}").hostname
            parameters = dict(parse_qsl(url.query))
        except ValueError as error:
            raise RefusedError(400, "this request cannot be read") from error
        if name not in NAMES:
            raise RefusedError(HTTPStatus.MISDIRECTED_REQUEST, "open this page as http://localhost or http://127.0.0.1")
        site = self.headers.get("Sec-Fetch-Site", "none")
        followed_link = self.path == "/" and self.headers.get("Sec-Fetch-Mode") == "navigate"
        if site not in ("none", "same-origin") and not followed_link:
            raise RefusedError(HTTPStatus.FORBIDDEN, "another site may not ask this")
        return url.path, parameters

    def _send(self, status: int, answer: Answer) -> None:
        if isinstance(answer.body, bytes):
            self._head(status, answer, len(answer.body), {})
            if self.command != "HEAD":
                self.wfile.write(answer.body)
            return
        with closing(answer.body) as media:
            self._send_media(status, answer, media)

    def _send_media(self, status: int, answer: Answer, media: Media) -> None:
        try:
            part = byte_range(self.headers.get("Range"), media.size)
        except IndexError:
            self._head(416, Answer(b"", "text/plain"), 0, {"Content-Range": f"bytes */{media.size}"})
            return
        start, stop = part or (0, media.size)
        ranges = {"Accept-Ranges": "bytes"}
        if part is not None:
            ranges["Content-Range"] = f"bytes {start}-{stop - 1}/{media.size}"
        self._head(status if part is None else 206, answer, stop - start, ranges)
        if self.command != "HEAD":
            for chunk in media.read(start, stop):
                self.wfile.write(chunk)

    def _head(self, status: int, answer: Answer, size: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {
            **HEADERS,
            "Content-Type": answer.mime,
            "Content-Length": str(size),
            "Cache-Control": "no-store",
            **answer.headers,
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()

    def version_string(self) -> str:
        """The server's name."""
        return "slap"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: queries are nobody's business."""


def _trouble(message: str) -> Answer:
    return Answer(json.dumps({"error": message}).encode(), "application/json")
