"""Files on web servers: sizes and versions by HEAD, content by ranges, folders by their index pages.

A redirection is followed if it stays below the remote roots, and refused otherwise. Proxies are those of the
environment (`https_proxy`, `no_proxy`), and passwords those of `~/.netrc`, or of the file that NETRC names.
"""

from __future__ import annotations

import netrc
import os
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, NameResolutionError, SSLError

from slap.core.errors import UserError
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.data_root import refuse_other_machines
from slap.datamodules.remote.address import address, joined
from slap.datamodules.remote.errors import RemoteChangedError, RemoteError, RemoteMissingError, TransientError
from slap.datamodules.remote.settings import timeout
from slap.datamodules.remote.store import CHUNK, RemoteFile, Store

REDIRECTIONS = 5
"""Redirections that are followed, one after the other."""

LARGEST_PAGE = 64 * CHUNK
"""Bytes of an index page; a line of one has about 200."""

_NOT_FOUND = (404, 410)
_LATER = (408, 425, 429, 500, 502, 503, 504)
_HEAD_REFUSED = (403, 405, 501)
_MOVED = (301, 302, 303, 307, 308)


class WebServer(Store):
    """A web server."""

    def look(self, url: str, roots: tuple[str, ...]) -> RemoteFile:
        """Return size and version of a file, see `Store.look`."""
        answer = _ask("HEAD", url, roots)
        if answer.status in _HEAD_REFUSED:  # some sign addresses for GET alone
            answer = _ask("GET", url, roots, {"Range": "bytes=0-0"})
        with closing(answer):
            _check(answer, url)
            size = _total(answer)
            if size is None:
                raise RemoteError(f"{url}: the server does not say how long it is (Content-Length), so it is not read")
            return RemoteFile(url, size, _version(answer), roots)

    def read(self, file: RemoteFile, start: int) -> tuple[int, Iterator[bytes]]:
        """Read a file from a byte on, see `Store.read`."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        if start and file.version.startswith('"'):  # a strong ETag: another file is sent as a whole
            headers["If-Range"] = file.version
        answer = _ask("GET", file.url, file.roots, headers)
        try:
            if answer.status == 416:
                raise RemoteChangedError(f"{file.url} has less than its {file.size} bytes by now")
            _check(answer, file.url)
            total, version = _total(answer), _version(answer)
            if (total is not None and total != file.size) or (version and file.version and version != file.version):
                raise RemoteChangedError(
                    f"{file.url} is not what the server said before: {file.size} bytes, version {file.version or '-'}; "
                    f"now {total} bytes, version {version or '-'}"
                )
        except BaseException:
            answer.close()
            raise
        return (start if answer.status == 206 else 0), _pieces(answer, file.url)

    def files(self, folder: str, roots: tuple[str, ...]) -> list[RemoteFile]:
        """Return the files that the index page of a folder links to, without size and version: ask for each."""
        with closing(_ask("GET", f"{folder}/", roots)) as answer:
            _check(answer, folder)
            page = b"".join(_pieces(answer, folder, LARGEST_PAGE)).decode("utf-8", "replace")
        return [RemoteFile(joined(folder, name), 0, "", roots) for name in _links(page)]


def _ask(
    method: str, url: str, roots: tuple[str, ...], headers: dict[str, str] | None = None
) -> urllib3.BaseHTTPResponse:
    """Return the answer of a server, after redirections that are allowed.

    Raises:
        RemoteError: it redirects to where nothing may be read, or its certificate is not valid.
        TransientError: there was none.
    """
    target = url
    for _ in range(REDIRECTIONS + 1):
        answer = _answer(method, target, headers or {})
        location = answer.headers.get("Location")
        if answer.status not in _MOVED or not location:
            return answer
        answer.close()
        try:
            target = address(urljoin(target, location)) + ("/" if urlsplit(location).path.endswith("/") else "")
            refuse_other_machines(target, roots, f"{url} redirects elsewhere")
        except UserError as error:
            raise RemoteError(str(error)) from error
    raise RemoteError(f"{url}: more than {REDIRECTIONS} redirections")


def _answer(method: str, url: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
    parts = urlsplit(url)
    limits = urllib3.Timeout(connect=min(timeout(), 10.0), read=timeout())
    try:
        return _pool(os.getpid(), _proxy(parts.scheme, parts.netloc)).request(
            method,
            url,
            headers={"Accept-Encoding": "identity", "User-Agent": "slap-audio", **_password(parts.hostname), **headers},
            redirect=False,
            retries=False,
            preload_content=False,
            timeout=limits,
        )
    except SSLError as error:
        raise RemoteError(f"{url}: no safe connection: {error}") from error
    except NameResolutionError as error:
        raise TransientError(f"the name of the host {parts.hostname} is not known (DNS): check the address") from error
    except HTTPError as error:
        raise TransientError(f"{type(error).__name__}: {error}") from error


@cache
def _pool(process: int, proxy: str | None) -> urllib3.PoolManager:  # noqa: ARG001  # a forked process needs its own
    return urllib3.ProxyManager(proxy, maxsize=16) if proxy else urllib3.PoolManager(maxsize=16)


def _proxy(scheme: str, netloc: str) -> str | None:
    proxy = getproxies().get(scheme)
    return None if proxy is None or proxy_bypass(netloc) else proxy


def _password(host: str | None) -> dict[str, str]:
    """Return the header with the user and password that the user's netrc has for a host."""
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        known = netrc.netrc(str(path)).hosts.get(host or "") if path.is_file() else None
    except (netrc.NetrcParseError, OSError) as error:
        raise RemoteError(f"{path} cannot be read: {type(error).__name__}") from error
    return urllib3.make_headers(basic_auth=f"{known[0]}:{known[2]}") if known else {}


