"""A crop that does not miss what the caption speaks of: a short sound is often recorded with seconds of silence.

T samples of a clip, F frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from lhotse import CutSet
from lhotse.cut import Cut, MixedCut

from slap.core.units import Seconds
from slap.datamodules.audio.load import load
from slap.datamodules.augment.basic import Decibels, draw_of

FRAME: Seconds = 0.01


@dataclass(frozen=True)
class EventCrop:
    """Keeps a stretch of each clip, of random length, in which something is heard.

    A frame of 10 ms is drawn from those that are nearly as loud as the loudest one, then a stretch that holds it. So a
    bark within five seconds of silence stays, where `RandomCrop` may leave silence to be called a dog. It stands before
    `Mix`.

    Args:
        shortest: what is kept at least; clips that are not longer stay whole.
        longest: what is kept at most.
        within: how far below the loudest frame a frame may be to be drawn.
        seed: of the choice.
    """

    shortest: Seconds = 1.5
    longest: Seconds = 4.0
    within: Decibels = 30.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.shortest <= self.longest or self.within < 0:
            raise ValueError(
                f"0 < shortest <= longest and within >= 0 are needed; "
                f"got shortest={self.shortest}, longest={self.longest} s, within={self.within} dB"
            )

    def __call__(self, cuts: CutSet) -> CutSet:
        """Draw for each cut."""
        return CutSet([self._one(cut) for cut in cuts])

    def _one(self, cut: Cut) -> Cut:
        if isinstance(cut, MixedCut):
            raise ValueError("EventCrop must stand before Mix: it could cut a clip away that the caption names")
        rng = draw_of(self, cut)
        rate = cut.sampling_rate
        size = max(round(rng.uniform(self.shortest, self.longest) * rate), 1)
        if size >= cut.num_samples:
            return cut
        frame = max(round(FRAME * rate), 1)
        heard = rng.choice(loud_frames(load(cut).numpy(), frame, self.within).tolist()) * frame
        start = min(max(heard - rng.randrange(size), 0), cut.num_samples - size)
        return cut.truncate(offset=start / rate, duration=size / rate, preserve_id=True)


def loud_frames(samples: np.ndarray, frame: int, within: Decibels) -> np.ndarray:
    """The frames whose power is at most `within` below that of the loudest one.

    Args:
        samples: (T,); what is left beyond whole frames does not count, unless there is no whole frame.
        frame: samples of a frame.
        within: in dB; of silence, all frames are as loud as the loudest.

    Returns:
        Indices of frames, at least one, below F = T // frame or 1.

    Example:
        >>> loud_frames(np.array([0.0, 0.1, 0.9, 1.0, 0.5, 0.4]), frame=2, within=10.0)
        array([1, 2])
    """
    count = len(samples) // frame
    frames = samples[: count * frame].reshape(count, frame) if count else samples[None]
    power = np.square(frames, dtype=np.float64).mean(1)
    return np.flatnonzero(power >= power.max() * 10 ** (-within / 10))
