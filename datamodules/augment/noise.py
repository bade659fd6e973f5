"""Noise under clips: recorded or generated.

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
from lhotse import MonoCut
from lhotse.cut import Cut
from lhotse.utils import fastcopy

from slap.datamodules.audio.load import mixed_down, with_samples
from slap.datamodules.augment.base import Decibels, RandomTransform
from slap.datamodules.augment.sound_bank import SoundBank

COLOURS = {"white": 0.0, "pink": -0.5, "brown": -1.0}
"""Exponents: the amplitude of a noise is proportional to this power of the frequency."""


@dataclass(frozen=True)
class RandomNoise(RandomTransform):
    """Noise added to clips, which keep their captions and their length.

    Args:
        noises: folder or manifest of noises; a longer one is cropped, a shorter one is repeated. None generates noise
            of a random color.
        probability: probability that a clip gets noise.
        low: lowest level of the clip relative to the noise, dB.
        high: highest level of the clip relative to the noise, dB.
        colours: colours of generated noise to choose from: white, pink, brown.
        seed: seed of the random draws.
    """

    noises: str | Path | None = None
    probability: float = 0.5
    low: Decibels = 5.0
    high: Decibels = 25.0
    colours: Sequence[str] = ("white", "pink", "brown")
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.low <= self.high, "low <= high, in dB", "low", "high")
        valid = len(self.colours) > 0 and set(self.colours) <= set(COLOURS)
        self._require(valid, f"colours from {', '.join(COLOURS)}", "colours")
        if self.noises is not None:
            _ = self._bank  # a folder that does not exist is an error now

    @cached_property
    def _bank(self) -> SoundBank:
        assert self.noises is not None
        return SoundBank(self.noises)

    def transform(self, cut: Cut, rng: random.Random) -> Cut:
        """Return the cut with noise, as one track."""
        noise = self._noise(rng, cut)
        noisy = cut.mix(noise, snr=rng.uniform(self.low, self.high), preserve_id="left")
        # One track again, so that later transforms need no special case; a mix has no custom fields of its own.
        return fastcopy(mixed_down(noisy), supervisions=cut.supervisions, custom=cut.custom)

    def _noise(self, rng: random.Random, cut: Cut) -> MonoCut:
        rate, size = cut.sampling_rate, cut.num_samples
        if self.noises is None:
            samples = colored(size, COLOURS[rng.choice(list(self.colours))], rng.randrange(2**32))
        else:
            drawn = self._bank.draw(rng, rate, cut.duration).load_audio()[0]
            samples = np.resize(drawn, size)  # repeats it
        return with_samples(
            MonoCut(f"noise {cut.id}", 0.0, size / rate, 0, [], None, cut.recording), torch.from_numpy(samples)
        )


def colored(size: int, power: float, seed: int) -> np.ndarray:
    """Generate noise whose amplitude is proportional to a power of the frequency.

    Args:
        size: T.
        power: exponent of the frequency: 0 is white, -0.5 pink, -1 brown.
        seed: seed of the noise.

    Returns:
        (T,) float32, with a mean square of 1.
    """
    white = np.random.default_rng(seed).standard_normal(size)
    spectrum = np.fft.rfft(white)
    frequencies = np.maximum(np.arange(len(spectrum)), 1)
    noise = np.fft.irfft(spectrum * frequencies**power, size)
    return (noise / max(np.sqrt(np.mean(noise**2)), 1e-9)).astype(np.float32)
