"""Audio files of a folder, by the suffixes of their names, and the marks by which a change shows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

READ = (
    *("wav", "flac", "mp3", "ogg", "oga", "opus", "m4a", "mp4"),
    *("wave", "aif", "aiff", "aifc", "au", "snd", "caf", "w64", "rf64"),
)
"""Suffixes, in lower case and without the dot, of the files that are read; of one recording in several, the first."""

EXPECTED = ("aac", "wma", "webm", "mka", "amr", "ape", "wv")
"""Suffixes of audio that is not read; such files are listed as unreadable, not passed over."""

SUFFIXES = (*READ, *EXPECTED)


class Found(NamedTuple):
    """A file of the folder.

    Attributes:
        path: below the folder, with slashes.
        size: bytes.
        mtime_ns: time of its last change, ns.
    """

    path: str
    size: int
    mtime_ns: int

    @property
    def name(self) -> str:
        """Path as it can be shown and kept: bytes that are not UTF-8 are escaped."""
        return os.fsencode(self.path).decode("utf-8", "backslashreplace")


def is_audio(name: str, suffixes: Collection[str] = SUFFIXES) -> bool:
    """Tell if the name of a file has one of some suffixes; hidden files are no audio.

    Example:
        >>> is_audio("a.WAV"), is_audio("a.txt"), is_audio(".wav"), is_audio("wav")
        (True, False, False, False)
    """
    stem, _, suffix = name.rpartition(".")
    return bool(stem) and not name.startswith(".") and suffix.lower() in suffixes


def scan(folder: Path) -> Iterator[Found]:
    """Yield the audio files below a folder, by name; hidden files and folders, and links to folders, are passed over.

    Raises:
        NotADirectoryError: there is no such folder.
        PermissionError: a folder may not be read; otherwise its files would count as removed.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"there is no folder {folder}")
    for directory, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not is_audio(name):
                continue
            path = Path(directory, name)
            try:
                status = path.stat()
            except FileNotFoundError:  # removed since, or a link to nothing
                continue
            yield Found(path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns)


def content_hash(path: Path) -> str:
    """Return 32 hexadecimal digits of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def file_id(path: str) -> str:
    """Return 16 hexadecimal digits that name an indexed file without saying where it is."""
    return hashlib.blake2b(path.encode(), digest_size=8).hexdigest()


def _refuse(error: OSError) -> None:
    raise error
