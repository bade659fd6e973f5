"""Sounds for augmentation: noises, or the impulse responses of rooms, from a folder or a manifest.

T samples of a sound.
"""

from __future__ import annotations

import logging
import random
from pathlib import Path

from lhotse import AudioSource, MonoCut, MultiCut, Recording
from lhotse.cut import Cut

from slap.audio.reader import AudioError, header
from slap.audio.scan import SUFFIXES, PassedOver, scan
from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.datamodules.audio.load import decoded, mono
from slap.datamodules.bad_clips import ClipError
from slap.datamodules.manifests.read import read_manifest
from slap.datamodules.manifests.sequence import Clips

TRIES = 10
"""Number of sounds to try; it is an error if none of them can be read."""

log = logging.getLogger(__name__)


class SoundBank:
    """Sounds to draw from.

    Args:
        source: folder of audio files, those in its sub-folders included, or a manifest.

    Raises:
        ValueError: there is no audio in the source, or no such source.
        ManifestError: the manifest has a fault.
    """

    def __init__(self, source: str | Path) -> None:
        self.source = Path(source)
        self._found: list[Path] | Clips
        passed = PassedOver()
        if self.source.is_dir():
            self._found = sorted(self.source / file.path for file in scan(self.source, passed.add))
        elif self.source.is_file():
            self._found = read_manifest(self.source)
        else:
            raise UserError(f"there is no folder and no manifest {self.source}; name one that holds sounds")
        if not len(self._found):
            others = f", only {passed}" if passed else ""
            endings = ", ".join(f".{suffix}" for suffix in SUFFIXES)
            raise UserError(f"there is no audio in {self.source}{others}; files that end in {endings} are read")

    def draw(self, rng: random.Random, rate: int, longest: Seconds | None = None) -> MonoCut:
        """Return a random sound in memory, mono.

        Sounds that cannot be read are logged and left out.

        Args:
            rng: generator to draw from.
            rate: sample rate of the result, Hz.
            longest: largest duration; of a longer sound, a random segment is returned.

        Raises:
            ValueError: `TRIES` sounds in a row cannot be read.
        """
        for _ in range(TRIES):
            number, place = rng.randrange(len(self._found)), rng.random()
            try:
                cut = mono(self._cut(number), rate)
                if longest is not None and cut.duration > longest:
                    cut = cut.truncate(offset=place * (cut.duration - longest), duration=longest)
                return decoded(cut)
            except (ClipError, AudioError) as error:
                log.warning("left out a sound for augmentation: %s", error)
                last = error
        raise UserError(f"{TRIES} sounds of {self.source} in a row cannot be read; the last one: {last}") from last

    def _cut(self, number: int) -> Cut:
        if isinstance(self._found, Clips):
            return self._found[number]
        path = self._found[number]
        found = header(path)
        channels = list(range(found.channels))
        recording = Recording(
            str(path), [AudioSource("file", channels, str(path))], found.rate, found.frames, found.duration
        )
        kind, channel = (MonoCut, 0) if len(channels) == 1 else (MultiCut, channels)
        return kind(str(path), 0.0, found.duration, channel, [], None, recording)
