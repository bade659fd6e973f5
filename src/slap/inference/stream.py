"""Recordings of any number and length through a model, in bounded memory.

This module needs numpy alone; `slap.inference.embedding` and `slap.inference.jobs` are what it does with networks.

Recordings are taken `PORTION` at a time, sorted by length, cut into windows where they are longer than the model was
trained for (see `slap.core.windows`), and computed in batches up to a number of samples. Threads decode ahead of the
model: at no time is more audio in memory than a batch that is computed, a batch that waits, and a window per thread.
Each file is opened once. The batch in which a window is computed does not change its result.

One bad recording costs one recording: whatever its reading raises, but a lack of memory, becomes the error of its item.
What the model raises is raised.
"""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Generic, TypeVar

import numpy as np

from slap.audio.errors import AudioError, Guard
from slap.audio.level import SILENT, Level
from slap.audio.recordings import Audio, name_of, open_file, source
from slap.audio.sources import AudioStream
from slap.core.units import Seconds
from slap.core.windows import cut, hop_of
from slap.inference.read_ahead import read_ahead

PORTION = 512
"""Recordings whose headers are read, and which are sorted, at once."""

BATCH_SECONDS = 120.0
"""Seconds of audio per batch; more is faster on a GPU, less takes less memory."""

READERS = 2
"""Threads that decode."""

Span = tuple[int, int]
"""The samples at which a window begins and ends."""

log = logging.getLogger(__name__)

Window = tuple[int, np.ndarray]
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
        note: a word about a recording that was used: it is silent, or was cut short; empty if there is none.
        silent: nothing is heard in it, see `slap.audio.level`.
        begins: time of its first sample on a player's clock; above 0 in a video whose audio starts late.
    """

    index: int
    name: str
    seconds: Seconds
    result: Whole | None
    error: AudioError | None = None
    note: str = ""
    silent: bool = False
    begins: Seconds = 0.0


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
        silence: gives the result for a silent recording; None joins its parts as for any other.
    """

    compute: Callable[[Sequence[np.ndarray]], Sequence[Part]]
    join: Callable[[list[Part], list[Span]], Whole]
    rate: int
    window: int
    batch: int
    hop: int | None = None
    readers: int = READERS
    silence: Callable[[], Whole] | None = None


@dataclass(eq=False)
class _Recording(Generic[Part]):
    """A recording while its windows come and go."""

    index: int
    stream: AudioStream
    level: Level = field(default_factory=Level)
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


def opened(item: Audio | AudioStream, index: int, rate: int, hold: bool = True) -> AudioStream:
    """Return a recording to be read in blocks; for the arguments see `slap.audio.recordings.source`.

    Raises:
        AudioError: it cannot be opened, whatever the reason.
    """
    if isinstance(item, AudioStream):
        return item
    with Guard(name_of(item, index), "cannot be read"):
        return source(item, index, rate, hold)


def blocks_of(stream: AudioStream, level: Level) -> Iterator[np.ndarray]:
    """Yield the blocks of a recording, (n_i,) each, and measure its level.

    Raises:
        AudioError: it cannot be read, whatever the reason.
    """
    with Guard(stream.name, "cannot be read"):
        for block in stream.blocks():
            if len(block):
                level.add(block)
            yield block


def note_of(stream: AudioStream, level: Level) -> str:
    """Return a word about a recording that was read to its end; empty if there is nothing to say."""
    silence = f"it is silent ({level}; below {SILENT:g} dBFS nothing is heard)" if level.silent else ""
    return "; ".join(filter(None, [silence, stream.about.note]))


def _portion(
    audio: Sequence[Audio | AudioStream], first: int, job: WindowJob[Part, Whole]
) -> Iterator[StreamItem[Whole]]:
    found: list[_Recording[Part]] = []
    shared: set[int] = set()  # open files of the user
    most_open = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
    with ExitStack() as files:
        for index, item in enumerate(audio, first):
            name = item.name if isinstance(item, AudioStream) else name_of(item, index)
            try:
                _check_open_file(item, name, shared)
                stream = opened(item, index, job.rate, hold=len(found) < most_open)
            except AudioError as error:
                yield StreamItem(index, name, 0.0, None, error)
            else:
                files.callback(stream.close)
                found.append(_Recording(index, stream))
        yield from _results(sorted(found, key=lambda recording: recording.stream.samples), job)


def _check_open_file(item: Audio | AudioStream, name: str, shared: set[int]) -> None:
    """Refuse a file that was passed open twice, in which two threads would seek; the others are noted."""
    file = open_file(item)
    if file is not None and id(file) in shared:
        raise AudioError(f"{name} is the same open file as another recording; open it twice, or pass its path")
    shared.add(id(file))


def _results(found: Sequence[_Recording[Part]], job: WindowJob[Part, Whole]) -> Iterator[StreamItem[Whole]]:
    waiting: list[tuple[_Recording[Part], np.ndarray]] = []
    read: list[_Recording[Part]] = []
    sources = [partial(_windows, recording, job) for recording in found]
    with closing(read_ahead(sources, job.readers, job.batch, _size)) as ahead:
        for recording, windows in zip(found, ahead, strict=True):
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


def _windows(recording: _Recording[Part], job: WindowJob[Part, Whole]) -> Iterator[Window]:
    return cut(blocks_of(recording.stream, recording.level), job.window, job.hop or hop_of(job.window))


def _size(window: Window) -> int:
    return len(window[1])


def _flush(
    waiting: list[tuple[_Recording[Part], np.ndarray]], read: list[_Recording[Part]], job: WindowJob[Part, Whole]
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
    error, name = recording.error, recording.stream.name
    if error is None and not recording.spans:
        error = AudioError(f"{name} holds no samples", "empty")
    if error is not None:
        return StreamItem(recording.index, name, 0.0, None, error)
    silent = recording.level.silent
    seconds = recording.spans[-1][1] / job.rate
    try:
        whole = job.join(recording.parts, recording.spans) if job.silence is None or not silent else job.silence()
    except NotFiniteError as fault:
        return StreamItem(recording.index, name, seconds, None, NotFiniteError(f"{name} {fault}"))
    note = note_of(recording.stream, recording.level)
    return StreamItem(recording.index, name, seconds, whole, None, note, silent, recording.stream.about.begins)


def in_order(items: Iterable[StreamItem[Whole]]) -> list[StreamItem[Whole]]:
    """Return the items in the order in which the recordings were passed, and log their notes as warnings.

    Raises:
        AudioError: the first one that could not be used.
    """
    found = []
    for item in items:
        if item.error is not None:
            raise item.error
        if item.note:
            log.warning("%s: %s", item.name, item.note)
        found.append(item)
    return sorted(found, key=lambda item: item.index)


def results(items: Iterable[StreamItem[Whole]]) -> list[Whole]:
    """Return the results of items that have no error."""
    return [item.result for item in items if item.result is not None]
