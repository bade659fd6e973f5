"""Which files of a folder are audio, and what tells whether one has changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

READ = ("wav", "wave", "flac", "ogg", "oga", "opus", "mp3", "aif", "aiff", "aifc", "au", "snd", "caf", "w64", "rf64")
EXPECTED = ("m4a", "mp4", "aac", "wma", "webm", "mka", "amr", "ape", "wv")
SUFFIXES = frozenset([*READ, *EXPECTED])
"""Endings of names, in lower case. Those that no library here reads are listed as unreadable, not passed over."""


class Found(NamedTuple):
    """A file of the folder.

    Attributes:
        path: below the folder, with slashes.
        size: bytes.
        mtime_ns: when it was changed last, ns.
    """

    path: str
    size: int
    mtime_ns: int

    @property
    def name(self) -> str:
        """The path as it can be shown and kept: bytes that are not UTF-8 are escaped."""
        return os.fsencode(self.path).decode("utf-8", "backslashreplace")


def scan(folder: Path) -> Iterator[Found]:
    """The audio files below a folder, by name; hidden files and folders, and links to folders, are passed over.

    Raises:
        NotADirectoryError: there is no such folder.
        PermissionError: a folder may not be read; otherwise its files would count as removed.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"there is no folder {folder}")
    for directory, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.startswith(".") or name.rpartition(".")[2].lower() not in SUFFIXES:
                continue
            path = Path(directory, name)
            try:
                status = path.stat()
            except FileNotFoundError:  # removed since, or a link to nothing
                continue
            yield Found(path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns)


def content_hash(path: Path) -> str:
    """32 hexadecimal digits of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def file_id(path: str) -> str:
    """16 hexadecimal digits that name an indexed file without saying where it is."""
    return hashlib.blake2b(path.encode(), digest_size=8).hexdigest()


def _refuse(error: OSError) -> None:
    raise error
