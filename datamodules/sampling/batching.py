"""Budget of a packed batch: a hard cap on the audio in it, and on the number of its clips.

Lhotse's own samplers count clips times the longest clip, the cost of a padded batch, and let a batch overshoot. Nothing
is padded here, so a batch costs the sum of its clips. Lengths are counted in samples, so sums are exact.

n clips.
"""

from __future__ import annotations

import heapq
from math import ceil

import numpy as np


def bucket_bounds(samples: np.ndarray, buckets: int) -> np.ndarray:
    """Return the longest length of each bucket but the last, so that buckets hold equally much audio.

    Args:
        samples: (n,) int64, the clips' lengths.
        buckets: largest number of buckets; equal bounds count once.

    Returns:
        (buckets - 1,) int64 or fewer, ascending.
    """
    ordered = np.sort(samples)
    total = np.cumsum(ordered)
    shares = total[-1] * np.arange(1, buckets) // buckets
    return np.unique(ordered[np.minimum(np.searchsorted(total, shares), len(samples) - 1)])


def fill(
    samples: np.ndarray, bounds: np.ndarray, max_samples: int, max_clips: int | None
) -> tuple[list[np.ndarray], np.ndarray]:
    """Make batches of a stream: each clip goes to the open batch of its bucket, until one comes that does not fit.

    Args:
        samples: (n,) int64, the clips' lengths in the order of the stream, none above `max_samples`.
        bounds: bounds of the buckets, as `bucket_bounds` returns them.
        max_samples: budget of a batch.
        max_clips: largest number of clips per batch; None is any number.

    Returns:
        The full batches, as places in the stream, in the order in which they were filled; and the places that are left
        in open batches.
    """
    buckets = np.searchsorted(bounds, samples).astype(np.int32)
    full: list[np.ndarray] = []
    rest: list[np.ndarray] = []
    for bucket in range(len(bounds) + 1):
        places = np.flatnonzero(buckets == bucket)
        total = np.cumsum(samples[places])
        start, before = 0, 0
        while True:
            stop = int(np.searchsorted(total, before + max_samples, side="right"))
            stop = min(stop, start + (max_clips or stop))
            if stop == len(places):
                break
            full.append(places[start:stop])
            start, before = stop, int(total[stop - 1])
        rest.append(places[start:])
    full.sort(key=lambda batch: int(batch[-1]))
    return full, np.concatenate(rest)


def balanced_batches(samples: np.ndarray, max_samples: int, max_clips: int | None, multiple: int) -> list[np.ndarray]:
    """Make few batches of nearly equal length that hold every clip once.

    The longest clip left goes to the shortest batch (Graham's LPT rule), with one more round of batches whenever
    something does not fit.

    Args:
        samples: (n,) int64, the clips' lengths, none above `max_samples`.
        max_samples: budget of a batch.
        max_clips: largest number of clips per batch; None is any number.
        multiple: the number of batches is a multiple of it, if there are enough clips.

    Returns:
        The batches, as places in `samples`.
    """
    n = len(samples)
    least = max(ceil(int(samples.sum()) / max_samples), ceil(n / (max_clips or n))) if n else 0
    count = multiple * ceil(least / multiple)
    while count < n:
        batches = _shared(samples, max_samples, max_clips, count)
        if batches is not None:
            return batches
        count += multiple * ceil(count / multiple / 1000)
    return [np.array([place]) for place in range(n)]


def _shared(samples: np.ndarray, max_samples: int, max_clips: int | None, count: int) -> list[np.ndarray] | None:
    batches: list[list[int]] = [[] for _ in range(count)]
    shortest = [(0, batch) for batch in range(count)]
    order = np.argsort(-samples, kind="stable")
    for place, length in zip(order.tolist(), samples[order].tolist(), strict=True):
        if not shortest or shortest[0][0] + length > max_samples:
            return None
        total, batch = heapq.heappop(shortest)
        batches[batch].append(place)
        if len(batches[batch]) != max_clips:
            heapq.heappush(shortest, (total + length, batch))
    return [np.array(batch, dtype=np.int64) for batch in batches]
