"""Random filters, as of other microphones and rooms: a gain for each frequency.

T samples of a clip, P points of the curve.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lhotse import AudioSource, MonoCut, Recording
from lhotse.cut import Cut

from slap.datamodules.audio.decode import LARGEST, checked
from slap.datamodules.augment.base import Decibels, RandomTransform

LOWEST = 50.0
"""Lowest frequency of the curve, Hz; below it the gain is constant."""

MARGIN = 1024
"""Samples of silence after a clip at least, and the factor of the length of its Fourier transform."""


@dataclass
class Filtered(AudioSource):
    """A source that filters another cut; `source` is that cut."""

    gains: Sequence[Decibels] = ()
    largest: int = LARGEST

    def load_audio(self, offset: float = 0.0, duration: float | None = None, **_: Any) -> np.ndarray:
        """Return (1, T) float32, a filtered segment of the cut; the filter reads no samples outside the segment."""
        cut = self.source if not offset and duration is None else self.source.truncate(offset=offset, duration=duration)
        return filtered(checked(cut, self.largest).load_audio(), cut.sampling_rate, self.gains)


@dataclass(frozen=True)
class RandomFilter(RandomTransform):
    """Random gain for each frequency, as of another microphone or another room.

    The gains of P points are drawn uniformly, and the filter goes straight from one to the next, in dB over the
    logarithm of the frequency. As FilterAugment (arXiv 2110.03282) with linear filters, but on waveforms and with
    points at fixed places (our choice, so that clips can be mixed after it).

    Args:
        spread: gains are drawn from -spread to spread, dB.
        points: number of points P, evenly spaced over the octaves from 50 Hz to half the sample rate.
        seed: seed of the random draws.
    """

    spread: Decibels = 6.0
    points: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        fulfilled = self.spread >= 0 and self.points >= 2
        self._require(fulfilled, "spread >= 0 dB and points >= 2", "spread", "points")

    def transform(self, cut: Cut, rng: random.Random) -> Cut:
        """Return a cut that reads this one through a random filter."""
        gains = tuple(rng.uniform(-self.spread, self.spread) for _ in range(self.points))
        source = Filtered("memory", [0], cut, gains=gains)
        recording = Recording(cut.id, [source], cut.sampling_rate, cut.num_samples, cut.duration)
        return MonoCut(cut.id, 0.0, cut.duration, 0, list(cut.supervisions), None, recording, cut.custom)


def filtered(samples: np.ndarray, sample_rate: int, gains: Sequence[Decibels]) -> np.ndarray:
    """Filter samples without delay.

    Args:
        samples: (..., T).
        sample_rate: sample rate, Hz.
        gains: gains of the P points, dB.

    Returns:
        (..., T) float32.
    """
    length = samples.shape[-1]
    size = (
        -(-(length + MARGIN) // MARGIN) * MARGIN
    )  # of small factors; silence after the clip, so that no end meets the other
    spectrum = torch.fft.rfft(torch.from_numpy(samples).float(), size)
    frequency = np.fft.rfftfreq(size, 1 / sample_rate)
    points = np.geomspace(LOWEST, sample_rate / 2, len(gains))
    curve = np.interp(np.log(np.maximum(frequency, LOWEST)), np.log(points), gains)
    result: np.ndarray = torch.fft.irfft(spectrum * torch.from_numpy(10 ** (curve / 20)).float(), size)[
        ..., :length
    ].numpy()
    return result
