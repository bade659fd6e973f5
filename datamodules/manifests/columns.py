"""Names of the columns of tables: the known ones, their other names, and an answer to those that are not known.

A column that would change what is trained on is read, or refused with what to write instead. Any other unknown column
is ignored, and listed once per table. `columns` {known name: column of the file} says what the names do not.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import takewhile
from pathlib import Path

from slap.core.errors import UserError, suggest
from slap.datamodules.captions.validate import quoted
from slap.datamodules.manifests.clip import ManifestError

log = logging.getLogger(__name__)

Columns = Mapping[str, str | None]
"""From known names to the columns of a file; None if the file has no such column, whatever its columns are called."""

NAMES = (
    *("audio", "caption", "id", "start", "end", "duration", "label", "labels", "tags"),
    *("fold", "corpus", "split", "fields", "origin", "youtube", "freesound", "segments", "choices"),
)
"""The known names. `caption`, `label` and `tags` may go on with `_` and a number, a field or a task."""

WITH_MORE = ("caption", "label", "tags")
TRAINED_ON = ("audio", "caption", "start", "end", "onset", "offset", "duration", "label", "tags", "fold")
"""Names that decide what is trained on: a column whose name is nearly one of them is refused."""

_SECONDS = r"(?:_?(?:time|s|secs?|seconds?))*"
OTHER_NAMES = {
    rf"(?:start|begin|onset){_SECONDS}": "start",
    rf"(?:end|stop){_SECONDS}": "end",
    rf"duration{_SECONDS}": "duration",
}
OFFSET = rf"offset{_SECONDS}"
"""The end beside an onset, as in DCASE's lists of events; else the start, as in Lhotse and NeMo."""

ONSET = rf"onset{_SECONDS}"
OTHER_UNITS = re.compile(
    r"(?P<time>start|begin|onset|offset|end|stop|duration)(?:_time)?_?"
    r"(?:ms|msecs?|milli\w*|us|ns|samples?|frames?|mins?|minutes?|hours?)|(?:frame|sample)_(?P<from>offset|start|end)"
)
SHOWN = 20
"""Largest number of ignored columns that are listed."""

LENGTHS = ("length", "len", "dur")
VIDEOS = ("youtube", "youtube_id", "ytid", "yt_id", "video_id", "yid")
"""Columns beside which a `start_time` may be a time in a video that the file was cut from."""


class ColumnNames:
    """The columns of one table by their known names.

    Args:
        path: path of the table, for messages.
        columns: columns of the file that have a name of their own.

    Attributes:
        read: known names of the columns that are read.

    Raises:
        ValueError: `columns` names something that is not known.
    """

    def __init__(self, path: Path, columns: Columns | None = None) -> None:
        self.path, self.columns = path, dict(columns or {})
        self.read: set[str] = set()
        self._missing = {name for name in self.columns.values() if name is not None}
        self._ignored: dict[str, None] = {}
        self._resolved: dict[tuple[str, ...], dict[str, str]] = {}
        check_columns(self.columns)

    def known(self, names: Sequence[str]) -> int:
        """Return the number of names that are known, or that `columns` has."""
        return sum(known_name(name) is not None or name in self.columns.values() for name in names)

    def of(self, names: tuple[str, ...], where: str) -> dict[str, str]:
        """Return {column: known name} for the columns that are read.

        Args:
            names: columns of a table, or keys of an object.
            where: file and line, for messages.

        Raises:
            ManifestError: a column would change what is trained on, and its meaning is not clear.
        """
        if names not in self._resolved:
            self._resolved[names] = self._resolve(names, where)
            self.read.update(self._resolved[names].values())
        return self._resolved[names]

    def finish(self, names: Sequence[str] = ()) -> None:
        """Refuse columns that were asked for and never seen, and list those that are ignored.

        Raises:
            ManifestError: the table has no such column.
        """
        if self._missing:
            absent, there = ", ".join(sorted(self._missing)), ", ".join([*names, *self._ignored]) or "none of them"
            raise ManifestError(f"{self.path}: `columns` names {absent}, which is no column here; there are: {there}")
        if self._ignored:
            list_ignored(self.path, tuple(self._ignored))

    def _resolve(self, names: tuple[str, ...], where: str) -> dict[str, str]:
        columns = self._columns_of(names)
        asked = {column: known for known, column in columns.items() if column in names and column is not None}
        self._missing -= asked.keys()
        found = dict(asked)
        unknown = []
        onset = any(re.fullmatch(ONSET, plain(name)) for name in names if name not in asked)
        for name in (name for name in names if name not in asked):
            known = known_name(name, onset)
            if known is None:
                unknown.append(name)
            elif known in columns:
                self._ignored[name] = None
            elif known in found.values():
                self._refuse_second(name, known, found, where)
            else:
                found[name] = known
        self._refuse_unclear(found, unknown, where)
        self._ignored |= dict.fromkeys(name for name in unknown if name)
        return found

    def _columns_of(self, names: tuple[str, ...]) -> Columns:
        """Return `columns`, or if they are those of other tables, only what they say there is not.

        They are if they name the audio, this table has none of the columns, and it has all of their known names itself.
        """
        asked = {known: column for known, column in self.columns.items() if column is not None}
        own = {known_name(name) for name in names}
        if "audio" not in asked or set(asked.values()) & set(names) or not set(asked) <= own:
            return self.columns
        self._missing = set()
        log.info("%s: read by its own names: it has none of %s", self.path, ", ".join(asked.values()))
        return dict.fromkeys(self.columns.keys() - asked.keys())

    def _refuse_second(self, name: str, known: str, found: Mapping[str, str], where: str) -> None:
        (first,) = (column for column, other in found.items() if other == known)
        raise ManifestError(
            f"{where}: `{first}` and `{name}` are two names of the same thing, {_meaning(known)}; remove one of them, "
            f"or name the right one: {option(known, name)}"
        )

    def _refuse_unclear(self, found: Mapping[str, str], unknown: Sequence[str], where: str) -> None:
        """Refuse unknown columns that may be misspelled or in another unit, and times that may be those of a video."""
        there = {*found.values(), *self.columns}
        for name in unknown:
            meant = _misspelled(name)
            known = None if meant is None else known_name(meant, onset="start" in there)
            if known is not None and known not in there:
                raise ManifestError(
                    f"{where}: the column `{name}` is not known; did you mean `{meant}`? If so, rename it, or give "
                    f"{option(known, name)}; if not, {option(known, None)} ignores it"
                )
            time = _other_unit(name, there)
            if time is not None:
                raise ManifestError(
                    f"{where}: `{name}` may be {_meaning(time)}, which is read in seconds from `{time}`; convert it, "
                    f"or {option(time, None)} ignores it"
                )
        video = next((name for name in (*found, *unknown) if plain(name) in VIDEOS), None)
        for name, known in found.items():
            unsure = known in ("start", "end") and plain(name) not in (known, "onset", "offset")
            if video is not None and unsure and known not in self.columns:
                raise ManifestError(
                    f"{where}: beside `{video}`, `{name}` may be a time in a video that the file was cut from; "
                    f"if it is {_meaning(known)} in the file, give {option(known, name)}, and if not, "
                    f"{option(known, None)}"
                )


