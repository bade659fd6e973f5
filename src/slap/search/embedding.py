"""Windows of many files are embedded in batches, and gathered into files again.

W windows, T samples of a window, E shared dimension.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from slap.audio.scan import Found
from slap.inference.model import Model
from slap.search.reading import Bad, Whole, Window

BATCH_SECONDS = 160.0
"""Audio that is embedded at once."""

BATCH_WINDOWS = 256


class Finished(NamedTuple):
    """A file of which all is known.

    Attributes:
        end: how it ended.
        windows: start and end in seconds and the embedding, (E,); none if the file is bad.
    """

    end: Whole | Bad
    windows: list[tuple[float, float, np.ndarray]]


class Embedding:
    """Takes what is read in any order and gives finished files.

    Args:
        model: embeds.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._batch: list[Window] = []
        self._seconds = 0.0
        self._windows: defaultdict[Found, list[tuple[float, float, np.ndarray]]] = defaultdict(list)
        self._ended: list[Whole | Bad] = []

    def add(self, item: Window | Whole | Bad) -> list[Finished]:
        """Take one item; the files that are finished by it."""
        if not isinstance(item, Window):
            self._ended.append(item)
            return [] if any(window.file == item.file for window in self._batch) else self._gather()
        self._batch.append(item)
        self._seconds += item.end - item.start
        return self.flush() if self._seconds >= BATCH_SECONDS or len(self._batch) >= BATCH_WINDOWS else []

    def flush(self) -> list[Finished]:
        """Embed what waits; the files that are finished by it."""
        if self._batch:
            vectors = self.model.embed_audio([window.samples for window in self._batch]).numpy()
            for window, vector in zip(self._batch, vectors, strict=True):
                self._windows[window.file].append((window.start, window.end, vector))
        self._batch, self._seconds = [], 0.0
        return self._gather()

    def _gather(self) -> list[Finished]:
        waiting = {window.file for window in self._batch}
        ready = [end for end in self._ended if end.file not in waiting]
        self._ended = [end for end in self._ended if end.file in waiting]
        windows = {end.file: self._windows.pop(end.file, []) for end in ready}
        return [Finished(end, [] if isinstance(end, Bad) else windows[end.file]) for end in ready]
