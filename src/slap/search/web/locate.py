"""The place in a window where a text is heard."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from slap.audio.player_clock import on_clock
from slap.audio.reader import AudioFile
from slap.core.units import Seconds
from slap.inference.backend import Localizer
from slap.inference.embedding import tensors
from slap.inference.model import Model


@dataclass(frozen=True)
class Located:
    """A part of a file.

    Attributes:
        start: on the clock of a player.
        end: likewise.
        similarity: to the text over the whole window, at equal steps; empty where the model gives none.
    """

    start: Seconds
    end: Seconds
    similarity: list[float]


def locate(model: Model, file: AudioFile, text: str, start: Seconds, end: Seconds) -> Located:
    """Find the part of a window where a text is heard best: the strongest event of the similarity over time.

    It is the window itself for models without dense features, and where the similarity hardly changes within it.

    Args:
        model: compares.
        file: an open audio file.
        text: the description of the sound.
        start: of the window, on the clock of a player.
        end: likewise.

    Raises:
        AudioError: the window cannot be used.
    """
    if not _localizes(model):
        return Located(start, end, [])
    window = torch.cat(tensors(list(on_clock(file, model.sample_rate, start, end))))
    frames = model.frames(window, text)
    curve = [round(value, 4) for value in frames.similarity[:, 0].tolist()]
    best = max(frames.events(), key=lambda event: event.score, default=None)
    if best is None:
        return Located(start, end, curve)
    return Located(start + best.onset, min(start + best.offset, end), curve)


def _localizes(model: Model) -> bool:
    try:
        return isinstance(model.backend, Localizer)
    except ValueError:  # its audio encoder does not say what time its patches stand for
        return False
