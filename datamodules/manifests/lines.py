"""Lines of text files: plain or gzipped, in UTF-8, or in UTF-16 as spreadsheets and PowerShell write it.

Every error names the file and the line, numbered from 1.
"""

from __future__ import annotations

import codecs
import errno
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from slap.core.files import open_plain
from slap.datamodules.manifests.clip import ManifestError

LONGEST_LINE = 1 << 26
"""Largest number of bytes of a line, and of characters of a CSV cell, where Python's own limit is 2^17. A few kB of
gzip can hold a line that would fill the memory."""

MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""The first bytes of a text in another encoding than UTF-8, the longer ones first."""

DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error)
"""The errors of a gzip file that is damaged."""

Record = dict[str, Any]


def json_records(path: Path) -> Iterator[tuple[int, Record]]:
    """Yield the objects of a file with one JSON object per line, each with the number of its line.

    Raises:
        ManifestError: a line holds no JSON object, or one with a key that it has twice.
    """
    for number, raw in text_bytes(path):
        if raw.strip():
            yield number, record_of(raw, path, number, errors="surrogateescape", unique=True)


def record_of(raw: bytes, path: Path, number: int, errors: str = "strict", unique: bool = False) -> Record:
    """Return the JSON object on a line, without values that are null.

    Args:
        raw: the line.
        path: path of the file, for messages.
        number: number of the line, for messages.
        errors: handling of bytes that are not UTF-8, as of `bytes.decode`.
        unique: refuse objects with a key that they have twice, of which JSON readers keep the last.

    Raises:
        ManifestError: the line holds no JSON object, or is not UTF-8.
    """
    text = _decoded(raw, path, number, errors)
    try:
        record = json.loads(text, object_pairs_hook=_unique if unique else None)
    except (ValueError, RecursionError) as error:  # also of a number of more digits than Python reads
        raise ManifestError(f"{path}, line {number}: this is not JSON: {error}") from error
    except _RepeatedKeyError as error:
        raise ManifestError(f"{path}, line {number}: an object has the key `{error}` twice; give it once") from error
    if not isinstance(record, dict):
        raise ManifestError(f"{path}, line {number}: each line must be a JSON object, this is {text.strip()[:80]}")
    return {name: value for name, value in record.items() if value is not None}


class _RepeatedKeyError(Exception):
    """A key that an object has twice."""


def _unique(pairs: list[tuple[str, Any]]) -> Record:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _RepeatedKeyError(next(name for name in names if names.count(name) > 1))
    return found


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file, numbered from 1, as `text_bytes`; bytes that are not UTF-8 become `NO_TEXT`."""
    for number, raw in text_bytes(path):
        yield number, _decoded(raw, path, number, errors="surrogateescape")


def text_bytes(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a text file in UTF-8, as `raw_lines`, also of a file in UTF-16 or UTF-32 that says so."""
    with opened(path) as file:
        try:
            start = file.read(4)
        except DAMAGED:
            start = b""  # `raw_lines` reports it
        encoding = next((name for mark, name in MARKS.items() if start.startswith(mark)), None)
        if encoding is not None:
            file.seek(0)
            with io.TextIOWrapper(file, encoding, newline="\n") as text:
                yield from _recoded(path, text, encoding)
            return
    yield from raw_lines(path)


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file, plain or gzipped, numbered from 1, with their ends."""
    number = 0
    with opened(path) as file:
        try:
            for number, raw in enumerate(iter(partial(file.readline, LONGEST_LINE + 1), b""), start=1):
                if len(raw) > LONGEST_LINE:
                    raise ManifestError(f"{path}, line {number} has more than {LONGEST_LINE} bytes, which are refused")
                yield number, raw
        except DAMAGED as error:
            raise ManifestError(f"{path}, after line {number}: the gzip file is damaged: {error}") from error


def opened(path: Path) -> IO[bytes]:
    """Open a file, plain or gzipped, to read its bytes.

    Raises:
        ManifestError: it is no plain file, but a pipe, a device or a folder.
        OSError: it cannot be read.
    """
    try:
        file = open_plain(path)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise ManifestError(f"{path} is no plain file; manifests are files") from error
    if path.suffix.lower() != ".gz":
        return file
    packed = gzip.GzipFile(fileobj=file, mode="rb")
    packed.myfileobj = file  # type: ignore[assignment]  # so that it is closed with it
    return cast("IO[bytes]", packed)


def _recoded(path: Path, text: IO[str], encoding: str) -> Iterator[tuple[int, bytes]]:
    number = 0
    try:
        for number, line in enumerate(iter(partial(text.readline, LONGEST_LINE + 1), ""), start=1):
            if len(line) > LONGEST_LINE:
                raise ManifestError(f"{path}, line {number} has more than {LONGEST_LINE} characters, which are refused")
            yield number, line.encode("utf-8", "surrogatepass")
    except UnicodeError as error:
        raise ManifestError(f"{path}, after line {number}: this is not the {encoding} text that it says") from error
    except DAMAGED as error:
        raise ManifestError(f"{path}, after line {number}: the gzip file is damaged: {error}") from error


def _decoded(raw: bytes, path: Path, number: int, errors: str = "strict") -> str:
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8", errors)
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}, line {number}: manifests are UTF-8 text, this line is not: {error}") from error