def check_columns(columns: Columns) -> None:
    """Refuse a mapping from names that are not known, or of two names to one column.

    Raises:
        ValueError: there is such a name; lists the known ones.
    """
    for known, column in columns.items():
        if known_name(known) != known:
            raise UserError(
                f"`columns` maps known names to those of your file; {known!r} is none: {suggest(known, NAMES)}"
            )
        if column is not None and list(columns.values()).count(column) > 1:
            raise UserError(f"`columns` names {column!r} twice; each column of a file is one thing")


def known_name(name: str, onset: bool = False) -> str | None:
    """Return the known name of a column, or None.

    Args:
        name: name of the column, in upper or lower case.
        onset: whether there is an onset beside it.

    Example:
        >>> known_name("Label"), known_name("start_time"), known_name("Caption 1"), known_name("title")
        ('label', 'start', 'caption_1', None)
        >>> known_name("offset"), known_name("offset", onset=True)
        ('start', 'end')
    """
    name, lower = name.strip(), plain(name)
    if lower in NAMES:
        return lower
    found = re.fullmatch(r"(caption[\s_-]|caption(?=\d+$)|label_|tags_)(.+)", name, re.IGNORECASE | re.DOTALL)
    if found:
        return f"{re.sub(r'[^a-z]', '', found[1].lower())}_{found[2]}"
    if re.fullmatch(OFFSET, lower):
        return "end" if onset else "start"
    return next((known for pattern, known in OTHER_NAMES.items() if re.fullmatch(pattern, lower)), None)


def plain(name: str) -> str:
    """Return a name in lower case, with `_` for spaces and dashes."""
    return re.sub(r"[\s-]+", "_", name.strip()).lower()


def option(known: str, column: str | None) -> str:
    """Return the option that says which column has a meaning, as it is written on a command line."""
    return f"columns '{{{known}: {'null' if column is None else column}}}'"


def _misspelled(name: str) -> str | None:
    """Return the name that a column has but for one letter, if it decides what is trained on."""
    base = re.sub(r"_\d+$", "", plain(name))
    near = next((known for known in TRAINED_ON if base[:1] == known[0] and _one_edit(base, known)), None)
    return near + plain(name)[len(base) :] if near in WITH_MORE else near


def _one_edit(first: str, second: str) -> bool:
    """Return True if a letter more, less or another one, or two in the other order, are all the difference."""
    for _ in range(2):  # what they have in common at the begin, then at the end
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
        first, second = first[common:][::-1], second[common:][::-1]
    return max(len(first), len(second)) == 1 or (len(first) == 2 and first == second[::-1])


def _other_unit(name: str, there: set[str]) -> str | None:
    """Return the known name of a time that a column may give in another unit, unless that time is known."""
    found = OTHER_UNITS.fullmatch(plain(name))
    time = None if found is None else known_name(found["time"] or found["from"], onset="start" in there)
    if plain(name) in LENGTHS and "start" in there and "end" not in there:
        time = "duration"
    return None if time in there else time


def _meaning(known: str) -> str:
    times = {"start": "the begin of the clip", "end": "the end of the clip", "duration": "the duration of the clip"}
    return times.get(known, f"`{known}`")


@cache  # a table may be read several times
def list_ignored(path: Path, names: tuple[str, ...], what: str = "columns", known: Sequence[str] = ()) -> None:
    """Log what is ignored in a file, each name with the nearest known one; once per process.

    Args:
        path: path of the file.
        names: names that are ignored.
        what: kind of names, in the plural.
        known: tuple of the known names; none stands for those of columns.
    """
    valid = known or (*NAMES, "onset", "offset")
    near = [difflib.get_close_matches(plain(name), valid, n=1) for name in names[:SHOWN]]
    hints = [f" (nearest known name: {found[0]})" if found else "" for found in near]
    listed = [quoted(name) + hint for name, hint in zip(names, hints, strict=False)]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    log.warning("%s: %s that are ignored: %s%s", path, what, ", ".join(listed), more)
