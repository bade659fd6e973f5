"""The search page and what it asks: an application of Starlette, without sockets, and without paths of files.

Files are named by ids of the index alone, and given only while they are what was indexed; messages name them by their
path below the indexed folder. All times are on the clock of a player.
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import BinaryIO

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from slap.audio.reader import AudioError, AudioFile
from slap.core.errors import UserError, printable
from slap.inference.spectrogram import segment_png
from slap.search.compose import CancelledError
from slap.search.hits import Hit, SearchOptions
from slap.search.indexed_file import ChangedFileError, open_indexed
from slap.search.query import Index, StaleIndexError
from slap.search.store import WindowRow
from slap.search.web.locate import locate
from slap.search.web.media import media, media_response

LONGEST_QUERY = 500
"""Characters of a query, at most."""

MOST, LAST = 100, 800
"""Files that one search may ask for, and the most files that may have been shown before."""

BROKEN = "this did not work; the terminal of `slap serve` says why"

_STYLE, _SCRIPT, _PAGE = (
    (files("slap.search.web") / "page" / name).read_text(encoding="utf-8")
    for name in ("style.css", "script.js", "index.html")
)

DOCUMENT = _PAGE.replace("/* style.css */", _STYLE).replace("/* script.js */", _SCRIPT)
"""The page: one document with everything inline."""


def _hash(source: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() + "'"


POLICY = "; ".join(
    [
        "default-src 'none'",
        f"style-src {_hash(_STYLE)}",
        f"script-src {_hash(_SCRIPT)}",
        "img-src 'self' data:",
        "media-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
"""Only the inline style and script run, by their hashes; nothing comes from elsewhere."""


def search_app(index: Index) -> Starlette:
    """Make the application that answers requests about an index."""
    pages = _Pages(index)
    routes = {
        "/": pages.page,
        "/api/index": pages.about,
        "/api/search": pages.search,
        "/api/like": pages.like,
        "/api/span": pages.span,
        "/audio": pages.audio,
        "/picture": pages.picture,
    }
    app = Starlette(
        routes=[Route(path, endpoint) for path, endpoint in routes.items()],
        exception_handlers={HTTPException: _refused, StaleIndexError: _stale, Exception: _broken},
    )
    app.router.redirect_slashes = False
    return app


class _Pages:
    """Answers to GET requests about an index; each runs in a thread of its own."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._opening = threading.Lock()
        self._files: tuple[object, int] = (None, 0)  # counted at this version of the index
        self._model = threading.Lock()  # one query at a time has the processor for itself

    @property
    def index(self) -> Index:
        """The index, opened again if it was rebuilt or moved; a request takes it once and stays with it."""
        with self._opening:
            if not self._index.current:
                self._index = self._index.reopened()
            return self._index

    def page(self, request: Request) -> Response:
        """Give the page."""
        del request
        return Response(DOCUMENT, media_type="text/html", headers={"Content-Security-Policy": POLICY})

    def about(self, request: Request) -> Response:
        """Describe the index."""
        del request
        index = self.index
        store, metadata = index.store, index.metadata
        version = (metadata, store.version)
        if self._files[0] != version:
            self._files = (version, len(store.files()))
        return JSONResponse(
            {
                "folder": Path(metadata.folder).name,
                "files": self._files[1],
                "windows": len(store),
                "model": Path(metadata.model).name,
                "window": metadata.window,
                "probabilities": index.calibration is not None,
            }
        )

    def search(self, request: Request) -> Response:
        """Find sounds by a text, without others."""
        text, without, threshold = _text(request), _texts(request, "without"), request.query_params.get("threshold")
        index, page = self.index, _page(request)
        with self._model:
            if without:
                return _hits(_composed(lambda: index.composed((), [text], without, **page)), page)
            (hits,) = index.text([text], **page)
            return _hits(hits, page, None if threshold is None else _number(request, "threshold", 0, 0, 1))

    def like(self, request: Request) -> Response:
        """Find sounds like a window, with a text and without others."""
        index = self.index
        row, text, without = _window(index, request), _texts(request, "q"), _texts(request, "without")
        page = _page(request)
        with self._model:
            return _hits(_composed(lambda: index.like(row.file, row.start, text, without, **page)), page)

    def span(self, request: Request) -> Response:
        """Find the part of a window where a text is heard."""
        index = self.index
        row, text = _window(index, request), _text(request)
        with _open(index, row) as file, self._model:
            try:
                with AudioFile(file, row.path) as sound:
                    return JSONResponse(asdict(locate(index.model, sound, text, row.start, row.end)))
            except UserError as error:
                raise HTTPException(415, f"this file cannot be read: {error}") from error

    def audio(self, request: Request) -> Response:
        """Give a file, or a part of it, as a browser plays it."""
        index = self.index
        row = _window(index, request)
        file = _open(index, row)
        try:
            found = media(file, row.path, row.duration)
        except UserError as error:
            file.close()
            raise HTTPException(415, f"this file cannot be played: {error}") from error
        return media_response(found, request)

    def picture(self, request: Request) -> Response:
        """Draw the spectrogram of a file, or of a part of it."""
        index = self.index
        row = _window(index, request)
        start = _number(request, "start", 0.0, 0, row.duration)
        end = _number(request, "end", row.duration, 0, row.duration)
        with _open(index, row) as file:
            try:
                with AudioFile(file, row.path) as sound:
                    body = segment_png(sound, start, end)
            except UserError as error:
                raise HTTPException(415, f"there is no picture of this: {error}") from error
        return Response(body, media_type="image/png", headers={"Cache-Control": "private, max-age=600"})


