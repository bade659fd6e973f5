"""What users pass as audio, as recordings that can be read in blocks: paths, arrays with their rate, tensors.

T samples of a recording.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from slap.audio.reader import AudioError, blocks, check_rate, decoded, from_array, opened


@dataclass(frozen=True)
class Segment:
    """A stretch of a file.

    Attributes:
        path: of the file.
        start: where it begins, in seconds.
        duration: how long it is; None is up to the end of the file.
    """

    path: str
    start: float = 0.0
    duration: float | None = None

    def __str__(self) -> str:
        """The path, with the seconds where it is not the whole file."""
        if not self.start and self.duration is None:
            return self.path
        end = "" if self.duration is None else f"{self.start + self.duration:g}"
        return f"{self.path}#{self.start:g}-{end}"


@dataclass(frozen=True)
class Input:
    """A recording to use.

    Attributes:
        id: of a manifest's clip its own, else the path.
        audio: the file, or the stretch of it.
    """

    id: str
    audio: Segment


@dataclass(frozen=True, eq=False)
class LazyAudio:
    """A recording that somebody else decodes when its turn comes, e.g. out of a shard.

    Attributes:
        name: of the recording, for messages.
        seconds: how long it is.
        decode: gives its samples, (T,) float32, mono at a rate in Hz; raises `AudioError`.
    """

    name: str
    seconds: float
    decode: Callable[[int], Tensor]

    def __str__(self) -> str:
        """The name."""
        return self.name


Audio = str | PathLike[str] | Segment | LazyAudio | tuple[Any, int] | Tensor
"""One recording: a path; a `Segment` of a file; `(array, rate)`, of numpy or torch; a tensor at the model's rate; or
one that is decoded elsewhere, `LazyAudio`."""


@dataclass(frozen=True)
class AudioStream:
    """One recording that was asked for, not decoded yet.

    Attributes:
        name: of the recording, for messages.
        samples: T at the model's rate, as a header says it; compressed files may be wrong.
        blocks: gives its (n_i,) samples, mono float32 at the model's rate, once; raises `AudioError`.
        close: closes its file, if it was opened and `blocks` did not come to the end.
    """

    name: str
    samples: int
    blocks: Callable[[], Iterator[Tensor]]
    close: Callable[[], None] = lambda: None


def as_list(audio: Audio | Sequence[Audio]) -> list[Audio]:
    """One recording or several, as a list: a list is several, everything else, `(array, rate)` included, is one."""
    return list(audio) if isinstance(audio, list) else [audio]  # type: ignore[list-item]


def name_of(item: Any, index: int) -> str:
    """How messages call a recording."""
    return str(item) if isinstance(item, str | PathLike | Segment | LazyAudio) else f"recording {index}"


def source(item: Audio, index: int, rate: int, hold: bool = True) -> AudioStream:
    """Open a recording as it was passed.

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
        return _of_file(item, name, rate, hold)
    if isinstance(item, LazyAudio):
        return AudioStream(name, max(ceil(item.seconds * rate), 1), partial(_decoded_elsewhere, item, rate))
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
    return AudioStream(name, max(ceil(count * rate / own), 1), lambda: iter([from_array(array, own, rate, name)]))


def _of_file(item: Segment, name: str, rate: int, hold: bool) -> AudioStream:
    file = opened(item.path)
    whole = file.frames / file.samplerate
    seconds = min(whole - item.start, item.duration or float("inf"))
    if seconds <= 0 or not hold:
        file.close()
    if seconds <= 0:
        raise AudioError(f"{name} begins beyond the end of the file, which has {whole:g} s")
    read = partial(decoded, file, item.path) if hold else partial(blocks, item.path)
    return AudioStream(
        name, max(ceil(seconds * rate), 1), partial(read, rate, start=item.start, duration=item.duration), file.close
    )


_ELSEWHERE = threading.Lock()


def _decoded_elsewhere(item: LazyAudio, rate: int) -> Iterator[Tensor]:
    """Yield the samples; only one thread decodes, since the decoders of others may share an open archive."""
    with _ELSEWHERE:
        samples = item.decode(rate)
    yield samples
