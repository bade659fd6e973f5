"""Recordings of any number and length through a model, in bounded memory.

W windows, E shared dimension.

Recordings are taken `PORTION` at a time, sorted by length, cut into windows where they are longer than the model was
trained for (see `slap.core.windows`), and computed in batches up to a number of samples. Threads decode ahead of the
model: at no time is more audio in memory than a batch that is computed, a batch that waits, and a window per thread.
Each file is opened once. The batch in which a window is computed does not change its result.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Generic, TypeVar

import torch
from torch import Tensor

from slap.audio.reader import AudioError
from slap.audio.sources import Audio, AudioStream, name_of, source
from slap.core.windows import cut, hop_of, merge, window_weights
from slap.inference.read_ahead import read_ahead

PORTION = 512
"""Recordings whose headers are read, and which are sorted, at once."""

READERS = 2
"""Threads that decode."""

Span = tuple[int, int]
"""The samples at which a window begins and ends."""

Window = tuple[int, Tensor]
"""The sample at which a window begins, and its samples."""

Part = TypeVar("Part")
"""The model's result for a window."""

Whole = TypeVar("Whole")
"""The result for a recording, made of the parts."""


class NotFiniteError(AudioError):
    """A recording that can be read, for which the model gives numbers that are not finite, or no embedding."""


@dataclass(frozen=True, eq=False)
class StreamItem(Generic[Whole]):
    """The result for one recording, or the error.

    Attributes:
        index: its place among the recordings that were passed.
        name: its path, or `recording <index>`.
        seconds: its duration; 0 if it could not be read.
        result: the result; None if it could not be used.
        error: the reason why it could not be used.
    """

    index: int
    name: str
    seconds: float
    result: Whole | None
    error: AudioError | None = None


@dataclass(frozen=True, eq=False)
class WindowJob(Generic[Part, Whole]):
    """The way from recordings to results.

    Attributes:
        compute: takes the samples of some windows, (n_i,) each, and gives a part for each.
        join: takes the parts and the spans of a recording's windows, and gives the whole.
        rate: sample rate of the windows, Hz.
        window: samples that the model takes at once.
        batch: samples per batch; a single window may have more.
        hop: samples from window to window; None is the default overlap.
        readers: threads that decode.
    """

    compute: Callable[[Sequence[Tensor]], Sequence[Part]]
    join: Callable[[list[Part], list[Span]], Whole]
    rate: int
    window: int
    batch: int
    hop: int | None = None
    readers: int = READERS


@dataclass(eq=False)
class _Recording(Generic[Part]):
    """A recording while its windows come and go."""

    index: int
    name: str
    spans: list[Span] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    error: AudioError | None = None


def run(audio: Iterable[Audio | AudioStream], job: WindowJob[Part, Whole]) -> Iterator[StreamItem[Whole]]:
    """Yield an item for each recording when it is done, usable or not; the short ones of a portion come first.

    An `AudioStream` is taken as it is; its name is that of the item.
    """
    rest, first = iter(audio), 0
    while portion := list(islice(rest, PORTION)):
        yield from _portion(portion, first, job)
        first += len(portion)


def _portion(
    audio: Sequence[Audio | AudioStream], first: int, job: WindowJob[Part, Whole]
) -> Iterator[StreamItem[Whole]]:
    found: list[tuple[_Recording[Part], AudioStream]] = []
    most_open = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
    with ExitStack() as files:
        for index, item in enumerate(audio, first):
            try:
                stream = _opened(item, index, job.rate, hold=len(found) < most_open)
            except AudioError as error:
                yield StreamItem(index, name_of(item, index), 0.0, None, error)
            else:
                files.callback(stream.close)
                found.append((_Recording(index, stream.name), stream))
        yield from _results(sorted(found, key=lambda pair: pair[1].samples), job)


def _opened(item: Audio | AudioStream, index: int, rate: int, hold: bool) -> AudioStream:
    return item if isinstance(item, AudioStream) else source(item, index, rate, hold)


