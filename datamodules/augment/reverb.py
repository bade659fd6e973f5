"""Reverberation by recorded impulse responses of rooms, or by random ones."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from lhotse import Recording
from lhotse.augmentation.utils import FastRandomRIRGenerator
from lhotse.cut import Cut, MixedCut
from lhotse.utils import fastcopy

from slap.core.units import Seconds
from slap.datamodules.audio.load import DecodedSource, mixed_down
from slap.datamodules.augment.base import RandomTransform
from slap.datamodules.augment.sound_bank import SoundBank

LONGEST: Seconds = 4.0
"""Largest duration of an impulse response; longer ones are cut off."""


@dataclass(frozen=True)
class RandomReverb(RandomTransform):
    """Reverberation of a room; clips keep their length and their energy.

    Args:
        impulses: folder or manifest of impulse responses. None generates random ones of small and large rooms
            (arXiv 2208.04101).
        probability: probability that a clip gets a room.
        rooms: number of random rooms. Generating one takes some 60 ms of one core, once per process.
        seed: seed of the random draws.
    """

    impulses: str | Path | None = None
    probability: float = 0.5
    rooms: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.rooms >= 1, "rooms >= 1", "rooms")
        if self.impulses is not None:
            _ = self._bank  # a folder that does not exist is an error now

    @cached_property
    def _bank(self) -> SoundBank:
        assert self.impulses is not None
        return SoundBank(self.impulses)

    def transform(self, cut: Cut, rng: random.Random) -> Cut:
        """Return the cut in a room."""
        if isinstance(cut, MixedCut):
            cut = fastcopy(mixed_down(cut), custom=cut.custom)
        return cut.reverb_rir(rir_recording=self._impulse(rng, cut.sampling_rate), affix_id=False)

    def _impulse(self, rng: random.Random, rate: int) -> Recording:
        if self.impulses is None:
            return random_room(rng.randrange(self.rooms), rate)
        return self._bank.draw(rng, rate, LONGEST).recording


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
