"""What the local web page can ask, as functions of paths and parameters: no sockets here, and no paths of files.

Files are named by ids of the index alone, and given only while they are what was indexed.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

import soundfile

from slap.audio.reader import AudioError
from slap.inference.spectrogram import spectrogram
from slap.search.query import Hit, Index
from slap.search.store import WindowRow
from slap.search.web.document import DOCUMENT, POLICY
from slap.search.web.localize import locate
from slap.search.web.media import Media, media

LONGEST_QUERY = 500
"""Characters."""

MOST = 100
"""Files that one search may ask for."""


class RefusedError(Exception):
    """A request that gets no answer.

    Args:
        status: of HTTP.
        message: for the person before the page.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """What is sent back.

    Attributes:
        body: bytes, or media that are sent in parts.
        mime: of the body.
        headers: further ones.
    """

    body: bytes | Media
    mime: str
    headers: Mapping[str, str] = field(default_factory=dict)


class App:
    """Answers requests about one index.

    Args:
        index: the index.
    """

    def __init__(self, index: Index) -> None:
        self.index = index
        self._files = (-1, 0)  # counted at this version of the index
        self._model = threading.Lock()  # one query at a time has the processor for itself
        self._routes = {
            "/": self._page,
            "/api/index": self._about,
            "/api/search": self._search,
            "/api/like": self._like,
            "/api/span": self._span,
            "/audio": self._audio,
            "/picture": self._picture,
        }

    def answer(self, path: str, parameters: Mapping[str, str]) -> Answer:
        """The answer to a GET request.

        Raises:
            RefusedError: there is none.
        """
        route = self._routes.get(path)
        if route is None:
            raise RefusedError(404, "there is nothing here")
        return route(parameters)

    def _page(self, parameters: Mapping[str, str]) -> Answer:
        del parameters
        return Answer(DOCUMENT, "text/html; charset=utf-8", {"Content-Security-Policy": POLICY})

    def _about(self, parameters: Mapping[str, str]) -> Answer:
        del parameters
        store, metadata = self.index.store, self.index.metadata
        version = store.version
        if self._files[0] != version:
            self._files = (version, len(store.files()))
        return _json(
            {
                "folder": Path(metadata.folder).name,
                "files": self._files[1],
                "windows": len(store),
                "model": Path(metadata.model).name,
                "window": metadata.window,
            }
        )

    def _search(self, parameters: Mapping[str, str]) -> Answer:
        text = _text(parameters)
        with self._model:
            (hits,) = self.index.text([text], int(_number(parameters, "top", 10, 1, MOST)))
        return _hits(hits)

    def _like(self, parameters: Mapping[str, str]) -> Answer:
        row = self._window(parameters)
        top = int(_number(parameters, "top", 10, 1, MOST))
        return _hits(self.index.like(row.file, row.start, top))

    def _span(self, parameters: Mapping[str, str]) -> Answer:
        """Where in a window the query is heard."""
        row, text = self._window(parameters), _text(parameters)
        with self._open(row) as file, self._model:
            try:
                return _json(asdict(locate(self.index.model, file, text, row.start, row.end)))
            except (soundfile.LibsndfileError, AudioError) as error:
                raise RefusedError(415, f"this file cannot be read: {error}") from error

    def _audio(self, parameters: Mapping[str, str]) -> Answer:
        file = self._open(self._window(parameters))
        try:
            found = media(file)
        except (soundfile.LibsndfileError, ValueError) as error:
            file.close()
            raise RefusedError(415, f"this file cannot be played: {error}") from error
        return Answer(found, found.mime)

    def _picture(self, parameters: Mapping[str, str]) -> Answer:
        row = self._window(parameters)
        start = _number(parameters, "start", 0.0, 0, row.duration)
        end = _number(parameters, "end", row.duration, 0, row.duration)
        with self._open(row) as file:
            try:
                return Answer(spectrogram(file, start, end), "image/png", {"Cache-Control": "private, max-age=600"})
            except (soundfile.LibsndfileError, ValueError) as error:
                raise RefusedError(415, f"there is no picture of this: {error}") from error

    # -- files --------------------------------------------------------------------------------------------------------

    def _window(self, parameters: Mapping[str, str]) -> WindowRow:
        """The window of the index that is asked for, by the id of its file and its start."""
        file = parameters.get("id", "")
        rows = self.index.store.rows_of(file) if re.fullmatch("[0-9a-f]{16}", file) else []
        if not rows:
            raise RefusedError(404, "the index has no such file")
        start = _number(parameters, "at", rows[0].start, 0, rows[0].duration)
        return min(rows, key=lambda row: abs(row.start - start))

    def _open(self, row: WindowRow) -> BinaryIO:
        """The file of a row, if it still is what was indexed."""
        folder = Path(self.index.metadata.folder)
        inside = not Path(row.path).is_absolute() and ".." not in Path(row.path).parts
        try:
            file = (folder / row.path).open("rb") if inside else None
        except OSError:
            file = None
        if file is None:
            raise RefusedError(404, "this file is no longer there; run `slap index` again")
        status = os.fstat(file.fileno())
        if (status.st_size, status.st_mtime_ns) != (row.size, row.mtime_ns):
            file.close()
            raise RefusedError(410, "this file has changed since it was indexed; run `slap index` again")
        return file


def _json(value: object) -> Answer:
    return Answer(json.dumps(value).encode(), "application/json")


def _hits(hits: list[Hit]) -> Answer:
    return _json({"hits": [asdict(hit) for hit in hits]})


def _text(parameters: Mapping[str, str]) -> str:
    text = parameters.get("q", "").strip()
    if not text:
        raise RefusedError(400, "type what to search for")
    if len(text) > LONGEST_QUERY:
        raise RefusedError(400, f"a query may have {LONGEST_QUERY} characters, this one has {len(text)}")
    return text


def _number(parameters: Mapping[str, str], name: str, default: float, least: float, most: float) -> float:
    try:
        value = float(parameters.get(name, default))
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise RefusedError(400, f"{name} must be a number from {least:g} to {most:g}")
    return value
