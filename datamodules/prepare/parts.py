"""`slap prepare` in parts: each reads the headers of some of the files, and the merge reads no file again.

All parts list the corpus alike and take turns, `TURN` files at a time, so nothing has to be counted before. A part
leaves a journal of headers. The merge is the same work as in one process, with the headers from the journals, so it
makes the same files.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from slap.audio.decoders import Header
from slap.core.errors import UserError, printable
from slap.core.parts import Part
from slap.datamodules.prepare.headers import Fault, header_line, parsed, read_headers
from slap.datamodules.prepare.known_files import KnownFiles, ends_of, key_of_path

T = TypeVar("T")

TURN = 64  # files


def part_line(path: str) -> dict[str, Any]:
    """Return the journal's line of a file, with the fingerprint of its ends, which the merge looks for copies by."""
    line = header_line(path)
    return {**line, "ends": ends_of(path) if "frames" in line else 0}


def read_part(items: Iterable[T], path_of: Callable[[T], str], journal: Path, workers: int, part: Part) -> int:
    """Read the headers of one part of the items; an interrupted journal is continued.

    Args:
        items: any objects that have a file each; the same ones for all parts.
        path_of: returns the path of an item's file.
        journal: path of the journal, which stays.
        workers: number of processes that read; 0 reads in this one.
        part: the part.

    Returns:
        The number of files.
    """
    return sum(1 for _ in read_headers(part.turns(items, TURN), path_of, journal, workers, part_line))


class PartJournals:
    """The journals of all parts of a split.

    Args:
        journals: paths, in the order of the parts.
    """

    def __init__(self, journals: Sequence[Path]) -> None:
        self.journals = journals
        self._known = array("q")

    def headers(self, items: Iterable[T], path_of: Callable[[T], str]) -> Iterator[tuple[T, Header | Fault]]:
        """Yield the header of each item's file, in order, as `read_headers`.

        Raises:
            UserError: the items are not those that the parts were made of.
        """
        with ExitStack() as opened:
            files = [opened.enter_context(journal.open("rb")) for journal in self.journals]
            for number, item in enumerate(items):
                turn = number // TURN % len(files)
                raw, path = files[turn].readline(), path_of(item)
                line: dict[str, Any] = json.loads(raw) if raw else {"path": None}
                if line["path"] != path:
                    self._refuse(turn, line["path"], path)
                if line["ends"]:
                    self._known.extend((key_of_path(path), line["stamp"][0], line["ends"]))
                yield item, parsed(line)
            for turn, file in enumerate(files):
                if raw := file.readline():
                    self._refuse(turn, json.loads(raw)["path"], None)

    def known(self) -> KnownFiles:
        """Return the sizes and the ends of the files whose headers were given."""
        return KnownFiles(self._known)

    def _refuse(self, turn: int, there: str | None, now: str | None) -> None:
        was, wanted = (printable(path) if path else "the end" for path in (there, now))
        raise UserError(
            f"{self.journals[turn]} has {was} where the corpus lists {wanted}: the list has changed since this part "
            "was made; remove the parts, and make them again"
        )
