"""Results of a search: files that were found, each by its best window, with their duplicates folded in.

n matches, G groups, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np

from slap.core.units import Seconds
from slap.search.store import WindowMatch


@dataclass(frozen=True)
class Hit:
    """A file that was found, by its best window.

    Attributes:
        rank: from 1.
        score: cosine of the window and the query.
        id: names the file without its path.
        path: below the indexed folder.
        start: of the window, seconds on the clock of a player.
        end: likewise.
        duration: the end of the file, likewise.
        alike: paths of the files that are folded into this hit as its duplicates, the best first.
        probability: that the query belongs to the window; None if it is no text alone, or if the model has no
            probabilities that are independent of other texts, see `slap.core.calibration`.
        likelihood: mean log-likelihood of the query's tokens by the caption decoder, in nats; None if the hit was not
            re-ranked, see `slap.search.rerank`.
    """

    rank: int
    score: float
    id: str
    path: str
    start: Seconds
    end: Seconds
    duration: Seconds
    alike: tuple[str, ...] = ()
    probability: float | None = None
    likelihood: float | None = None


class SearchOptions(TypedDict, total=False):
    """Options of every search.

    Attributes:
        top: number of files to find (default: 10).
        offset: number of the best files to skip, to see the next ones (default: 0).
        exact: compare with every window, also where there is an approximate index (default: False).
        alike: cosine of two windows from which on their files are one hit; files of equal content are one hit, too.
            None makes every file a hit of its own (default: `slap.search.limits.ALIKE`).
    """

    top: int
    offset: int
    exact: bool
    alike: float | None


@dataclass
class Group:
    """Files that are duplicates of each other.

    Attributes:
        best: the match with the largest score.
        others: the best match of each other file, the best first.
    """

    best: WindowMatch
    others: list[WindowMatch] = field(default_factory=list)

    def hit(self, rank: int) -> Hit:
        """Return the group as a hit."""
        row = self.best.row
        alike = tuple(match.row.path for match in self.others)
        return Hit(rank, self.best.score, row.file, row.path, row.start, row.end, row.duration, alike)


def groups_of(matches: Iterable[WindowMatch], alike: float | None) -> list[Group]:
    """Group matches, best first, by files, and files by their duplicates; the groups are best first, too.

    A file joins the first group whose best match has equal content, or a cosine of at least `alike` to the file's best
    window. So the groups of the first n matches do not change with further ones, but for files that join them.

    Args:
        matches: windows that were found, best first.
        alike: the cosine; None groups by files alone.
    """
    groups: list[Group] = []
    files: set[str] = set()
    contents: dict[str, Group] = {}
    vectors = _Rows()
    for match in matches:
        if match.row.file in files:
            continue
        files.add(match.row.file)
        group = None
        if alike is not None:
            group = contents.get(match.row.hash)
            if group is None and groups:
                near = np.flatnonzero(vectors.held @ match.row.vector >= alike)
                group = groups[near[0]] if len(near) else None
        if group is None:
            groups.append(Group(match))
            vectors.add(match.row.vector)
            contents[match.row.hash] = groups[-1]
        else:
            group.others.append(match)
    return groups


class _Rows:
    """Rows of a matrix that grows."""

    def __init__(self) -> None:
        self._matrix, self._count = np.empty((0, 0), np.float32), 0

    @property
    def held(self) -> np.ndarray:
        """The rows, (G, E)."""
        return self._matrix[: self._count]

    def add(self, row: np.ndarray) -> None:
        """Add a row, (E,)."""
        if self._count == len(self._matrix):
            grown = np.empty((max(64, 2 * self._count), len(row)), np.float32)
            if self._count:
                grown[: self._count] = self.held
            self._matrix = grown
        self._matrix[self._count] = row
        self._count += 1
