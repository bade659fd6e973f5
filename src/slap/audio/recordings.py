"""Recordings as users pass them, one or several and of many types, to the sources that are read.

B recordings, T samples, C channels.

One recording is a path (`str` or `PathLike`, `~` is the home folder), an open binary file, `(array, rate)` of numpy or
torch, a tensor at the model's rate, a dictionary `{"array", "sampling_rate"}` or `{"path", "bytes"}` or a torchcodec
`AudioDecoder` as Hugging Face's datasets give, a `Segment` of a file, or a `LazyAudio`. Several are any iterable of
these but a set: a list, a tuple, an array of paths, a column of a table, a generator.

An array is (T,), (1 or 2, T) as torchaudio gives, or (T, 1 or 2) as soundfile does. Any other one of two axes may be a
batch, (B, T), or the channels of one recording, (C, T) or (T, C), so its user says which by `batch=True` or
`channels=True`. With `batch=True` each row of one array, (B, T) or (B, C, T), is a recording.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Union

import numpy as np

from slap.audio.arrays import from_array, is_tensor
from slap.audio.reader import AudioError
from slap.audio.sources import AudioStream, Content, LazyAudio, Samples, Segment
from slap.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Source = Segment | Content | Samples | LazyAudio
"""A recording that can be read."""

Audio = Union[str, PathLike[str], BinaryIO, tuple[Any, int], "Tensor", Mapping[str, Any], Source]
"""One recording, see the head of this file. Objects of torchcodec are known by their methods."""

PASS = (
    "pass a path, an open binary file, (array, rate), a tensor at {rate} Hz, a dictionary with array and sampling_rate "
    "or with path or bytes, or an iterable of these"
)


def recordings(audio: Audio | Iterable[Audio], batch: bool = False, channels: bool = False) -> Iterator[Audio]:
    """Iterate over the recordings that were passed, one or several.

    Args:
        audio: the recordings.
        batch: each row of the one array that was passed is a recording.
        channels: two axes of an array are channels and samples, however many channels there are.

    Raises:
        UserError: both `batch` and `channels`, a batch that is no array of 2 or 3 axes, or a set.
    """
    if batch and channels:
        raise UserError("batch=True makes each row a recording, channels=True makes the rows one; give one of them")
    if batch:
        return iter(_rows(audio))
    if isinstance(audio, set | frozenset):
        raise UserError("a set of recordings has no order, by which results are known; pass a list")
    items: Iterable[Any] = [audio] if _is_one(audio) else audio  # type: ignore[assignment]
    return (_with_channels(item) for item in items) if channels else iter(items)


def name_of(item: Any, index: int) -> str:
    """Return the name of a recording for messages: its path, or its place among those that were passed."""
    if isinstance(item, Mapping):
        item = item.get("path")
    name = item if isinstance(item, str | PathLike | Segment | LazyAudio) else getattr(item, "name", None)
    return str(name) if name and not isinstance(name, int) else f"recording {index}"


def open_file(item: Any) -> object | None:
    """Return the open file that a recording is; None if it is none."""
    return item.file if isinstance(item, Content) else item if hasattr(item, "read") else None


def source(item: Any, index: int, rate: int, hold: bool = True) -> AudioStream:
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
    return _source(item, name, rate).stream(rate, name, hold)


def _source(item: Any, name: str, rate: int) -> Source:
    """Return the source that a recording is, whatever its type."""
    if isinstance(item, Source):
        return item
    if isinstance(item, str | PathLike):
        return _file(item, name)
    if is_tensor(item):
        return Samples(item)
    if isinstance(item, Mapping):
        return _of_mapping(item, name)
    if hasattr(item, "read"):
        return Content(item, name)
    if hasattr(item, "get_all_samples"):
        return LazyAudio(name, _seconds(item), lambda wanted: _decoded(item, wanted, name))
    if hasattr(item, "data") and hasattr(item, "sample_rate"):  # torchcodec's AudioSamples
        return Samples(item.data, item.sample_rate, channels=True)
    if isinstance(item, tuple) and len(item) == 2:
        return _of_pair(*item, name)
    raise AudioError(f"{name} is {_kind(item)}; {PASS.format(rate=rate)}")


def _file(item: str | PathLike[str], name: str) -> Segment:
    path = os.fspath(item)
    if not isinstance(path, str):
        raise AudioError(f"{name} is a path of bytes; pass os.fsdecode(path)")
    if path.startswith("~") and not Path(path).exists():
        path = os.path.expanduser(path)  # noqa: PTH111  # Path raises for a user that does not exist
    return Segment(path)


def _of_mapping(item: Mapping[str, Any], name: str) -> Source:
    if item.get("array") is not None:
        if item.get("sampling_rate") is None:
            raise AudioError(f"{name} has an array without its sampling_rate")
        return Samples(item["array"], item["sampling_rate"])
    if item.get("bytes") is not None:
        return Content(BytesIO(item["bytes"]), name)
    if item.get("path") is not None:
        return _file(item["path"], name)
    keys = ", ".join(map(str, item)) or "none"
    hint = "; pass its item 'audio'" if "audio" in item else ""
    raise AudioError(
        f"{name} is a dictionary with the keys {keys}; array and sampling_rate, or path or bytes, are read{hint}"
    )


def _of_pair(array: Any, rate: Any, name: str) -> Samples:
    if _is_rate(array) and not _is_rate(rate):
        raise AudioError(f"{name} is (rate, array), as scipy.io.wavfile gives; pass (array, rate)")
    if isinstance(array, str | PathLike):
        raise AudioError(f"{name} is a path with a rate; a file knows its rate, so pass the path alone")
    return Samples(array, rate)


def _kind(item: Any) -> str:
    """Return the type of what is no recording, for people."""
    if isinstance(item, bytes | bytearray | memoryview):
        return "bytes (the content of a file? then pass io.BytesIO(content))"
    if isinstance(item, np.ndarray):
        return "an array without its rate"
    if isinstance(item, Real):
        return "a number (samples? then pass (numpy.asarray(samples), rate))"
    return f"a {type(item).__name__}"


def _is_rate(value: Any) -> bool:
    return isinstance(value, Real | np.generic) or getattr(value, "shape", None) == ()


def _is_one(audio: Any) -> bool:
    """Return True for one recording, or for what is none, and False for an iterable of several."""
    if is_tensor(audio) or isinstance(audio, str | bytes | bytearray | memoryview | PathLike | Mapping | Source):
        return True
    if any(hasattr(audio, name) for name in ("read", "get_all_samples", "sample_rate")):
        return True
    if isinstance(audio, np.ndarray):
        return audio.dtype.kind not in "OUT" or audio.ndim == 0
    if isinstance(audio, tuple) and len(audio) == 2 and (_is_rate(audio[0]) or _is_rate(audio[1])):
        return True
    return not isinstance(audio, Iterable)


def _rows(audio: Any) -> Iterator[Samples]:
    """Return an iterator over the recordings of a batch."""
    array, rate = audio, None
    if isinstance(audio, Mapping):
        array, rate = audio.get("array"), audio.get("sampling_rate")
    elif isinstance(audio, tuple) and len(audio) == 2 and _is_rate(audio[1]):
        array, rate = audio
    shape = tuple(getattr(array, "shape", ()))
    if len(shape) not in (2, 3) or (rate is None and not is_tensor(array)):
        what = f"an array of shape {shape}" if shape else _kind(audio)
        raise UserError(
            "batch=True takes a tensor at the model's rate, or (array, rate), of the shape (recordings, samples) or "
            f"(recordings, channels, samples); got {what}. A list of recordings needs no batch=True"
        )
    return (Samples(row, rate, channels=len(shape) == 3) for row in array)


def _with_channels(item: Any) -> Any:
    """Return an array with the word that its axes are channels and samples; anything else as it is."""
    if is_tensor(item):
        return Samples(item, None, channels=True)
    if isinstance(item, Mapping) and item.get("array") is not None:
        return Samples(item["array"], item.get("sampling_rate"), True, name_of(item, 0) if item.get("path") else "")
    if isinstance(item, tuple) and len(item) == 2 and hasattr(item[0], "shape"):
        return Samples(*item, channels=True)
    return item


def _seconds(decoder: Any) -> float:
    """Return the duration of a torchcodec decoder; 0 where it does not say."""
    return float(getattr(getattr(decoder, "metadata", None), "duration_seconds", None) or 0.0)


def _decoded(decoder: Any, wanted: int, name: str) -> np.ndarray:
    """Return the samples of a torchcodec decoder at a rate, (T,)."""
    samples = decoder.get_all_samples()
    return from_array(samples.data, int(samples.sample_rate), wanted, name, channels=True)
