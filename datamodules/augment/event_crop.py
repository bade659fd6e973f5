"""A crop that contains a sound: many short sounds are recorded with seconds of silence around them.

T samples of a clip, F frames.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from lhotse.cut import Cut

from slap.core.units import Seconds
from slap.datamodules.audio.load import load
from slap.datamodules.augment.base import Decibels, RandomTransform
from slap.datamodules.augment.basic import segment

FRAME: Seconds = 0.01


@dataclass(frozen=True)
class EventCrop(RandomTransform):
    """Crop of random length that contains a sound.

    A frame of 10 ms is drawn from those that are nearly as loud as the loudest one, then a segment that contains it. So
    a bark within five seconds of silence stays, where `RandomCrop` may keep silence with the caption of a dog. It must
    stand before `Mix`.

    Args:
        shortest: smallest duration of the crop, seconds; clips that are not longer stay whole.
        longest: largest duration of the crop, seconds.
        within: largest level of the loudest frame over the frame that is drawn, dB.
        seed: seed of the random draws.
    """

    shortest: Seconds = 1.5
    longest: Seconds = 4.0
    within: Decibels = 30.0
    seed: int = 0
    before_mix = True

    def __post_init__(self) -> None:
        fulfilled = 0 < self.shortest <= self.longest and self.within >= 0
        self._require(fulfilled, "0 s < shortest <= longest and within >= 0 dB", "shortest", "longest", "within")

    def transform(self, cut: Cut, rng: random.Random) -> Cut:
        """Return a segment of the cut that contains a loud frame."""
        rate = cut.sampling_rate
        size = max(round(rng.uniform(self.shortest, self.longest) * rate), 1)
        if size >= cut.num_samples:
            return cut
        frame = max(round(FRAME * rate), 1)
        loud = rng.choice(loud_frames(load(cut).numpy(), frame, self.within).tolist()) * frame
        return segment(cut, min(max(loud - rng.randrange(size), 0), cut.num_samples - size), size)


def loud_frames(samples: np.ndarray, frame: int, within: Decibels) -> np.ndarray:
    """Return the frames whose power is at most `within` below that of the loudest one.

    Args:
        samples: (T,); the samples after the last whole frame do not count, unless there is no whole frame.
        frame: samples per frame.
        within: difference in level, dB; in silence, all frames are as loud as the loudest.

    Returns:
        Indices of frames, at least one, below F = T // frame or 1.

    Example:
        >>> loud_frames(np.array([0.0, 0.1, 0.9, 1.0, 0.5, 0.4]), frame=2, within=10.0)
        array([1, 2])
    """
    power = frame_powers(samples, frame)
    return np.flatnonzero(power >= power.max() * 10 ** (-within / 10))


def frame_powers(samples: np.ndarray, frame: int) -> np.ndarray:
    """Return the mean power of each frame, (F,) float64; arguments as of `loud_frames`."""
    count = len(samples) // frame
    frames = samples[: count * frame].reshape(count, frame) if count else samples[None]
    power: np.ndarray = np.square(frames, dtype=np.float64).mean(1)
    return power
