"""From a cut to its samples: mono, at one rate, read as `slap.datamodules.audio.decode` says.

T samples of a clip. A cut stays lazy until `load`: a transform changes what will be read, not samples in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from lhotse import AudioSource, MonoCut, Recording
from lhotse.augmentation import Resample
from lhotse.cut import Cut, MixedCut
from lhotse.utils import compute_num_samples
from torch import Tensor

from slap.audio.arrays import check_samples
from slap.audio.level import SILENT, Level
from slap.audio.reader import AudioError
from slap.audio.sources import Segment
from slap.core.bad_clip import BadClip
from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.datamodules.audio.decode import LARGEST, CheckedSource, MixedDownSource, checked, checked_source
from slap.datamodules.bad_clips import ClipError
from slap.datamodules.captions.validate import text_error
from slap.datamodules.manifests.safe_cuts import files_of

GLANCE = 4096
"""Samples that usually show that a clip is not silent."""


class DecodeError(ClipError, RuntimeError):
    """A clip whose audio cannot be used; the message names the clip, its file and its line in the manifest."""

    def __str__(self) -> str:
        bad = self.bad
        where = bad.where or "no manifest"
        return f"clip {bad.id!r} ({where}) cannot be decoded from {bad.file}: {bad.reason}: {bad.detail}"


@dataclass
class DecodedSource(AudioSource):
    """A source that is decoded already; `source` is an array, (1, T) float32."""

    rate: int = 0

    def load_audio(self, offset: float = 0.0, duration: float | None = None, **_: Any) -> np.ndarray:
        """Return (1, T) float32, a segment of the array."""
        start = compute_num_samples(offset, self.rate)
        stop = None if duration is None else start + compute_num_samples(duration, self.rate)
        return self.source[:, start:stop]


def mixed_down(cut: Cut) -> MonoCut:
    """Return a cut of one channel made of all channels of any cut, see `slap.audio.mixing`, read when it is loaded.

    Lhotse itself would sum the channels of a mix, or pick one.
    """
    source = MixedDownSource("memory", [0], cut)
    recording = Recording(cut.id, [source], cut.sampling_rate, cut.num_samples, cut.duration)
    return MonoCut(cut.id, 0.0, cut.duration, 0, list(cut.supervisions), None, recording, cut.custom)


def mono(cut: Cut, sample_rate: int) -> MonoCut:
    """Return the cut with its channels made one, resampled; both happen when it is loaded.

    Its duration is exactly that of the samples that it will give.
    """
    single = isinstance(cut, MonoCut) and cut.recording.num_channels == 1
    whole = cut if single else mixed_down(cut)
    # A clip may be shorter than half a sample at the new rate; it gives one sample all the same.
    duration = max(compute_num_samples(whole.duration, sample_rate), 1) / sample_rate
    # As `whole.resample` does, but with one copy for both changes.
    return replace(whole, duration=duration, recording=whole.recording.resample(sample_rate), features=None)


def decoded(cut: MonoCut, largest: int = LARGEST) -> MonoCut:
    """Return the same cut with its samples decoded, resampled and in memory.

    Raises:
        DecodeError: as `load`.
    """
    return with_samples(cut, load(cut, largest))


def decoded_if_good(cut: MonoCut, largest: int = LARGEST) -> MonoCut:
    """Return `decoded`, or the cut itself if it cannot be read, so that loading it says why."""
    try:
        return decoded(cut, largest)
    except DecodeError:
        return cut


def with_samples(cut: MonoCut, samples: Tensor) -> MonoCut:
    """Return the same cut with samples, (T,), in place of those that it would read."""
    rate = cut.sampling_rate
    source = DecodedSource("memory", [0], samples.numpy()[None], rate=rate)
    recording = Recording(cut.id, [source], rate, len(samples), len(samples) / rate)
    return replace(cut, start=0.0, duration=recording.duration, channel=0, recording=recording)


def load(cut: Cut, largest: int = LARGEST) -> Tensor:
    """Load the samples of a mono cut.

    Args:
        cut: of one channel.
        largest: bytes that reading it may take.

    Returns:
        (T,) float32, all finite.

    Raises:
        DecodeError: they cannot be read, are not finite, or lie far beyond -1 to 1.
    """
    try:
        samples = load_simple_cut(cut, largest)
        if samples is None:
            samples = checked(cut, largest).load_audio()
        if samples.shape[0] != 1 or samples.shape[1] == 0:
            raise AudioError(f"expected samples of one channel, got {samples.shape}")
        wave = torch.from_numpy(np.ascontiguousarray(samples[0], dtype=np.float32))
        check_samples(wave, cut.id)
    except Exception as error:
        raise _complaint(cut, error) from error
    return wave


def load_simple_cut(cut: Cut, largest: int = LARGEST) -> np.ndarray | None:
    """Load a clip that is a segment of one file, without Lhotse's copies of its objects.

    These copies take longer than to read a short clip. The file may be a member of a tar file, of one channel or
    with its channels made one, and resampled. The samples are those of `checked(cut, largest).load_audio()`.

    Returns:
        (1, T) float32; None for any other clip.

    Raises:
        AudioError: see `slap.core.bad_clip.Reason`.
    """
    if not isinstance(cut, MonoCut) or cut.recording is None:
        return None
    recording, transforms = cut.recording, cut.recording.transforms or []
    (first, *others) = recording.sources
    if others or first.channels != [cut.channel] or len(transforms) > 1 or cut.start > recording.duration:
        return None
    source = checked_source(first, recording, largest)
    if not isinstance(source, CheckedSource) or not all(type(change) is Resample for change in transforms):
        return None
    return source.load_audio(cut.start, cut.duration)


def is_silent(samples: Tensor) -> bool:
    """Tell if samples, (T,), are silent, see `slap.audio.level`."""
    return Level().add(samples[:GLANCE]).silent and Level().add(samples).silent


def files_read(cut: Cut) -> list[str]:
    """Return the audio files behind a cut, also those that it reads through another cut."""
    if isinstance(cut, MixedCut):
        return [path for track in cut.tracks for path in files_read(track.cut)]
    recording = getattr(cut, "recording", None)  # padding has none
    sources = recording.sources if recording is not None else []
    inner = [source.source for source in sources if isinstance(source, MixedDownSource)]
    return files_of(cut) + [path for other in inner for path in files_read(other)]


def check_not_silent(cut: MonoCut, step: Seconds, largest: int = LARGEST) -> None:
    """Raise if a whole clip is silent; it is read step by step, so that a long one is never held as a whole.

    Args:
        cut: the clip.
        step: seconds to read at a time.
        largest: bytes that reading a step may take.

    Raises:
        DecodeError: it is silent, or it cannot be read.
    """
    start, level = 0.0, Level()
    while start < cut.duration:
        size = min(step, cut.duration - start)
        part = cut if size == cut.duration else cut.truncate(offset=start, duration=size)
        if not level.add(load(part, largest)).silent:
            return
        start += step
    raise _complaint(cut, AudioError(f"{level}; below {SILENT:g} dBFS nothing is heard", "silent"))


def check_captions(cut: Cut) -> None:
    """Raise if a caption of a clip is empty or no text, see `slap.datamodules.captions.validate`.

    Raises:
        DecodeError: one is.
    """
    for supervision in cut.supervisions:
        fault = text_error(supervision.text or "")
        if fault:
            raise _complaint(cut, AudioError(f"a caption is none: {fault}", "caption"))


def _complaint(cut: Cut, error: BaseException) -> DecodeError:
    fault = _cause(error)
    file = fault.file or ", ".join(dict.fromkeys(files_read(cut))) or "memory"
    return DecodeError(BadClip(cut.id, fault.reason, str(fault), file, (cut.custom or {}).get("where", "")))


def _cause(error: BaseException) -> AudioError:
    """Find what is wrong among errors that Lhotse wrapped in others, whose messages hold everything it knows."""
    chain = [error]
    while chain[-1].__context__ is not None:
        chain.append(chain[-1].__context__)
    named = [link for link in chain if isinstance(link, AudioError)]
    if named:
        return named[-1]  # the first one raised; those that wrap it have lost the reason
    if any("number of declared samples" in str(link) for link in chain):
        return AudioError("it has not as many samples as the manifest says", "wrong_duration")
    return AudioError(f"{type(chain[-1]).__name__}: {chain[-1]}")


def segment(cut: Any, path: str) -> Segment:
    """Return the segment of a file that a cut of a manifest is.

    Args:
        cut: the cut.
        path: of the manifest, for messages.

    Raises:
        ValueError: it is none, but a mix, in memory, in several files, one channel of several, or transformed.
    """
    recording: Any = getattr(cut, "recording", None)
    sources = recording.sources if recording else []
    plain = len(sources) == 1 and sources[0].type == "file" and not recording.transforms
    channels = [cut.channel] if plain and isinstance(cut.channel, int) else getattr(cut, "channel", None)
    if not plain or channels != sources[0].channels:
        raise UserError(
            f"clip {cut.id!r} of {path} is no segment of one audio file with all its channels; only these can be used "
            "here"
        )
    whole = cut.start == 0 and abs(cut.duration - recording.duration) < 1e-6
    return Segment(str(sources[0].source), cut.start, None if whole else cut.duration, recording.duration)
