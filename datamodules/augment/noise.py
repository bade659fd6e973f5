"""Noise under clips: of recordings, or made on the spot.

T samples of a clip.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from lhotse import CutSet, MonoCut
from lhotse.cut import Cut
from lhotse.utils import fastcopy

from slap.datamodules.audio.load import mixed_down, with_samples
from slap.datamodules.augment.basic import Decibels, draw_of
from slap.datamodules.augment.sound_bank import Sounds

COLOURS = {"white": 0.0, "pink": -0.5, "brown": -1.0}
"""By name the power of the frequency that the amplitudes of a noise go with."""


@dataclass(frozen=True)
class RandomNoise:
    """Lays noise under clips, which keep their captions and their length.

    Args:
        noises: a folder or a manifest of noises; of a longer one a stretch is taken, a shorter one is repeated. None
            makes noise of a random colour.
        probability: that a clip gets noise.
        low: the lowest level of the clip over the noise, dB.
        high: the highest.
        colours: of what is made: white, pink, brown.
        seed: of the choice.
    """

    noises: str | Path | None = None
    probability: float = 0.5
    low: Decibels = 5.0
    high: Decibels = 25.0
    colours: Sequence[str] = ("white", "pink", "brown")
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1 or not self.low <= self.high:
            raise ValueError(
                f"probability must be within 0 to 1 and low not above high; "
                f"got probability={self.probability}, low={self.low}, high={self.high}"
            )
        if not self.colours or not set(self.colours) <= set(COLOURS):
            raise ValueError(f"colours must be some of {', '.join(COLOURS)}; got {list(self.colours)}")
        if self.noises is not None:
            _ = self._sounds  # a folder that is not there shows now

    @cached_property
    def _sounds(self) -> Sounds:
        assert self.noises is not None
        return Sounds(self.noises)

    def __call__(self, cuts: CutSet) -> CutSet:
        """Draw for each cut."""
        return CutSet([self._one(cut) for cut in cuts])

    def _one(self, cut: Cut) -> Cut:
        rng = draw_of(self, cut)
        if rng.random() >= self.probability:
            return cut
        noise = self._noise(rng, cut)
        noisy = cut.mix(noise, snr=rng.uniform(self.low, self.high), preserve_id="left")
        # One track again, so that what comes after need not know; a mix has no custom fields of its own.
        return fastcopy(mixed_down(noisy), supervisions=cut.supervisions, custom=cut.custom)

    def _noise(self, rng: random.Random, cut: Cut) -> MonoCut:
        rate, size = cut.sampling_rate, cut.num_samples
        if self.noises is None:
            samples = coloured(size, COLOURS[rng.choice(list(self.colours))], rng.randrange(2**32))
        else:
            drawn = self._sounds.draw(rng, rate, cut.duration).load_audio()[0]
            samples = np.resize(drawn, size)  # repeats it
        return with_samples(
            MonoCut(f"noise {cut.id}", 0.0, size / rate, 0, [], None, cut.recording), torch.from_numpy(samples)
        )


def coloured(size: int, power: float, seed: int) -> np.ndarray:
    """Noise whose amplitude goes with a power of the frequency.

    Args:
        size: T.
        power: 0 is white, -0.5 pink, -1 brown.
        seed: of the noise.

    Returns:
        (T,) float32, of a mean square of 1.
    """
    white = np.random.default_rng(seed).standard_normal(size)
    spectrum = np.fft.rfft(white)
    frequencies = np.maximum(np.arange(len(spectrum)), 1)
    noise = np.fft.irfft(spectrum * frequencies**power, size)
    return (noise / max(np.sqrt(np.mean(noise**2)), 1e-9)).astype(np.float32)
