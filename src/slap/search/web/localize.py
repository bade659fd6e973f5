"""Where in a window a text is heard: the strongest event of the similarity over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soundfile

from slap.inference.model import Localizer, Model


@dataclass(frozen=True)
class Located:
    """A stretch of a file.

    Attributes:
        start: seconds.
        end: seconds.
        similarity: to the text over the whole window, at equal steps; empty where the model gives none.
    """

    start: float
    end: float
    similarity: list[float]


def locate(model: Model, file: BinaryIO, text: str, start: float, end: float) -> Located:
    """The stretch of a window where a text is heard best.

    It is the window itself for models without dense features, and where the similarity hardly changes within it.

    Args:
        model: compares.
        file: an open audio file.
        text: what is looked for.
        start: of the window, seconds.
        end: likewise.

    Raises:
        AudioError: the window cannot be used.
    """
    if not _tells_when(model):
        return Located(start, end, [])
    frames = model.frames(_read(file, start, end), text)
    curve = [round(value, 4) for value in frames.similarity[:, 0].tolist()]
    best = max(frames.events(), key=lambda event: event.score, default=None)
    if best is None:
        return Located(start, end, curve)
    return Located(start + best.onset, min(start + best.offset, end), curve)


def _tells_when(model: Model) -> bool:
    try:
        return isinstance(model.backend, Localizer)
    except ValueError:  # its audio encoder does not say what time its patches stand for
        return False


def _read(file: BinaryIO, start: float, end: float) -> tuple[np.ndarray, int]:
    with soundfile.SoundFile(file) as sound:
        rate = int(sound.samplerate)
        sound.seek(min(round(start * rate), sound.frames))
        return sound.read(round((end - start) * rate), dtype="float32", always_2d=True), rate
