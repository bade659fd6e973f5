"""Replacement of bad clips in training."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from slap.datamodules.stored import Array, Stored

NEIGHBOURS = 100
"""Number of clips, the next ones in length, from which a replacement is drawn."""


class Replacements:
    """Clips nearly as long as a bad one and not longer, so that batches stay full and within their budget.

    Args:
        lengths: lengths of the n clips, in samples. If they are not in memory, neighbors of a clip in the manifest
            replace it.
        seed: seed of the choice.
        near: returns the clips to which a clip's replacement is limited, where there is one among them: to read
            another one, a whole shard would be fetched. None, as a result too, sets no limit.
    """

    def __init__(
        self,
        lengths: Sequence[int] | Array,
        seed: int = 0,
        near: Callable[[int], range | None] | None = None,
    ) -> None:
        self.seed, self.near = seed, near
        self._lengths = lengths if isinstance(lengths, Stored) else np.asarray(lengths)
        if not isinstance(self._lengths, Stored):
            self._order = np.argsort(self._lengths, kind="stable")
            self._sorted = self._lengths[self._order]

    def of(self, epoch: int, index: int, attempt: int) -> int | None:
        """Return a clip in place of a bad one; None if all others are longer.

        It depends on seed, epoch, clip and attempt alone.

        Args:
            epoch: counted from 0.
            index: the bad clip, or an occurrence of it (`slap.datamodules.sampling.epoch`).
            attempt: counted from 0; each gives another choice.
        """
        clip = index % len(self._lengths)
        near = self.near(clip) if self.near else None
        if near is None and isinstance(self._lengths, Stored):
            near = range(max(clip - NEIGHBOURS, 0), min(clip + NEIGHBOURS + 1, len(self._lengths)))
        others = self._in_range(clip, near) if near else []
        if not others and not isinstance(self._lengths, Stored):
            stop = int(np.searchsorted(self._sorted, self._lengths[clip], side="right"))
            others = [int(i) for i in self._order[max(stop - NEIGHBOURS - 1, 0) : stop] if i != clip]
        rng = random.Random(f"replacement {self.seed} {epoch} {index} {attempt}")
        return rng.choice(others) if others else None

    def _in_range(self, clip: int, near: range) -> list[int]:
        """Return the clips of a range that are nearest in length to a clip and not longer."""
        lengths = np.asarray(self._lengths[near.start : near.stop])
        order = np.argsort(lengths, kind="stable")
        shorter = order[lengths[order] <= self._lengths[clip]]
        return [near.start + int(i) for i in shorter[-NEIGHBOURS - 1 :] if near.start + i != clip]
