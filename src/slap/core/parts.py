"""Work in parts, for the array jobs of a scheduler: each part has a folder beside the output, and one command merges.

The folder `OUT.parts` holds a folder for each part, `00003-of-00064`, with `plan.json`, the options and inputs that the
part was begun with, the files of the command, and `done.json`, which appears when the part is complete. A part that was
interrupted continues in its folder. Parts are merged only if all are complete and have the plan of the command that
merges them.
"""

from __future__ import annotations

import fcntl
import json
import logging
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from slap.core.errors import UserError
from slap.core.files import atomic_write, read_json

log = logging.getLogger(__name__)

T = TypeVar("T")

PLAN, DONE = "plan.json", "done.json"
FORM = re.compile(r"([1-9]\d*)/([1-9]\d*)")
FOLDER = re.compile(r"(\d{5,})-of-(\d{5,})")


@dataclass(frozen=True)
class Part:
    """One of several parts of some work.

    Attributes:
        number: 1 to `count`.
        count: number of parts.
    """

    number: int
    count: int

    @classmethod
    def of(cls, text: str) -> Part:
        """Read a part such as `3/64`.

        Raises:
            UserError: it is none.

        Example:
            >>> print(Part.of("3/64"))
            3/64
        """
        found = FORM.fullmatch(text)
        if not found or int(found[1]) > int(found[2]):
            raise UserError(f"a part is written as 3/64, the third of 64 parts; the first is 1/64; got {text!r}")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        """Return the part as it is written on the command line."""
        return f"{self.number}/{self.count}"

    @property
    def folder(self) -> str:
        """The name of the part's folder."""
        return f"{self.number:05}-of-{self.count:05}"

    def range_of(self, total: int, unit: int = 1) -> range:
        """Return this part of `total` items, which begins at a multiple of `unit`; all parts together are all items.

        Example:
            >>> [Part(number, 3).range_of(10, unit=2) for number in (1, 2, 3)]
            [range(0, 2), range(2, 6), range(6, 10)]
        """
        units = -(-total // unit)
        first, last = (number * units // self.count * unit for number in (self.number - 1, self.number))
        return range(min(first, total), min(last, total))

    def turns(self, items: Iterable[T], unit: int) -> Iterator[T]:
        """Yield this part of items whose number is not known: parts take turns, `unit` items at a time.

        Example:
            >>> list(Part(2, 3).turns("aabbccddee", unit=2))
            ['b', 'b', 'e', 'e']
        """
        rest, turn = iter(items), 0
        while run := list(islice(rest, unit)):
            if turn % self.count == self.number - 1:
                yield from run
            turn += 1


@dataclass(frozen=True)
class DonePart:
    """A part that is complete.

    Attributes:
        part: the part.
        folder: its folder.
        result: the record that it was finished with.
    """

    part: Part
    folder: Path
    result: dict[str, Any]


class Parts:
    """The parts of an output.

    Args:
        out: the file or folder that the parts are merged to.
        plan: options and inputs that change the output, by names for people, as plain data.

    Attributes:
        folder: the folder of all parts.
    """

    def __init__(self, out: Path, plan: Mapping[str, Any]) -> None:
        self.folder = parts_folder(out)
        made = {"slap": version("slap-audio"), **plan}
        self.plan: dict[str, Any] = json.loads(json.dumps(made, default=str))

    @contextmanager
    def work(self, part: Part) -> Iterator[Path | None]:
        """Begin or continue a part, and keep other processes from it; yield its folder, None if it is complete.

        Raises:
            UserError: the part, or another one, was begun with another plan, or a process works on the part now.
        """
        for other in self._there():
            if other.count != part.count:
                raise UserError(
                    f"{self.folder} has {other}, one of {other.count} parts, and this is one of {part.count}; give all "
                    "parts the same number, or remove that folder to start again"
                )
            self._check(other)
        folder = self.folder / part.folder
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as lock:
            lock.enter_context(_locked(folder, part))
            if not (folder / PLAN).exists():
                _write(folder / PLAN, self.plan)
            yield None if (folder / DONE).exists() else folder

    def finish(self, part: Part, result: Mapping[str, Any]) -> None:
        """Note that a part is complete, with a record of plain data that the merge needs."""
        _write(self.folder / part.folder / DONE, result)

    def complete(self) -> list[DonePart]:
        """Return all parts, in order.

        Raises:
            UserError: a part is missing, not complete, or has another plan; names it.
        """
        there = self._there()
        if not there:
            raise UserError(f"there are no parts in {self.folder}; run the same command with --part 1/N to N/N first")
        counts = sorted({part.count for part in there})
        if len(counts) > 1:
            raise UserError(
                f"{self.folder} has parts of {' and of '.join(map(str, counts))} parts; remove the wrong ones"
            )
        for part in there:
            self._check(part)
        every = [Part(number, counts[0]) for number in range(1, counts[0] + 1)]
        missing = [part for part in every if not (self.folder / part.folder / DONE).exists()]
        if missing:
            begun = [part for part in missing if part in there]
            more = f" ({', '.join(map(str, begun))} begun, not complete)" if begun else ""
            raise UserError(
                f"{self.folder} lacks part{'s' * (len(missing) > 1)} {', '.join(map(str, missing))}{more}; run the "
                f"same command with --part {missing[0]} in place of --merge, or submit the array again with the "
                f"numbers {','.join(str(part.number) for part in missing)}"
            )
        return [
            DonePart(part, folder, read_json(folder / DONE)) for part in every if (folder := self.folder / part.folder)
        ]

    def remove(self) -> None:
        """Remove the parts, and their folder unless it holds other things."""
        for part in self._there():
            shutil.rmtree(self.folder / part.folder)
        with suppress(OSError):  # not empty
            self.folder.rmdir()

    def _there(self) -> list[Part]:
        """Return the parts that were begun, in order."""
        names = sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []
        found = {name: FOLDER.fullmatch(name) for name in names}
        if wrong := [name for name, match in found.items() if not match]:
            raise UserError(f"{self.folder} is the folder of the parts, but holds {wrong[0]}; move that elsewhere")
        return [Part(int(match[1]), int(match[2])) for match in found.values() if match]

    def _check(self, part: Part) -> None:
        """Refuse a part that was begun with another plan; one without a plan has only just begun."""
        path = self.folder / part.folder / PLAN
        if not path.exists():
            return
        known = read_json(path)
        other = [name for name in sorted({*known, *self.plan}) if known.get(name) != self.plan.get(name)]
        if other:
            listed = [f"{name} {known.get(name)!r} instead of {self.plan.get(name)!r}" for name in other]
            raise UserError(
                f"part {part} was made with other options or inputs: {'; '.join(listed)}. Give the options that all "
                f"parts have, or remove {self.folder / part.folder} and make that part again"
            )


def parts_folder(out: Path) -> Path:
    """Return the folder of the parts of an output."""
    return out.with_name(f"{out.name}.parts")


def has_parts(out: Path) -> bool:
    """Return True if parts of an output were begun."""
    folder = parts_folder(out)
    return folder.is_dir() and any(FOLDER.fullmatch(path.name) for path in folder.iterdir())


@contextmanager
def _locked(folder: Path, part: Part) -> Iterator[None]:
    """Hold the lock of a part's folder; the system releases it however this process ends."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process works on part {part} now, in {folder}") from error
        except OSError as error:
            log.warning("%s has no locks (%s): see to it that no other process works on part %s", folder, error, part)
        yield


def _write(path: Path, value: Mapping[str, Any]) -> None:
    with atomic_write(path) as file:
        json.dump(value, file, ensure_ascii=False)
