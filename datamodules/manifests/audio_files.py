"""Audio files that a table names: found also where their names are spelled otherwise, and known by where they are.

macOS writes `é` as two characters (NFD), most others as one (NFC); names differ in upper and lower case where a disk
does not tell these apart; Windows separates folders by a backslash.
"""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from slap.core.errors import UserError

log = logging.getLogger(__name__)

LARGEST_FOLDER = 200_000
"""Files of a folder beyond which other spellings are not looked for: their names would take too much memory."""


class AudioFiles:
    """The audio files that one table names.

    Args:
        folder: folder from which relative paths start.
        root: folder from which the names of files below it start; None is the root of the file system.
    """

    def __init__(self, folder: Path, root: Path | None = None) -> None:
        self.folder = str(folder)
        self._root = "" if root is None else os.path.realpath(root).rstrip(os.sep) + os.sep
        self.respelled: dict[str, str] = {}
        self._found: dict[str, str] = {}
        self._real: dict[str, str] = {}
        self._claims: dict[str, str] = {}
        self._spellings = Spellings()

    def find(self, written: str) -> str:
        """Return the path of a file, also if exactly one file has its name but for the spelling; else as written.

        Raises:
            UserError: that one file is named too, by its own name.
        """
        if written not in self._found:
            self._found[written] = self._claim(written)
        return self._found[written]

    def place(self, path: str) -> str:
        """Return the absolute path of a file with all links resolved."""
        head, tail = os.path.split(path)
        if tail in ("", os.curdir, os.pardir):
            return os.path.realpath(path)
        if head not in self._real:
            self._real[head] = os.path.realpath(head)
        real = os.path.join(self._real[head], tail)  # noqa: PTH118  # Path takes thrice the time
        return os.path.realpath(real) if os.path.islink(real) else real  # noqa: PTH114

    def name(self, path: str) -> str:
        """Return the name of a file: its place, without the root if it lies below that."""
        return self.place(path).removeprefix(self._root)

    def log_respelled(self, table: Path) -> None:
        """Log the number of files that were found under another spelling, with the first of them."""
        for written, found in list(self.respelled.items())[:1]:
            log.warning(
                "%s: %d files are spelled otherwise on the disk and read all the same; the first is %r for %r",
                table,
                len(self.respelled),
                Path(found).name,
                written,
            )

    def _claim(self, written: str) -> str:
        path = str(Path(self.folder, written))
        exists = os.path.exists(path)  # noqa: PTH110
        others = [] if exists else self._spellings.of(path)
        if len(others) > 1:
            log.warning("there is no %s, but %s; spell it as the one that is meant", path, " and ".join(others))
        if not exists and len(others) != 1:
            return path
        if others:
            self.respelled[written] = path = others[0]
        first = self._claims.setdefault(self.place(path), written)
        if {first, written} & self.respelled.keys() and not _same_text(_file_name(first), _file_name(written)):
            raise UserError(
                f"there is the file {Path(path).name}, which the table names both as {first!r} and as {written!r}; "
                "if these are two files, one is missing; if they are one, spell both alike"
            )
        return path


class Spellings:
    """Search for files whose names are spelled otherwise; the names in the last few folders are kept."""

    def __init__(self) -> None:
        self._names_in = lru_cache(maxsize=16)(_names_in)

    def of(self, path: str) -> list[str]:
        """Return the files whose paths are the same text, or if none is, the same but for upper and lower case.

        Args:
            path: path at which there is no file.
        """
        if "\0" in path or os.path.lexists(path):  # a link to nothing
            return []
        found = self._paths(path)
        return found or (self._paths(path.replace("\\", os.sep)) if "\\" in path else [])

    def _paths(self, path: str) -> list[str]:
        if os.path.lexists(path):
            return [path]
        folder, name = os.path.split(path)
        if not name:
            return []
        found: list[str] = []
        for parent in self._paths(folder or os.curdir):
            listed = self._names_in(parent).get(_folded(name), ())
            same = [other for other in listed if _same_text(other, name)]
            found += [os.path.join(folder and parent, other) for other in same or listed]  # noqa: PTH118
        return found


def _names_in(folder: str) -> dict[str, list[str]]:
    """Return the names in a folder, by themselves without case; none if there are too many, or it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return _by_folded(entry.name for entry in entries)
    except OSError:
        return {}


def _by_folded(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for number, name in enumerate(names):
        if number == LARGEST_FOLDER:
            return {}
        found.setdefault(_folded(name), []).append(name)
    return found


def _file_name(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _same_text(first: str, second: str) -> bool:
    return unicodedata.normalize("NFC", first) == unicodedata.normalize("NFC", second)
