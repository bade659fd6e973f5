"""Steps of a section: its clips in batches, dealt out to processes, and dealt out anew where their number changes.

m occurrences in the section, at places 0 to m - 1; R processes, or batches per step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from slap.core.errors import UserError
from slap.datamodules.sampling.batching import balanced_batches, dealt_batches, fill
from slap.datamodules.sampling.epoch import equal_parts

Step = list[np.ndarray]
"""The R batches of a step, as places."""


@dataclass(frozen=True)
class Limits:
    """Limits of a batch.

    Args:
        max_samples: budget, in samples.
        max_clips: largest number of clips; None is any number.
        min_clips: least number of clips.
        bounds: bounds of the classes of length, as `bucket_bounds` returns them.
    """

    max_samples: int
    max_clips: int | None
    min_clips: int
    bounds: np.ndarray


@dataclass(frozen=True)
class Dealer:
    """Maker of the steps of a section.

    Args:
        samples: (m,) int64, lengths of the occurrences.
        limits: limits of a batch.
        random: returns random numbers for one purpose.
    """

    samples: np.ndarray
    limits: Limits
    random: Callable[[str], np.random.RandomState]

    def steps(self, streams: Sequence[np.ndarray], size: int) -> list[Step]:
        """Return the steps of streams of places: one for all processes, or one for each.

        Args:
            streams: result of `slap.datamodules.sampling.epoch.streams`.
            size: R.

        Raises:
            ValueError: there are no batches with the least number of clips for each process.
        """
        ranks: list[list[np.ndarray]] = []
        rest: list[np.ndarray] = []
        limits = self.limits
        for stream in streams:
            samples = self.samples[stream]
            full, left = fill(samples, limits.bounds, limits.max_samples, limits.max_clips, limits.min_clips)
            ranks.append([stream[places] for places in full])
            rest.append(stream[left])
        if len(ranks) == 1:  # one stream, dealt out
            ranks = [ranks[0][rank::size] for rank in range(size)]
        if 1 < len(rest) == size and limits.min_clips <= 1:  # storage in parts
            apart = self._apart(ranks, rest)
            if apart is not None:
                return apart
        divided = self._divided(ranks, rest)
        if divided is None:
            raise UserError(
                f"the {sum(map(len, streams))} clips of an epoch make no batches of at least min_clips="
                f"{limits.min_clips} for each of {size} processes; take a smaller min_clips or a larger max_duration"
            )
        return self._ended(ranks, *divided)

    def regrouped(self, steps: Sequence[Step], size: int) -> list[Step]:
        """Return the batches of steps, dealt out to another number of processes; each clip still comes once.

        A process gets those of one process after the other, so with storage in parts it reads few parts at a time. The
        batches that are left at the end, and those of the last step, are made anew, within the same budget.

        Args:
            steps: the steps that are left of a section.
            size: the new R.
        """
        if not steps:
            return []
        batches = [step[lane] for lane in range(len(steps[0])) for step in steps]
        each = len(batches) // size
        ranks = [batches[rank * each : (rank + 1) * each] for rank in range(size)]
        rest = batches[size * each :]
        if not rest:
            return [list(step) for step in zip(*ranks, strict=True)]
        divided = self._divided(ranks, rest)
        if divided is None:  # fewer clips than min_clips asks for are left
            kept = max(each - 1, 0)
            divided = kept, self._balanced(np.concatenate([*rest, *(b for r in ranks for b in r[kept:])]), size)
        return self._ended(ranks, *divided)

    def divided(self, step: Step, size: int) -> Step:
        """Return the clips of a step as they are divided among a number of processes other than its batches.

        Each process gets neighbors, and as much audio as every other but for a clip. One may get none.

        Args:
            step: batches of the step.
            size: number of processes.
        """
        if len(step) == size:
            return step
        clips = np.concatenate(step)
        return [clips[start:stop] for start, stop in pairwise(equal_parts(self.samples[clips], size).tolist())]

    def _ended(self, ranks: Sequence[Sequence[np.ndarray]], steps: int, last: list[np.ndarray]) -> list[Step]:
        """Return the first steps as they are, and after them the last batches in random order."""
        size = len(ranks)
        last = last + [last[i % len(last)] for i in range(-len(last) % size)]
        order = self.random("last batches").permutation(len(last))
        ended = [[last[place] for place in order[i : i + size]] for i in range(0, len(last), size)]
        return [[batches[step] for batches in ranks] for step in range(steps)] + ended

    def _apart(self, ranks: list[list[np.ndarray]], rest: list[np.ndarray]) -> list[Step] | None:
        """Return the steps of storage in parts, with the rest of each process in batches of its own.

        Returns:
            None if that is not possible: one process has fewer clips left than others make batches of theirs.
        """
        steps = max(min(len(batches) for batches in ranks) - 1, 0)
        rests = [np.concatenate([own, *batches[steps:]]) for own, batches in zip(rest, ranks, strict=True)]
        count = max(len(self._balanced(own, 1)) for own in rests)
        last = [self._balanced(own, count) for own in rests]
        if any(len(batches) != count for batches in last):
            return None
        order = self.random("last batches").permutation(count)
        first = [[batches[step] for batches in ranks] for step in range(steps)]
        return first + [[batches[place] for batches in last] for place in order]

    def _balanced(self, places: np.ndarray, multiple: int) -> list[np.ndarray]:
        batches = balanced_batches(self.samples[places], self.limits.max_samples, self.limits.max_clips, multiple)
        return [places[chosen] for chosen in batches]

    def _divided(
        self, ranks: Sequence[list[np.ndarray]], rest: Sequence[np.ndarray]
    ) -> tuple[int, list[np.ndarray]] | None:
        """Return the number of steps that stay as they are, and the batches that are made of all other clips.

        The last step's worth of batches is kept back, to mix with the rest; with `min_clips`, as many as it takes.

        Returns:
            None if there are no batches with so many clips.
        """
        limits, size = self.limits, len(ranks)
        full = min(len(batches) for batches in ranks)
        for steps in range(max(full - 1, 0), -1, -1):
            places = np.concatenate([*rest, *(batch for batches in ranks for batch in batches[steps:])])
            if limits.min_clips <= 1:
                return steps, self._balanced(places, size)
            shared = dealt_batches(self.samples[places], limits.max_samples, limits.max_clips, limits.min_clips, size)
            if shared is not None:
                return steps, [places[chosen] for chosen in shared]
        return None
