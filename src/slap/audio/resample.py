"""The one resampler: torchaudio's windowed sinc, for recordings that are read as a whole or in blocks.

T samples of a recording at the rate that it has, T' at the rate that is wanted.

The filter of two rates has a row for each sample of the new rate in their common period: 160 for 44.1 kHz to 16 kHz,
but 16,000 for 44,101 Hz, whose 700 million numbers take gigabytes. The rates in files and manifests are arbitrary, so
the ratio of two rates is approximated where the exact filter would be too large: to about a millionth, but for rates
that are nearly equal, e.g. 16,001 Hz, which is taken for 16 kHz.

A process with torch runs the filter by torchaudio, whose threads are those that torch was given, also in the processes
of a data loader. One without, as with `slap.onnx`, runs it by numpy (`slap.audio.sinc`); samples differ by 1e-7.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from math import ceil, floor, isqrt

import numpy as np

from slap.audio.sinc import Sinc, reach
from slap.core.units import Seconds

Filter = Callable[[np.ndarray], np.ndarray]
"""From (..., T) to (..., T')."""

FINEST = 2000
"""Largest denominator of a ratio of rates up to twice the wanted one; that of 44.1 and 16 kHz is 160."""

LARGEST_FILTER = 1 << 23
"""Numbers of a filter."""

MAKING = 9
"""Memory to make a filter, as a multiple of its size as float32. Measured: 8.3."""

KEPT = 1 << 28
"""Bytes of filters that a process keeps."""

_filters: dict[tuple[int, int], Filter] = {}


def samples_after(samples: int, rate: int, wanted: int) -> int:
    """Return T' of T samples: the nearest number, halves rounded up, and at least 1."""
    return max((2 * samples * wanted + rate) // (2 * rate), 1)


def samples_in(seconds: Seconds, rate: int) -> int:
    """Return the nearest number of samples of a time, halves rounded up, as Lhotse does."""
    return floor(round(seconds * rate, 8) + 0.5)


@cache
def ratio(rate: int, wanted: int) -> Fraction:
    """Return the wanted rate over the given one, approximated where the exact filter would be too large."""
    finest = min(FINEST * max(rate // wanted, 1), isqrt(LARGEST_FILTER * rate // wanted))
    return Fraction(wanted, rate).limit_denominator(finest)


def filter_bytes(period: int, produced: int) -> int:
    """Return the size as float32 of the filter that makes `produced` samples of `period`, which share no divisor."""
    if period == produced:
        return 0
    return 4 * produced * (2 * reach(period, produced) + period)


def resample(samples: np.ndarray, rate: int, wanted: int, count: int | None = None) -> np.ndarray:
    """Resample a whole recording.

    Args:
        samples: (..., T) float32.
        rate: of the samples, Hz.
        wanted: Hz.
        count: T'; None is `samples_after`.

    Returns:
        (..., T').
    """
    count = samples_after(samples.shape[-1], rate, wanted) if count is None else count
    return with_length(_resampled(samples, ratio(rate, wanted)), count)


def resampled(
    stream: Iterator[np.ndarray], rate: int, wanted: int, count: int | Callable[[int], int] | None = None
) -> Iterator[np.ndarray]:
    """Yield blocks, (..., n_i) each, at the wanted rate, which joined equal the whole resampled at once.

    Every block is resampled with as much of its neighbors as the filter sees, in whole periods of the two rates.

    Args:
        stream: consecutive blocks of samples.
        rate: of the blocks, Hz.
        wanted: Hz.
        count: T', or a function from T to it; None is `samples_after`.
    """
    scale = ratio(rate, wanted)
    period, produced = scale.denominator, scale.numerator  # so many samples become so many
    margin = 0 if scale == 1 else ceil((reach(period, produced) + 1) / period) * period
    held, lead = np.empty(0, np.float32), 0  # `lead` samples of `held` were resampled before and are context now
    read = made = 0
    for block in stream:
        held = np.concatenate([held, block], -1) if held.size else block
        read += block.shape[-1]
        ready = (held.shape[-1] - lead - margin) // period * period
        if ready <= 0:
            continue
        out = _resampled(held[..., : lead + ready + margin], scale)
        out = out[..., lead // period * produced : (lead + ready) // period * produced]
        out = out[..., : count - made] if isinstance(count, int) else out
        made += out.shape[-1]
        yield out
        keep = max(lead + ready - margin, 0)
        held, lead = held[..., keep:].copy(), lead + ready - keep
    total = count if isinstance(count, int) else count(read) if count else samples_after(read, rate, wanted)
    if read and total > made:
        yield with_length(_resampled(held, scale)[..., lead // period * produced :], total - made)


def with_length(samples: np.ndarray, count: int) -> np.ndarray:
    """Return samples, (..., T), cut to `count` or filled up with zeros."""
    missing = count - samples.shape[-1]
    if missing <= 0:
        return samples[..., :count]
    return np.concatenate([samples, np.zeros((*samples.shape[:-1], missing), samples.dtype)], -1)


def _resampled(samples: np.ndarray, scale: Fraction) -> np.ndarray:
    """Resample by a ratio; gives ceil(T x ratio) samples."""
    return samples if scale == 1 else _filter(scale.denominator, scale.numerator)(samples)


def _filter(period: int, produced: int) -> Filter:
    """Return a filter, kept for the next time; all are forgotten where they take more than `KEPT`."""
    known = _filters.get((period, produced))
    if known is None:
        if sum(filter_bytes(*rates) for rates in list(_filters)) > KEPT:
            _filters.clear()
        make = Sinc if sys.modules.get("torch") is None else _by_torchaudio
        known = _filters[period, produced] = make(period, produced)
    return known


def _by_torchaudio(period: int, produced: int) -> Filter:
    import torch
    from torchaudio.transforms import Resample

    resampler = Resample(period, produced)

    def run(samples: np.ndarray) -> np.ndarray:
        found: np.ndarray = resampler(torch.from_numpy(np.ascontiguousarray(samples))).numpy()
        return found

    return run
