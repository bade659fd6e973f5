"""Replacement of bad clips in training."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

NEIGHBOURS = 100
"""Number of clips, the next ones in length, from which a replacement is drawn."""


class Replacements:
    """Clips nearly as long as a bad one and not longer, so that batches stay full and within their budget.

    Args:
        lengths: lengths of the n clips, in samples.
        seed: seed of the choice.
        near: returns the clips to which a clip's replacement is limited, where there is one among them: to read
            another one, a whole shard would be fetched. None, as a result too, sets no limit.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        seed: int = 0,
        near: Callable[[int], range | None] | None = None,
    ) -> None:
        self.seed, self.near = seed, near
        self._lengths = np.asarray(lengths)
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
        others = self._in_range(clip, near) if near else []
        if not others:
            stop = int(np.searchsorted(self._sorted, self._lengths[clip], side="right"))
            others = [int(i) for i in self._order[max(stop - NEIGHBOURS - 1, 0) : stop] if i != clip]
        rng = random.Random(f"replacement {self.seed} {epoch} {index} {attempt}")
        return rng.choice(others) if others else None

    def _in_range(self, clip: int, near: range) -> list[int]:
        """Return the clips of a range that are nearest in length to a clip and not longer."""
        order = near.start + np.argsort(self._lengths[near.start : near.stop], kind="stable")
        shorter = order[self._lengths[order] <= self._lengths[clip]]
        return [int(i) for i in shorter[-NEIGHBOURS - 1 :] if i != clip]
