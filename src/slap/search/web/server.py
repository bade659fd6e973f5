"""The local web server: loopback only, no other site may ask it, and nothing is served by path."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slap.core.errors import UserError

NAMES = ("localhost", "127.0.0.1", "::1")
"""Names by which a browser may have come here. Another one is that of a site which was made to point here."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
"""Sent with every answer, unless it has its own."""

PATIENCE = 60
"""Seconds that an idle connection is kept, and that answers may still take when the server stops."""


class Guard:
    """Refuses the requests of other sites, and has browsers keep other sites out.

    Args:
        app: answers the other requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = _refusal(Request(scope)) if scope["type"] == "http" else None
        answer = self.app if refusal is None else JSONResponse({"error": refusal[1]}, refusal[0])
        await answer(scope, receive, send_guarded)


def _refusal(request: Request) -> tuple[int, str] | None:
    """Return status and message for a request under another site's name (DNS rebinding), or from its page."""
    try:
        name = urlsplit(f"//{request.headers.get('Host', '')}").hostname
    except ValueError:
        return 400, "this request cannot be read"
    if name not in NAMES:
        return 421, "open this page as http://localhost or http://127.0.0.1"
    site = request.headers.get("Sec-Fetch-Site", "none")
    followed_link = request.scope["path"] == "/" and request.headers.get("Sec-Fetch-Mode") == "navigate"
    if site not in ("none", "same-origin") and not followed_link:
        return 403, "another site may not ask this"
    return None


class Server:
    """Serves an application on this machine only; use it in a `with` statement.

    Args:
        app: the application.
        host: a loopback address.
        port: 0 for any that is free.

    Raises:
        ValueError: an address that others can reach.
        OSError: the port is taken.
    """

    def __init__(self, app: ASGIApp, host: str = "127.0.0.1", port: int = 0) -> None:
        address = _loopback(host, port)
        self.socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self.socket.bind((address, port))
            self.socket.listen()
        except OSError as error:
            self.socket.close()
            raise OSError(f"port {port} cannot be used ({error.strerror}); name another with --port") from error
        self.address: tuple[str, int] = self.socket.getsockname()[:2]
        config = uvicorn.Config(
            Guard(app),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # queries are nobody's business, and the application prints its own errors
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=PATIENCE,
            timeout_graceful_shutdown=PATIENCE,
        )
        self._server = uvicorn.Server(config)

    @property
    def url(self) -> str:
        """The address of the page."""
        host, port = self.address
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    def run(self) -> None:
        """Serve until `stop` or Ctrl-C, and then wait for the answers that are being computed.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
        """
        self._server.run(sockets=[self.socket])

    def stop(self) -> None:
        """End `run`, from another thread."""
        self._server.should_exit = True

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: Any) -> None:
        self.socket.close()


def _loopback(host: str, port: int) -> str:
    address = "127.0.0.1" if host == "localhost" else host
    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise UserError(
            f"--host is {host}, which others can reach; the page has no password and is for this machine only, e.g. "
            f"127.0.0.1. From another machine: ssh -L {port}:127.0.0.1:{port} THIS-MACHINE"
        )
    return address
