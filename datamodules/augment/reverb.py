"""Rooms around clips: reverberation by recorded impulse responses, or by random ones."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from lhotse import CutSet, Recording
from lhotse.augmentation.utils import FastRandomRIRGenerator
from lhotse.cut import Cut, MixedCut
from lhotse.utils import fastcopy

from slap.core.units import Seconds
from slap.datamodules.audio.load import DecodedSource, mixed_down
from slap.datamodules.augment.basic import draw_of
from slap.datamodules.augment.sound_bank import Sounds

LONGEST: Seconds = 4.0
"""Of an impulse response; what comes later is not heard."""


@dataclass(frozen=True)
class RandomReverb:
    """Puts clips into rooms; they keep their length and their energy.

    Args:
        impulses: a folder or a manifest of impulse responses. None makes random ones of small and large rooms
            (arXiv 2208.04101).
        probability: that a clip gets a room.
        rooms: how many random ones there are. Making one takes a core some 60 ms, once for each process.
        seed: of the choice.
    """

    impulses: str | Path | None = None
    probability: float = 0.5
    rooms: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1 or self.rooms < 1:
            raise ValueError(
                f"probability must be within 0 to 1 and rooms at least 1; "
                f"got probability={self.probability}, rooms={self.rooms}"
            )
        if self.impulses is not None:
            _ = self._sounds  # a folder that is not there shows now

    @cached_property
    def _sounds(self) -> Sounds:
        assert self.impulses is not None
        return Sounds(self.impulses)

    def __call__(self, cuts: CutSet) -> CutSet:
        """Draw for each cut."""
        return CutSet([self._one(cut) for cut in cuts])

    def _one(self, cut: Cut) -> Cut:
        rng = draw_of(self, cut)
        if rng.random() >= self.probability:
            return cut
        if isinstance(cut, MixedCut):
            cut = fastcopy(mixed_down(cut), custom=cut.custom)
        return cut.reverb_rir(rir_recording=self._impulse(rng, cut.sampling_rate), affix_id=False)

    def _impulse(self, rng: random.Random, rate: int) -> Recording:
        if self.impulses is not None:
            return self._sounds.draw(rng, rate, LONGEST).recording
        return random_room(rng.randrange(self.rooms), rate)


@lru_cache(maxsize=1000)  # 30 kB each
def random_room(number: int, rate: int) -> Recording:
    """Return the impulse response of a random room, the same for the same number."""
    # Lhotse's generator also draws from torch's global one, and numpy 2 warns of how it mixes tensors and arrays.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), _one_thread():
        warnings.filterwarnings("ignore", "__array_wrap__ must accept", DeprecationWarning)
        torch.manual_seed(number)
        samples = FastRandomRIRGenerator(sr=rate, room_seed=number, source_seed=number)()
    source = DecodedSource("memory", [0], samples.astype("float32"), rate=rate)
    return Recording("room", [source], rate, samples.shape[1], samples.shape[1] / rate)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch in one thread: of reflections at one place, threads would let a different one win each time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
