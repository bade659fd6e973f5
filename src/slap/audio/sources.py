"""Audio as users pass it, as recordings that can be read in blocks: paths, arrays with their rate, tensors.

T samples of a recording.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from slap.audio.arrays import check_rate, from_array
from slap.audio.reader import AudioError, AudioFile, samples_in
from slap.audio.resample import samples_after
from slap.core.units import Seconds


@dataclass(frozen=True)
class Segment:
    """A segment of a file.

    Attributes:
        path: of the file.
        start: of the segment.
        duration: of the segment; None is up to the end of the file.
        whole: length of the file by a manifest, which the file must have; None if that is not known. The segment is
            the same with and without it.
    """

    path: str
    start: Seconds = 0.0
    duration: Seconds | None = None
    whole: Seconds | None = field(default=None, compare=False)

    def __str__(self) -> str:
        """Return the path, with the seconds where it is not the whole file."""
        if not self.start and self.duration is None:
            return self.path
        end = "" if self.duration is None else f"{self.start + self.duration:g}"
        return f"{self.path}#{self.start:g}-{end}"

    def blocks(self, rate: int) -> Iterator[Tensor]:
        """Yield blocks of samples, (n_i,) float32, mono at a rate in Hz; see `slap.audio.reader.AudioFile.blocks`.

        Raises:
            AudioError: the file cannot be used, or the segment does not lie in it.
        """
        yield from self.blocks_of(AudioFile(self.path), rate)

    def blocks_of(self, file: AudioFile, rate: int) -> Iterator[Tensor]:
        """Yield blocks as `blocks` does, of a file that is open already, and close it."""
        with file:
            if self.whole is not None:
                file.check_length(self.whole)
            yield from file.blocks(rate, self.start, self._seconds)

    def stream(self, rate: int, name: str, hold: bool = True) -> AudioStream:
        """Open the file, and return the segment to be read in blocks.

        Args:
            rate: of the samples, Hz.
            name: of the recording, for messages.
            hold: keep the file open; else it is opened again to be read.

        Raises:
            AudioError: as `blocks`.
        """
        file = AudioFile(self.path)
        try:
            if self.whole is not None:
                file.check_length(self.whole)
            samples = file.span(rate, self.start, self._seconds).samples
        except AudioError:
            file.close()
            raise
        if hold:
            return AudioStream(name, samples, partial(self.blocks_of, file, rate), file.close)
        file.close()
        return AudioStream(name, samples, partial(self.blocks, rate))

    @property
    def _seconds(self) -> Seconds | None:
        """Length of the segment as far as it is known."""
        return self.whole - self.start if self.duration is None and self.whole is not None else self.duration


@dataclass(frozen=True)
class Input:
    """A recording to use.

    Attributes:
        id: that of a manifest's clip, else the path.
        audio: the file, or the segment of it.
    """

    id: str
    audio: Segment


@dataclass(frozen=True, eq=False)
class LazyAudio:
    """A recording that its owner decodes when its turn comes, e.g. out of a shard.

    Attributes:
        name: of the recording, for messages.
        seconds: its duration.
        decode: gives its samples, (T,) float32, mono at a rate in Hz; raises `AudioError`.
    """

    name: str
    seconds: Seconds
    decode: Callable[[int], Tensor]

    def __str__(self) -> str:
        """Return the name."""
        return self.name


Audio = str | PathLike[str] | Segment | LazyAudio | tuple[Any, int] | Tensor
"""One recording: a path; a `Segment` of a file; `(array, rate)`, of numpy or torch; a tensor at the model's rate; or
one that is decoded elsewhere, `LazyAudio`."""


@dataclass(frozen=True)
class AudioStream:
    """One recording that was asked for, not decoded yet.

    Attributes:
        name: of the recording, for messages.
        samples: T at the model's rate by the header; compressed files may be wrong.
        blocks: gives its (n_i,) samples, mono float32 at the model's rate, once; raises `AudioError`.
        close: closes its file, if it was opened and `blocks` did not come to the end.
    """

    name: str
    samples: int
    blocks: Callable[[], Iterator[Tensor]]
    close: Callable[[], None] = lambda: None


def as_list(audio: Audio | Sequence[Audio]) -> list[Audio]:
    """Return one recording or several as a list: a list is several; anything else, `(array, rate)` included, is one."""
    return list(audio) if isinstance(audio, list) else [audio]  # type: ignore[list-item]


def name_of(item: Any, index: int) -> str:
    """Return the name of a recording for messages."""
    return str(item) if isinstance(item, str | PathLike | Segment | LazyAudio) else f"recording {index}"


def source(item: Audio, index: int, rate: int, hold: bool = True) -> AudioStream:
    """Return a recording to be read in blocks.

    Args:
        item: the recording.
        index: its place among those that were passed.
        rate: the model's, Hz.
        hold: keep a file open, so that `blocks` need not open it again.

    Raises:
        AudioError: it is not there, no audio, or nothing of the kind that is read.
    """
    name = name_of(item, index)
    if isinstance(item, str | PathLike):
        item = Segment(str(Path(item)))
    if isinstance(item, Segment):
        return item.stream(rate, name, hold)
    if isinstance(item, LazyAudio):
        return AudioStream(name, max(samples_in(item.seconds, rate), 1), partial(_decoded_elsewhere, item, rate))
    if isinstance(item, Tensor):
        item = (item, rate)
    if not (isinstance(item, tuple) and len(item) == 2):
        what = "an array without its rate" if hasattr(item, "shape") else f"a {type(item).__name__}"
        raise AudioError(f"{name} is {what}; pass a path, (array, rate), or a tensor at {rate} Hz, or a list of these")
    array, own = item
    check_rate(own, name)
    try:
        count = max(array.shape, default=0) if hasattr(array, "shape") else len(array)
    except TypeError as error:
        raise AudioError(f"{name} is no array of samples but a {type(array).__name__}") from error
    return AudioStream(name, samples_after(count, own, rate), lambda: iter([from_array(array, own, rate, name)]))


_ELSEWHERE = threading.Lock()


def _decoded_elsewhere(item: LazyAudio, rate: int) -> Iterator[Tensor]:
    """Yield the samples; only one thread decodes, since the owners of several recordings may share an open archive."""
    with _ELSEWHERE:
        samples = item.decode(rate)
    yield samples
