"""Recordings of any number and length to embeddings, in bounded memory.

B recordings, W windows, E shared dimension.

Recordings are taken in portions, sorted by length, cut into windows where they are longer than the model was trained
for (see `slap.windows`), and encoded in batches up to a budget of seconds. At no time is more audio in memory than one
batch and a window. What is embedded together does not change an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from slap.audio_files import AudioError
from slap.audio_input import Audio, Source, name_of, source
from slap.windows import cut, hop_of, merge, shares

PORTION = 512
"""Recordings whose headers are read, and which are sorted, at once."""

Encode = Callable[[Sequence[Tensor]], Tensor]
"""Clips, (n_i,) each, to embeddings, (W, E)."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """What became of one recording.

    Attributes:
        index: its place among those that were passed.
        name: its path, or `recording <index>`.
        seconds: its duration; 0 if it could not be used.
        embedding: (E,) float32 on the CPU, of length 1; None if it could not be used.
        error: why not.
    """

    index: int
    name: str
    seconds: float
    embedding: Tensor | None
    error: AudioError | None = None


@dataclass(eq=False)
class _Recording:
    """A recording while its windows come and go."""

    index: int
    name: str
    spans: list[tuple[int, int]] = field(default_factory=list)
    embeddings: list[Tensor] = field(default_factory=list)
    error: AudioError | None = None


def embed(audio: Sequence[Audio], encode: Encode, rate: int, window: int, batch: int) -> Iterator[Embedded]:
    """Embed recordings; they come back as they are done, the short ones of a portion first.

    Args:
        audio: the recordings.
        encode: the model.
        rate: its sample rate, Hz.
        window: samples that it takes at once.
        batch: samples to encode together, at most, but for a single window that is longer.
    """
    for start in range(0, len(audio), PORTION):
        yield from _portion(audio[start : start + PORTION], start, encode, rate, window, batch)


def _portion(
    audio: Sequence[Audio], first: int, encode: Encode, rate: int, window: int, batch: int
) -> Iterator[Embedded]:
    sources: list[tuple[_Recording, Source]] = []
    for index, item in enumerate(audio, first):
        try:
            found = source(item, index, rate)
        except AudioError as error:
            yield Embedded(index, name_of(item, index), 0.0, None, error)
        else:
            sources.append((_Recording(index, found.name), found))
    waiting: list[tuple[_Recording, Tensor]] = []
    done: list[_Recording] = []
    for recording, found in sorted(sources, key=lambda pair: pair[1].samples):
        try:
            for place, clip in cut(found.blocks(), window, hop_of(window)):
                if waiting and sum(len(other) for _, other in waiting) + len(clip) > batch:
                    yield from _flush(waiting, done, encode, rate)
                recording.spans.append((place, place + len(clip)))
                waiting.append((recording, clip))
        except AudioError as error:
            recording.error = error
        done.append(recording)
    yield from _flush(waiting, done, encode, rate)


def _flush(
    waiting: list[tuple[_Recording, Tensor]], done: list[_Recording], encode: Encode, rate: int
) -> Iterator[Embedded]:
    """Encode what waits, and hand out the recordings whose last window that was."""
    usable = [(recording, clip) for recording, clip in waiting if recording.error is None]
    if usable:
        embeddings = encode([clip for _, clip in usable])
        for (recording, _), embedding in zip(usable, embeddings, strict=True):
            recording.embeddings.append(embedding)
    waiting.clear()
    yield from (_finished(recording, rate) for recording in done)
    done.clear()


def _finished(recording: _Recording, rate: int) -> Embedded:
    if recording.error is not None:
        return Embedded(recording.index, recording.name, 0.0, None, recording.error)
    owner = torch.zeros(len(recording.spans), dtype=torch.int64)
    merged = merge(torch.stack(recording.embeddings), owner, torch.tensor(shares(recording.spans)))[0]
    if not bool(merged.isfinite().all()):
        error = AudioError(f"{recording.name} has an embedding that is not finite; are the model's weights whole?")
        return Embedded(recording.index, recording.name, 0.0, None, error)
    return Embedded(recording.index, recording.name, recording.spans[-1][1] / rate, merged)
