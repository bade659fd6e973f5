"""Other microphones and rooms: a random curve over the frequencies.

T samples of a clip, P points of the curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lhotse import AudioSource, CutSet, MonoCut, Recording
from lhotse.cut import Cut

from slap.datamodules.audio.decode import LARGEST, checked
from slap.datamodules.augment.basic import Decibels, draw_of

LOWEST = 50.0
"""Hz: where the curve begins; it stays level below."""


@dataclass
class Filtered(AudioSource):
    """A source that reads another cut through a filter; `source` is that cut."""

    gains: Sequence[Decibels] = ()
    largest: int = LARGEST

    def load_audio(self, offset: float = 0.0, duration: float | None = None, **_: Any) -> np.ndarray:
        """(1, T) float32, a stretch of the cut; the filter runs on that stretch alone."""
        cut = self.source if not offset and duration is None else self.source.truncate(offset=offset, duration=duration)
        return filtered(checked(cut, self.largest).load_audio(), cut.sampling_rate, self.gains)


@dataclass(frozen=True)
class RandomFilter:
    """Makes some frequencies of each clip louder and others quieter, as another microphone or another room would.

    The gains of P points are drawn uniformly, and the filter goes straight from one to the next, in dB over the
    logarithm of the frequency. As FilterAugment (arXiv 2110.03282) with linear filters, but on waveforms and with
    points at fixed places (our choice, so that clips can be mixed after it).

    Args:
        spread: gains are drawn from -spread to spread.
        points: P, evenly spaced over the octaves from 50 Hz to half the sample rate.
        seed: of the choice.
    """

    spread: Decibels = 6.0
    points: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.spread < 0 or self.points < 2:
            raise ValueError(
                f"spread must not be negative and points at least 2, got spread={self.spread} dB, points={self.points}"
            )

    def __call__(self, cuts: CutSet) -> CutSet:
        """Draw for each cut."""
        return CutSet([self._one(cut) for cut in cuts])

    def _one(self, cut: Cut) -> Cut:
        rng = draw_of(self, cut)
        gains = tuple(rng.uniform(-self.spread, self.spread) for _ in range(self.points))
        source = Filtered("memory", [0], cut, gains=gains)
        recording = Recording(cut.id, [source], cut.sampling_rate, cut.num_samples, cut.duration)
        return MonoCut(cut.id, 0.0, cut.duration, 0, list(cut.supervisions), None, recording, cut.custom)


def filtered(samples: np.ndarray, sample_rate: int, gains: Sequence[Decibels]) -> np.ndarray:
    """Samples through a filter without delay.

    Args:
        samples: (..., T).
        sample_rate: Hz.
        gains: of the P points.

    Returns:
        (..., T) float32.
    """
    spectrum = np.fft.rfft(samples, axis=-1)
    frequency = np.fft.rfftfreq(samples.shape[-1], 1 / sample_rate)
    points = np.geomspace(LOWEST, sample_rate / 2, len(gains))
    curve = np.interp(np.log(np.maximum(frequency, LOWEST)), np.log(points), gains)
    return np.fft.irfft(spectrum * 10 ** (curve / 20), samples.shape[-1], axis=-1).astype(np.float32)
