"""Audio whose bytes lie within something larger, such as a tar file or a table, and are read from there."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from lhotse import AudioSource


@dataclass
class StoredAudio(AudioSource):
    """A source that reads the bytes of an audio file; `source` names the place where they are stored.

    Args:
        size: of the audio file, in bytes.
    """

    size: int = 0

    def located(self) -> StoredAudio:
        """Return the source where it can be read; what lies on another machine is fetched."""
        return self

    @abstractmethod
    def read(self) -> bytes:
        """Read the bytes of the audio file; any process may.

        Raises:
            OSError: what stores them was cut off or changed.
        """

    def load_audio(self, offset: float = 0.0, duration: float | None = None, **options: Any) -> np.ndarray:
        """Decode (channels, T) float32, a segment of the audio, its offset and duration in seconds."""
        return AudioSource("memory", self.channels, self.read()).load_audio(offset, duration, **options)
