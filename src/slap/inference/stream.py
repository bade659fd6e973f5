"""Recordings of any number and length through a model, in bounded memory.

B recordings, W windows, E shared dimension.

Recordings are taken in portions, sorted by length, cut into windows where they are longer than the model was trained
for (see `slap.core.windows`), and computed in batches up to a budget of seconds. At no time is more audio in memory
than one
batch and a window. What is computed together does not change a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

from slap.audio.reader import AudioError
from slap.audio.sources import Audio, AudioStream, name_of, source
from slap.core.windows import cut, hop_of, merge, window_weights

PORTION = 512
"""Recordings whose headers are read, and which are sorted, at once."""

Span = tuple[int, int]
"""Where a window begins and ends, in samples."""

Part = TypeVar("Part")
"""What the model makes of a window."""

Whole = TypeVar("Whole")
"""What the parts of a recording become together."""


@dataclass(frozen=True, eq=False)
class StreamItem(Generic[Whole]):
    """What became of one recording.

    Attributes:
        index: its place among those that were passed.
        name: its path, or `recording <index>`.
        seconds: its duration; 0 if it could not be used.
        result: what was made of it; None if it could not be used.
        error: why not.
    """

    index: int
    name: str
    seconds: float
    result: Whole | None
    error: AudioError | None = None


@dataclass(frozen=True, eq=False)
class WindowJob(Generic[Part, Whole]):
    """How recordings become results.

    Attributes:
        compute: clips, (n_i,) each, to a part for each.
        join: the parts and the spans of a recording's windows to the whole.
        rate: of the clips, Hz.
        window: samples that the model takes at once.
        batch: samples to compute together, at most, but for a single window that is longer.
    """

    compute: Callable[[Sequence[Tensor]], Sequence[Part]]
    join: Callable[[list[Part], list[Span]], Whole]
    rate: int
    window: int
    batch: int


@dataclass(eq=False)
class _Recording(Generic[Part]):
    """A recording while its windows come and go."""

    index: int
    name: str
    spans: list[Span] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    error: AudioError | None = None


def run(audio: Sequence[Audio], plan: WindowJob[Part, Whole]) -> Iterator[StreamItem[Whole]]:
    """Results as they are done, the short recordings of a portion first, those that cannot be used among them."""
    for start in range(0, len(audio), PORTION):
        yield from _portion(audio[start : start + PORTION], start, plan)


def _portion(audio: Sequence[Audio], first: int, plan: WindowJob[Part, Whole]) -> Iterator[StreamItem[Whole]]:
    sources: list[tuple[_Recording[Part], AudioStream]] = []
    for index, item in enumerate(audio, first):
        try:
            found = source(item, index, plan.rate)
        except AudioError as error:
            yield StreamItem(index, name_of(item, index), 0.0, None, error)
        else:
            sources.append((_Recording(index, found.name), found))
    waiting: list[tuple[_Recording[Part], Tensor]] = []
    read: list[_Recording[Part]] = []
    for recording, found in sorted(sources, key=lambda pair: pair[1].samples):
        try:
            for place, clip in cut(found.blocks(), plan.window, hop_of(plan.window)):
                if waiting and sum(len(other) for _, other in waiting) + len(clip) > plan.batch:
                    yield from _flush(waiting, read, plan)
                recording.spans.append((place, place + len(clip)))
                waiting.append((recording, clip))
        except AudioError as error:
            recording.error = error
        read.append(recording)
    yield from _flush(waiting, read, plan)


def _flush(
    waiting: list[tuple[_Recording[Part], Tensor]], read: list[_Recording[Part]], plan: WindowJob[Part, Whole]
) -> Iterator[StreamItem[Whole]]:
    """Compute what waits, and hand out the recordings that were read to their end."""
    usable = [(recording, clip) for recording, clip in waiting if recording.error is None]
    if usable:
        parts = plan.compute([clip for _, clip in usable])
        for (recording, _), part in zip(usable, parts, strict=True):
            recording.parts.append(part)
    waiting.clear()
    for recording in read:
        yield _finished(recording, plan)
    read.clear()


def _finished(recording: _Recording[Part], plan: WindowJob[Part, Whole]) -> StreamItem[Whole]:
    if recording.error is not None:
        return StreamItem(recording.index, recording.name, 0.0, None, recording.error)
    seconds = recording.spans[-1][1] / plan.rate
    return StreamItem(recording.index, recording.name, seconds, plan.join(recording.parts, recording.spans))


# -- embeddings -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Embedded:
    """What became of one recording that was to be embedded.

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


def embed(
    audio: Sequence[Audio], encode: Callable[[Sequence[Tensor]], Tensor], rate: int, window: int, batch: int
) -> Iterator[Embedded]:
    """Embed recordings; for the arguments see `WindowJob`; `encode` gives a row, (E,), a clip."""
    plan = WindowJob(lambda clips: list(encode(clips)), joined, rate, window, batch)
    for done in run(audio, plan):
        error = done.error
        if done.result is not None and not bool(done.result.isfinite().all()):
            error = AudioError(f"{done.name} has an embedding that is not finite; are the model's weights whole?")
        seconds = 0.0 if error else done.seconds
        yield Embedded(done.index, done.name, seconds, None if error else done.result, error)


def joined(parts: list[Tensor], spans: list[Span]) -> Tensor:
    """The embedding, (E,), of a recording from those of its windows."""
    owner = torch.zeros(len(spans), dtype=torch.int64)
    return merge(torch.stack(parts), owner, torch.tensor(window_weights(spans)))[0]
