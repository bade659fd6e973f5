"""Segments that an evaluation reads: whole clips, and overlapping windows of long ones.

n clips, W segments of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slap.core.windows import hop_of, windows


@dataclass(frozen=True)
class Segments:
    """Segments of clips, in the order of the clips and then of their places.

    Args:
        clip: (W,) int64, the clip of each segment.
        start: (W,) int64, the first sample of each.
        stop: (W,) int64, the sample after the last one of each.
    """

    clip: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def __len__(self) -> int:
        """W."""
        return len(self.clip)

    def span(self, number: int) -> tuple[int, int]:
        """Return the samples at which a segment begins and ends in its clip."""
        return int(self.start[number]), int(self.stop[number])

    @property
    def lengths(self) -> np.ndarray:
        """(W,) int64, in samples."""
        return self.stop - self.start


def segments_of(lengths: Sequence[int] | np.ndarray, window: int) -> Segments:
    """Return the segments of clips by the rule of `slap.core.windows`.

    Args:
        lengths: (n,) lengths of the clips, in samples.
        window: length of the longest segment, in samples.

    Example:
        >>> found = segments_of([4, 25], window=10)
        >>> found.clip.tolist(), [found.span(i) for i in range(len(found))]
        ([0, 1, 1, 1, 1], [(0, 4), (0, 10), (7, 17), (14, 24), (15, 25)])
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    spans = {int(i): windows(int(sizes[i]), window, hop_of(window)) for i in np.flatnonzero(sizes > window)}
    counts = np.ones(len(sizes), dtype=np.int64)
    for i, places in spans.items():
        counts[i] = len(places)
    clip = np.repeat(np.arange(len(sizes)), counts)
    start, stop = np.zeros(len(clip), dtype=np.int64), sizes[clip]
    firsts = np.cumsum(counts) - counts
    for i, places in spans.items():
        start[firsts[i] : firsts[i] + counts[i]], stop[firsts[i] : firsts[i] + counts[i]] = np.transpose(places)
    return Segments(clip, start, stop)
