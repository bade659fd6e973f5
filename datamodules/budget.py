"""What a packed batch may cost: a hard cap on the audio in it, and on the number of its clips.

Lhotse's own constraint counts clips times the longest clip, the cost of a padded batch, and lets a batch overshoot.
Nothing is padded here, so a batch costs the sum of its clips. Lengths are counted in samples, so sums are exact.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from lhotse.dataset.sampling.base import SamplingConstraint


@dataclass(slots=True)
class Item:
    """A clip as the sampler sees it.

    Args:
        index: which clip.
        samples: its length.
        dataloading_info: Lhotse's samplers write to it.
    """

    index: int
    samples: int
    dataloading_info: Any = None


@dataclass
class Budget(SamplingConstraint):
    """Ends a batch when the longest clip of its bucket might not fit any more, so that no batch exceeds the budget.

    A batch stays below the budget by up to one such clip; many buckets make that small.

    Args:
        max_samples: of all clips of a batch together.
        max_clips: in a batch; None is any number.
        bounds: the longest length of each bucket, ascending; the last is that of all clips.
    """

    max_samples: int
    max_clips: int | None
    bounds: Sequence[int]
    samples: int = 0
    clips: int = 0
    longest: int = 0

    def add(self, example: Item) -> None:
        """Count one more clip."""
        self.samples += example.samples
        self.clips += 1
        self.longest = max(self.longest, self.bounds[bisect_left(self.bounds, example.samples)])

    def exceeded(self) -> bool:
        """Whether the batch costs more than allowed; true only for a single clip that is too long by itself."""
        return self.samples > self.max_samples or (self.max_clips is not None and self.clips > self.max_clips)

    def close_to_exceeding(self) -> bool:
        """Whether one more clip of the bucket could be too much."""
        full = self.max_clips is not None and self.clips >= self.max_clips
        return full or self.samples + self.longest > self.max_samples

    def reset(self) -> None:
        """Begin an empty batch."""
        self.samples = self.clips = self.longest = 0

    def measure_length(self, example: Item) -> int:
        """What buckets are made by."""
        return example.samples

    def is_full(self, batch: Sequence[Item]) -> bool:
        """Whether a batch ended for its cost, not for want of clips."""
        count = self.copy()
        count.reset()
        for item in batch:
            count.add(item)
        return count.close_to_exceeding()


def share_out(items: Sequence[Item], max_samples: int, max_clips: int | None, multiple: int) -> list[list[Item]]:
    """Few batches of nearly equal length that hold every item once.

    The longest item left goes to the shortest batch (Graham's LPT rule), with one more round of batches whenever
    something does not fit.

    Args:
        items: none longer than `max_samples`.
        max_samples: of a batch.
        max_clips: of a batch, None is any number.
        multiple: the number of batches is a multiple of it, if there are items enough.
    """
    least = max(ceil(sum(item.samples for item in items) / max_samples), ceil(len(items) / (max_clips or len(items))))
    count = multiple * ceil(least / multiple)
    while count < len(items):
        batches = _fill(items, max_samples, max_clips, count)
        if batches is not None:
            return batches
        count += multiple
    return [[item] for item in items]


def _fill(items: Sequence[Item], max_samples: int, max_clips: int | None, count: int) -> list[list[Item]] | None:
    batches: list[list[Item]] = [[] for _ in range(count)]
    shortest = [(0, i) for i in range(count)]
    for item in sorted(items, key=lambda item: -item.samples):
        if not shortest or shortest[0][0] + item.samples > max_samples:
            return None
        samples, i = heapq.heappop(shortest)
        batches[i].append(item)
        if len(batches[i]) != max_clips:
            heapq.heappush(shortest, (samples + item.samples, i))
    return batches
