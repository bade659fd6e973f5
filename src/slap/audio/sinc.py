"""The resampler's filter in numpy, for processes without torch: torchaudio's windowed sinc as a product of matrices.

T samples before and T' after, K numbers of a row of the filter.
"""

from __future__ import annotations

from math import ceil

import numpy as np

WIDTH, ROLLOFF = 6, 0.99
"""Zero crossings of the filter, and the share of the band that it keeps; torchaudio's defaults."""

ROWS = 32
"""Samples, at least, that one row of the product makes: short periods are repeated, or most of the time were copies."""

COPIED = 1 << 21
"""Numbers that are copied at once."""


def reach(period: int, produced: int) -> int:
    """Return how many samples the filter sees on either side, where so many samples become so many."""
    return ceil(WIDTH * period / (min(period, produced) * ROLLOFF))


def kernel(period: int, produced: int) -> np.ndarray:
    """Compute the filter that makes `produced` samples of `period`, (produced, K) float32, K = 2 x reach + period.

    It is a sinc with a cosine-squared window over `WIDTH` zero crossings on either side: torchaudio's
    `sinc_interp_hann`.
    """
    width = reach(period, produced)
    base = min(period, produced) * ROLLOFF
    samples = np.arange(-width, width + period) / period
    places = (np.arange(produced) / produced).astype(np.float32)  # in torchaudio, too, they are of this precision
    time = (samples[None] - places[:, None].astype(np.float64)) * base
    time = time.clip(-WIDTH, WIDTH)
    window = np.cos(time * np.pi / WIDTH / 2) ** 2
    return (np.sinc(time) * window * (base / period)).astype(np.float32)


class Sinc:
    """A resampler from `period` samples to `produced`.

    Args:
        period: samples of the rate that a recording has.
        produced: samples of the wanted rate; the two share no divisor.
    """

    def __init__(self, period: int, produced: int) -> None:
        repeats, once = -(-ROWS // produced), kernel(period, produced).T
        self.reach = reach(period, produced)
        self.period, self.produced = period * repeats, produced * repeats
        self.kernel = np.zeros((2 * self.reach + self.period, self.produced), np.float32)  # (K, produced)
        for i in range(repeats):
            self.kernel[i * period : i * period + len(once), i * produced : (i + 1) * produced] = once

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Resample (..., T) float32 to (..., T'); T' is T x produced / period, rounded up."""
        lead, length = samples.shape[:-1], samples.shape[-1]
        rows = [self._row(row) for row in samples.reshape(-1, length)]
        return np.stack(rows).reshape(*lead, -1) if lead else rows[0]

    def _row(self, samples: np.ndarray) -> np.ndarray:
        wanted = -(-len(samples) * self.produced // self.period)
        padded = np.pad(samples, (self.reach, self.reach + self.period))
        frames = np.lib.stride_tricks.sliding_window_view(padded, len(self.kernel))[:: self.period]
        out = np.empty((len(frames), self.produced), np.float32)
        size = max(COPIED // len(self.kernel), 1)
        for start in range(0, len(frames), size):
            np.matmul(frames[start : start + size], self.kernel, out=out[start : start + size])
        return out.reshape(-1)[:wanted]
