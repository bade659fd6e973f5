"""From a cut to its samples: mono, at one rate, decoded by soundfile through Lhotse.

T samples of a clip. A cut stays lazy until `load`: transforms change what will be read, not what was read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from lhotse import AudioSource, MonoCut, Recording
from lhotse.audio import set_current_audio_backend
from lhotse.audio.backend import get_current_audio_backend
from lhotse.cut import Cut, MixedCut
from lhotse.utils import compute_num_samples
from torch import Tensor

from slap.datamodules.cutset import files_of


class DecodeError(RuntimeError):
    """A clip's audio cannot be read; the message names the clip, its file and its line in the manifest."""


@dataclass
class Rendered(AudioSource):
    """A source that reads another cut and averages its channels; `source` is that cut."""

    def load_audio(self, offset: float = 0.0, duration: float | None = None, **_: Any) -> np.ndarray:
        """(1, T) float32, the mean of the channels of a stretch of the cut."""
        cut = self.source if not offset and duration is None else self.source.truncate(offset=offset, duration=duration)
        return cut.load_audio().mean(axis=0, keepdims=True)


@dataclass
class Held(AudioSource):
    """A source that is decoded already; `source` is an array, (1, T) float32."""

    rate: int = 0

    def load_audio(self, offset: float = 0.0, duration: float | None = None, **_: Any) -> np.ndarray:
        """(1, T) float32, a stretch of the array."""
        start = compute_num_samples(offset, self.rate)
        stop = None if duration is None else start + compute_num_samples(duration, self.rate)
        return self.source[:, start:stop]


def rendered(cut: Cut) -> MonoCut:
    """A cut of one channel, the mean of all channels of any cut, read when it is loaded.

    Lhotse itself would sum the channels of a mix, or pick one.
    """
    source = Rendered("memory", [0], cut)
    recording = Recording(cut.id, [source], cut.sampling_rate, cut.num_samples, cut.duration)
    return MonoCut(cut.id, 0.0, cut.duration, 0, list(cut.supervisions), None, recording, cut.custom)


def mono(cut: Cut, sample_rate: int) -> MonoCut:
    """The cut with one channel, the mean of its channels, and resampled, both when it is loaded.

    Its duration is that of the samples which it will give, to the sample.
    """
    single = isinstance(cut, MonoCut) and cut.recording.num_channels == 1
    resampled = (cut if single else rendered(cut)).resample(sample_rate)
    # A clip may be shorter than half a sample at the new rate; it gives one sample all the same.
    return replace(resampled, duration=max(resampled.num_samples, 1) / sample_rate)


def held(cut: MonoCut) -> MonoCut:
    """The same cut with its samples decoded, resampled and in memory."""
    samples = load(cut).numpy()[None]
    rate = cut.sampling_rate
    source = Held("memory", [0], samples, rate=rate)
    recording = Recording(cut.id, [source], rate, samples.shape[1], samples.shape[1] / rate)
    return replace(cut, start=0.0, duration=recording.duration, channel=0, recording=recording)


def load(cut: Cut) -> Tensor:
    """The samples of a mono cut.

    Returns:
        (T,) float32.

    Raises:
        DecodeError: they cannot be read.
    """
    before = get_current_audio_backend()
    # Lhotse's default tries programs after libraries, some through a shell with the file's name in it.
    set_current_audio_backend("LibsndfileBackend")
    try:
        samples = cut.load_audio()
    except Exception as error:
        raise DecodeError(_complaint(cut, _root(error))) from error
    finally:
        set_current_audio_backend(before)
    if samples.shape[0] != 1 or samples.shape[1] == 0:
        raise DecodeError(_complaint(cut, ValueError(f"expected samples of one channel, got {samples.shape}")))
    return torch.from_numpy(np.ascontiguousarray(samples[0], dtype=np.float32))


def files_read(cut: Cut) -> list[str]:
    """The audio files behind a cut, also those that it reads through another cut."""
    if isinstance(cut, MixedCut):
        return [path for track in cut.tracks for path in files_read(track.cut)]
    inner = [source.source for source in cut.recording.sources if isinstance(source, Rendered)]
    return files_of(cut) + [path for other in inner for path in files_read(other)]


def _complaint(cut: Cut, error: BaseException) -> str:
    files = ", ".join(dict.fromkeys(files_read(cut))) or "memory"
    where = (cut.custom or {}).get("where", "no manifest")
    return f"clip {cut.id!r} ({where}) cannot be decoded from {files}: {type(error).__name__}: {error}"


def _root(error: BaseException) -> BaseException:
    """The first cause: Lhotse wraps errors in ones of the same type whose messages hold everything it knows."""
    while error.__context__ is not None:
        error = error.__context__
    return error
