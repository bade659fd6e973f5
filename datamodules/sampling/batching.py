"""Budget of a packed batch: a hard cap on the audio in it, and on the number of its clips.

Lhotse's own samplers count clips times the longest clip, the cost of a padded batch, and let a batch overshoot. Nothing
is padded here, so a batch costs the sum of its clips. Lengths are counted in samples, so sums are exact.

n clips.
"""

from __future__ import annotations

import heapq
from math import ceil

import numpy as np

from slap.core.errors import UserError


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


def widened(samples: np.ndarray, bounds: np.ndarray, max_samples: int, min_clips: int) -> np.ndarray:
    """Return fewer bounds, so that in each bucket the budget holds so many clips: one of the longest, and average ones.

    Buckets of long clips are joined with the next shorter ones.

    Args:
        samples: (n,) int64, the clips' lengths.
        bounds: as `bucket_bounds` returns them.
        max_samples: budget of a batch.
        min_clips: least number of clips per batch.

    Raises:
        ValueError: the budget is too small even for clips of all lengths.
    """
    place = len(bounds)
    while place >= 0:
        low, high = (bounds[place - 1] if place else 0), (bounds[place] if place < len(bounds) else samples.max())
        inside = samples[(samples > low) & (samples <= high)]
        if not len(inside) or high + (min_clips - 1) * inside.mean() <= max_samples:
            place -= 1
        elif place:
            place -= 1
            bounds = np.delete(bounds, place)
        else:
            needed = high + (min_clips - 1) * inside.mean()
            most = int((max_samples - high) // inside.mean()) + 1
            raise UserError(
                f"min_clips={min_clips} clips do not fit into a batch: one of the longest and average ones take "
                f"{needed / max_samples:.2f} times the budget. Take max_duration that many times as large, or "
                f"min_clips of at most {most}"
            )
    return bounds


def fill(
    samples: np.ndarray, bounds: np.ndarray, max_samples: int, max_clips: int | None, min_clips: int = 1
) -> tuple[list[np.ndarray], np.ndarray]:
    """Make batches of a stream: each clip goes to the open batch of its bucket, until one comes that does not fit.

    Args:
        samples: (n,) int64, the clips' lengths in the order of the stream, none above `max_samples`.
        bounds: bounds of the buckets, as `bucket_bounds` returns them.
        max_samples: budget of a batch.
        max_clips: largest number of clips per batch; None is any number.
        min_clips: least number of clips per batch. Clips that would leave too little room for it wait for the next
            batch of their bucket.

    Returns:
        The full batches, as places in the stream, in the order in which they were filled; and the places that are left
        in open batches.
    """
    buckets = np.searchsorted(bounds, samples).astype(np.int32)
    full: list[np.ndarray] = []
    rest: list[np.ndarray] = []
    for bucket in range(len(bounds) + 1):
        places = np.flatnonzero(buckets == bucket)
        if min_clips > 1:
            found, left = _fill_with_floor(samples, places, max_samples, max_clips, min_clips)
            full += found
            rest.append(left)
            continue
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
    full.sort(key=lambda batch: int(batch.max()))
    return full, np.concatenate(rest)


def _fill_with_floor(
    samples: np.ndarray, places: np.ndarray, max_samples: int, max_clips: int | None, min_clips: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Fill the batches of one bucket, each with a least number of clips.

    A clip is taken if the clips that are still missing would then fit, at their average length or, where that is less,
    at the length that leaves room for the longest clip. So a clip of that length always fits, and any clip fits into an
    empty batch.
    """
    if not len(places):
        return [], places
    lengths = samples[places]
    reserve = min(lengths.mean(), (max_samples - lengths.max()) / (min_clips - 1))
    full: list[np.ndarray] = []
    waiting: list[int] = []
    batch: list[int] = []
    total = 0

    def take(place: int) -> bool:
        nonlocal total
        missing = max(min_clips - len(batch) - 1, 0)
        if total + samples[place] + missing * reserve > max_samples or len(batch) == max_clips:
            return False
        batch.append(place)
        total += int(samples[place])
        return True

    for place in places.tolist():
        if take(place):
            continue
        if len(batch) >= min_clips:
            full.append(np.array(batch, dtype=np.int64))
            batch, total = [], 0
            waiting = [place for place in waiting if not take(place)]
            if take(place):
                continue
        waiting.append(place)
    return full, np.array(batch + waiting, dtype=np.int64)


def dealt_batches(
    samples: np.ndarray, max_samples: int, max_clips: int | None, min_clips: int, multiple: int
) -> list[np.ndarray] | None:
    """Make few batches of equally many clips and nearly equal length that hold every clip once.

    Clips are dealt out by length, in turns of alternating direction.

    Args:
        samples: (n,) int64, the clips' lengths.
        max_samples: budget of a batch.
        max_clips: largest number of clips per batch; None is any number.
        min_clips: least number of clips per batch.
        multiple: the number of batches is a multiple of it.

    Returns:
        The batches, as places in `samples`; None if there are none with these numbers.
    """
    n = len(samples)
    order = np.argsort(-samples, kind="stable")
    least = max(ceil(int(samples.sum()) / max_samples), ceil(n / (max_clips or n)))
    count = multiple * ceil(least / multiple)
    while n // count >= min_clips:
        turn, seat = np.divmod(np.arange(n), count)
        owner = np.where(turn % 2, count - 1 - seat, seat)
        if np.bincount(owner, samples[order], count).max() <= max_samples:
            return [order[owner == batch] for batch in range(count)]
        count += multiple
    return None


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
