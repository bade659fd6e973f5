"""Recordings that can be read in blocks: files and their segments, open files, arrays, audio that is decoded elsewhere.

`slap.audio.recordings` makes these of what users pass. T samples of a recording, C channels.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from slap.audio.arrays import check_rate, from_array
from slap.audio.reader import AudioError, AudioFile
from slap.audio.resample import samples_after, samples_in
from slap.core.units import Seconds


@dataclass
class About:
    """The facts about a recording that are known once it was read to its end.

    Attributes:
        note: a word for its user, e.g. that it was cut short; empty if there is none.
        begins: time of its first sample on a player's clock; above 0 in a video whose audio starts late.
    """

    note: str = ""
    begins: Seconds = 0.0


@dataclass(frozen=True)
class AudioStream:
    """One recording that was asked for, not decoded yet.

    Attributes:
        name: of the recording, for messages.
        samples: T at the model's rate by the header; compressed files may be wrong.
        blocks: gives its (n_i,) samples, mono float32 at the model's rate, once; raises `AudioError`.
        close: closes its file, if it was opened and `blocks` did not come to the end.
        about: is filled while `blocks` are read.
    """

    name: str
    samples: int
    blocks: Callable[[], Iterator[np.ndarray]]
    close: Callable[[], None] = lambda: None
    about: About = field(default_factory=About)


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

    def blocks(self, rate: int, about: About | None = None) -> Iterator[np.ndarray]:
        """Yield blocks of samples, (n_i,) float32, mono at a rate in Hz; see `slap.audio.reader.AudioFile.blocks`.

        Raises:
            AudioError: the file cannot be used, or the segment does not lie in it.
        """
        yield from self._blocks(AudioFile(self.path), rate, about or About())

    def stream(self, rate: int, name: str, hold: bool = True) -> AudioStream:
        """Open the file, and return the segment to be read in blocks.

        Args:
            rate: of the samples, Hz.
            name: of the recording, for messages.
            hold: keep the file open; else it is opened again to be read.

        Raises:
            AudioError: as `blocks`.
        """
        file, about = AudioFile(self.path), About()
        try:
            if self.whole is not None:
                file.check_length(self.whole)
            samples = file.span(rate, self.start, self._seconds).samples
        except AudioError:
            file.close()
            raise
        if hold:
            return AudioStream(name, samples, partial(self._blocks, file, rate, about), file.close, about)
        file.close()
        return AudioStream(name, samples, partial(self.blocks, rate, about), about=about)

    def _blocks(self, file: AudioFile, rate: int, about: About) -> Iterator[np.ndarray]:
        with file:
            if self.whole is not None:
                file.check_length(self.whole)
            yield from _told(file, rate, about, self.start, self._seconds)

    @property
    def _seconds(self) -> Seconds | None:
        """Length of the segment as far as it is known."""
        return self.whole - self.start if self.duration is None and self.whole is not None else self.duration


def _told(
    file: AudioFile, rate: int, about: About, start: Seconds = 0.0, seconds: Seconds | None = None
) -> Iterator[np.ndarray]:
    """Yield a segment of a file in blocks, and note what is found about the file."""
    about.begins = file.begins
    yield from file.blocks(rate, start, seconds)
    about.note = file.note


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
class Content:
    """The content of a file: an open binary file, which is read from its begin and not closed.

    Attributes:
        file: the file.
        name: of the recording, for messages.
    """

    file: BinaryIO
    name: str

    def stream(self, rate: int, name: str, hold: bool = True) -> AudioStream:
        """Return the whole content, to be read in blocks; for the arguments see `Segment.stream`.

        Raises:
            AudioError: it is text, or cannot be used.
        """
        del hold  # nothing is opened
        if isinstance(self.file, io.TextIOBase):
            raise AudioError(f"{name} is open as text; open it as open(path, 'rb')")
        content: BinaryIO = self.file if self.file.seekable() else io.BytesIO(self.file.read())
        content.seek(0)
        file, about = AudioFile(content, name), About()
        return AudioStream(name, file.span(rate).samples, lambda: _told(file, rate, about), file.close, about)


@dataclass(frozen=True, eq=False)
class Samples:
    """An array of samples.

    Attributes:
        array: (T,), (C, T) or (T, C), see `slap.audio.arrays`.
        rate: Hz; None is the model's.
        channels: two axes are channels and samples, however many there are.
        name: of the recording, for messages; empty is its place among the others.
    """

    array: Any
    rate: Any = None
    channels: bool = False
    name: str = ""

    def stream(self, rate: int, name: str, hold: bool = True) -> AudioStream:
        """Return the samples at a rate, as one block; for the arguments see `Segment.stream`.

        Raises:
            AudioError: it is no array, or its rate is none; later, that it is no audio.
        """
        del hold  # there is no file
        own = rate if self.rate is None else self.rate
        check_rate(own, name)
        array = self.array
        try:
            count = max(array.shape, default=0) if hasattr(array, "shape") else len(array)
        except TypeError as error:
            raise AudioError(f"{name} is no array of samples but a {type(array).__name__}") from error

        def blocks() -> Iterator[np.ndarray]:
            yield from_array(array, own, rate, name, self.channels)

        return AudioStream(name, samples_after(count, own, rate), blocks)


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
    decode: Callable[[int], np.ndarray]

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    def stream(self, rate: int, name: str, hold: bool = True) -> AudioStream:
        """Return the recording to be decoded; for the arguments see `Segment.stream`."""
        del hold  # its owner opens it
        return AudioStream(name, max(samples_in(self.seconds, rate), 1), partial(_decoded_elsewhere, self, rate))


_ELSEWHERE = threading.Lock()


def _decoded_elsewhere(item: LazyAudio, rate: int) -> Iterator[np.ndarray]:
    """Yield the samples; only one thread decodes, since the owners of several recordings may share an open archive."""
    with _ELSEWHERE:
        samples = item.decode(rate)
    yield samples