def _window(index: Index, request: Request) -> WindowRow:
    """Find the window of the index that is asked for, by the id of its file and its start."""
    file = request.query_params.get("id", "")
    rows = index.store.rows_of(file) if re.fullmatch("[0-9a-f]{16}", file) else []
    if not rows:
        raise HTTPException(404, "the index has no such file")
    start = _number(request, "at", rows[0].start, 0, rows[0].duration)
    return min(rows, key=lambda row: abs(row.start - start))


def _open(index: Index, row: WindowRow) -> BinaryIO:
    """Open the file of a row, if it still is what was indexed."""
    try:
        return open_indexed(Path(index.metadata.folder), row)
    except AudioError as error:
        raise HTTPException(410 if isinstance(error, ChangedFileError) else 404, str(error)) from error


async def _refused(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _stale(request: Request, error: Exception) -> Response:
    """Answer a search that the rebuilding of the index has overtaken."""
    del request, error
    return JSONResponse({"error": "the index was rebuilt meanwhile; search again"}, 503)


async def _broken(request: Request, error: Exception) -> Response:
    """Tell the terminal what went wrong, and the page only that something did."""
    del request
    traceback.print_exception(error, file=sys.stderr)
    return JSONResponse({"error": BROKEN}, 500)


def _hits(hits: list[Hit], page: SearchOptions, threshold: float | None = None) -> Response:
    """Answer with the hits of a page, which has one hit more than is shown if there are further ones.

    Those below the threshold are left out; `best` is the probability of the best hit, for a page without any.
    """
    most = page["top"] - 1
    shown = [hit for hit in hits[:most] if threshold is None or (hit.probability or 0.0) >= threshold]
    found = [{**asdict(hit), "path": printable(hit.path), "alike": [*map(printable, hit.alike)]} for hit in shown]
    best = hits[0].probability if hits else None
    return JSONResponse({"hits": found, "more": len(hits) > most == len(shown), "best": best})


def _composed(search: Callable[[], list[Hit]]) -> list[Hit]:
    try:
        return search()
    except CancelledError as error:
        raise HTTPException(400, str(error)) from error


def _text(request: Request) -> str:
    texts = _texts(request, "q")
    if not texts:
        raise HTTPException(400, "type what to search for")
    return texts[0]


def _texts(request: Request, name: str) -> list[str]:
    """Return the texts of a parameter, which may be there several times."""
    texts = [text for text in map(str.strip, request.query_params.getlist(name)) if text]
    length = sum(map(len, texts))
    if length > LONGEST_QUERY:
        raise HTTPException(400, f"a query may have {LONGEST_QUERY} characters, this one has {length}")
    return texts


def _page(request: Request) -> SearchOptions:
    """Return the options that find the hits of a page, and one more."""
    top, offset = int(_number(request, "top", 10, 1, MOST)), int(_number(request, "offset", 0, 0, LAST))
    return {"top": top + 1, "offset": offset}


def _number(request: Request, name: str, default: float, least: float, most: float) -> float:
    try:
        value = float(request.query_params.get(name, default))
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise HTTPException(400, f"{name} must be a number from {least:g} to {most:g}")
    return value