def _check(answer: urllib3.BaseHTTPResponse, url: str) -> None:
    """Refuse an answer without content.

    Raises:
        RemoteError: there is no such file, or it may not be read.
        TransientError: the server may do better later.
    """
    status = answer.status
    if status in (200, 206):
        return
    answer.close()
    said = f"HTTP status {status} {answer.reason or ''}".strip()
    if status in _NOT_FOUND:
        raise RemoteMissingError(f"{url}: there is no such file on the server ({said})")
    if status in (401, 403, 407):
        raise RemoteError(
            f"{url} may not be read ({said}); put user and password of this host into ~/.netrc, or the file that the "
            "environment variable NETRC names"
        )
    if status in _LATER:
        raise TransientError(said)
    raise RemoteError(f"{url} cannot be read ({said})")


def _total(answer: urllib3.BaseHTTPResponse) -> int | None:
    """Return the bytes of a whole file, None if the answer does not say."""
    text = answer.headers.get("Content-Length")
    if answer.status == 206:
        text = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(text) if text is not None and text.isdecimal() else None


def _version(answer: urllib3.BaseHTTPResponse) -> str:
    return answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""


def _pieces(answer: urllib3.BaseHTTPResponse, url: str, most: int | None = None) -> Iterator[bytes]:
    """Yield the content of an answer, which is closed then."""
    got = 0
    with closing(answer):
        try:
            while piece := answer.read(CHUNK, decode_content=False):
                got += len(piece)
                if most is not None and got > most:
                    raise ManifestError(f"{url}: an index of more than {most} bytes is refused")
                yield piece
        except HTTPError as error:
            raise TransientError(f"the connection broke ({type(error).__name__}: {error})") from error


def _links(page: str) -> list[str]:
    """Return the names that a page links to and that lie in its own folder."""
    names: dict[str, None] = {}

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            target = unquote(dict(attrs).get("href") or "") if tag == "a" else ""
            name = target.removeprefix("./")
            if name and not set(name) & set("/\\?#:") and name not in (".", ".."):
                names[name] = None

    Links().feed(page)
    return list(names)