def _results(
    found: Sequence[tuple[_Recording[Part], AudioStream]], job: WindowJob[Part, Whole]
) -> Iterator[StreamItem[Whole]]:
    waiting: list[tuple[_Recording[Part], Tensor]] = []
    read: list[_Recording[Part]] = []
    sources = [partial(_windows, stream, job) for _, stream in found]
    with closing(read_ahead(sources, job.readers, job.batch, _size)) as ahead:
        for (recording, _), windows in zip(found, ahead, strict=True):
            try:
                for place, clip in windows:
                    if waiting and sum(len(other) for _, other in waiting) + len(clip) > job.batch:
                        yield from _flush(waiting, read, job)
                    recording.spans.append((place, place + len(clip)))
                    waiting.append((recording, clip))
            except AudioError as error:
                recording.error = error
            read.append(recording)
            if not waiting:
                yield from _flush(waiting, read, job)
        yield from _flush(waiting, read, job)


def _windows(stream: AudioStream, job: WindowJob[Part, Whole]) -> Iterator[Window]:
    return cut(stream.blocks(), job.window, job.hop or hop_of(job.window))


def _size(window: Window) -> int:
    return len(window[1])


def _flush(
    waiting: list[tuple[_Recording[Part], Tensor]], read: list[_Recording[Part]], job: WindowJob[Part, Whole]
) -> Iterator[StreamItem[Whole]]:
    """Compute the windows that wait, and yield the recordings that were read to their end."""
    usable = [(recording, clip) for recording, clip in waiting if recording.error is None]
    if usable:
        parts = job.compute([clip for _, clip in usable])
        for (recording, _), part in zip(usable, parts, strict=True):
            recording.parts.append(part)
    waiting.clear()
    for recording in read:
        yield _finished(recording, job)
    read.clear()


def _finished(recording: _Recording[Part], job: WindowJob[Part, Whole]) -> StreamItem[Whole]:
    error = recording.error
    if error is None and not recording.spans:
        error = AudioError(f"{recording.name} holds no samples")
    if error is not None:
        return StreamItem(recording.index, recording.name, 0.0, None, error)
    seconds = recording.spans[-1][1] / job.rate
    try:
        result = job.join(recording.parts, recording.spans)
    except NotFiniteError as error:
        return StreamItem(recording.index, recording.name, seconds, None, NotFiniteError(f"{recording.name} {error}"))
    return StreamItem(recording.index, recording.name, seconds, result)


def in_order(items: Iterable[StreamItem[Whole]], count: int) -> list[Whole]:
    """Return the results of `count` recordings in the order in which they were passed.

    Raises:
        AudioError: the first of `items` that could not be used.
    """
    results: list[Whole | None] = [None] * count
    for item in items:
        if item.result is None:
            raise item.error or AssertionError("neither result nor error")
        results[item.index] = item.result
    return results  # type: ignore[return-value]  # all are there by now


# -- embeddings -------------------------------------------------------------------------------------------------------


def embed(
    audio: Iterable[Audio], encode: Callable[[Sequence[Tensor]], Tensor], rate: int, window: int, batch: int
) -> Iterator[StreamItem[Tensor]]:
    """Embed recordings: results are (E,) float32 on the CPU, of length 1.

    Args:
        audio: the recordings.
        encode: takes windows, (n_i,) each, and gives a row, (E,), for each.
        rate: see `WindowJob`.
        window: likewise.
        batch: likewise.
    """
    return run(audio, WindowJob(lambda clips: list(encode(clips)), joined, rate, window, batch))


def joined(parts: list[Tensor], spans: list[Span]) -> Tensor:
    """Merge the embeddings of a recording's windows into the recording's, (E,).

    Raises:
        NotFiniteError: it is not finite.
    """
    owner = torch.zeros(len(spans), dtype=torch.int64)
    whole = merge(torch.stack(parts), owner, torch.tensor(window_weights(spans)))[0]
    if not bool(whole.any()):  # NaN is true
        raise NotFiniteError("has an embedding of zeros, which is no direction; are the model's weights whole?")
    return require_finite(whole, "an embedding")


def require_finite(values: Tensor, what: str) -> Tensor:
    """Return what a model gives for a recording.

    Raises:
        NotFiniteError: it is not finite; `_finished` adds the recording's name.
    """
    if not bool(values.isfinite().all()):
        raise NotFiniteError(f"has {what} that is not finite; are the model's weights whole?")
    return values
