"""Sources of Lhotse recordings that read files as `slap.audio.reader` does, and check them against the manifest.

Lhotse reads through the sources of a recording; a `CheckedSource` stands in for them. Lhotse's own choice of decoders
tries programs after libraries, some through a shell with the file's name in it. The header is looked at before memory
is asked for, and only the segment that is wanted is decoded.

T samples, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from typing import Any

import numpy as np
from lhotse import AudioSource, MonoCut, MultiCut, Recording
from lhotse.augmentation import AudioTransform, Resample, Speed, Volume
from lhotse.augmentation import torchaudio as lhotse_resampling
from lhotse.cut import Cut, MixedCut
from lhotse.utils import fastcopy

from slap.audio.mixing import mix
from slap.audio.reader import BLOCK, AudioError, AudioFile
from slap.audio.resample import KEPT, MAKING, filter_bytes, ratio, resample, resampled, samples_in
from slap.core.bad_clip import Reason
from slap.core.units import Seconds
from slap.datamodules.audio.stored import StoredAudio
from slap.datamodules.audio.weigh import refuse_heavy

MEGABYTE = 1 << 20
LARGEST = 1024 * MEGABYTE
"""Bytes that reading one segment of a clip may take, unless told otherwise."""


@dataclass
class CheckedSource(AudioSource):
    """A source that reads a file, or a part of it, at the rate that is wanted.

    Args:
        rate: that it gives, Hz; None is the file's own.
        length: of the audio that it gives; None if that is not known.
        largest: bytes that reading may take.
        highest: rate that its samples will have, Hz, after transforms that come later.
        whole: length of the file by the manifest; None if that is not known.
        begin: place in the file where it begins.
        mixed: gives one channel made of all, see `slap.audio.mixing`, not each of them.
    """

    rate: int | None = None
    length: Seconds | None = None
    largest: int = LARGEST
    highest: int = 0
    whole: Seconds | None = None
    begin: Seconds = 0.0
    mixed: bool = False

    def load_audio(self, offset: Seconds = 0.0, duration: Seconds | None = None, **_: Any) -> np.ndarray:
        """Decode (C, T) float32, a segment of the file.

        Raises:
            AudioError: see `slap.core.bad_clip.Reason`.
        """
        name = self.source if isinstance(self.source, str) else getattr(self.source, "source", "memory")
        with AudioFile(self._content(), name) as file:
            if self.whole is not None:
                file.check_length(self.whole)
            own, rate = file.header.rate, self.rate or file.header.rate
            start = (samples_in(self.begin, own) + samples_in(offset, own)) / own
            if duration is None and self.length is not None:
                duration = self.length - offset
            if duration is None:
                file.measure()
            file.check_size(file.span(rate, start, duration), max(rate, self.highest), self.largest)
            check_resampling(ratio(own, rate), self.largest, name)
            samples = file.read(rate, start, duration, None if self.mixed else _separate)
        return samples.reshape(-1, samples.shape[-1])

    def _content(self) -> str | BytesIO:
        """Return the path to open, or the content of memory, or of what is stored in a tar file or a table."""
        if isinstance(self.source, StoredAudio):
            stored = self.source.located()
            if stored.size > self.largest:
                raise AudioError(
                    f"{stored.size / MEGABYTE:.0f} MB in {self.source.source}", "too_large", self.source.source
                )
            try:
                return BytesIO(stored.read())
            except OSError as error:
                reason: Reason = "absent" if isinstance(error, FileNotFoundError) else "truncated"
                raise AudioError(str(error), reason, self.source.source) from error
        return BytesIO(self.source) if isinstance(self.source, bytes) else self.source


@dataclass
class MixedDownSource(AudioSource):
    """A source that reads another cut and makes its channels one; `source` is that cut."""

    largest: int = LARGEST

    def load_audio(self, offset: Seconds = 0.0, duration: Seconds | None = None, **_: Any) -> np.ndarray:
        """Read (1, T) float32, the channels of a segment of the cut as one, see `slap.audio.mixing`."""
        cut = self.source if not offset and duration is None else self.source.truncate(offset=offset, duration=duration)
        return mix(checked(cut, self.largest).load_audio().T, cut.sampling_rate)[None]


@dataclass
class CheckedResample(Resample):
    """Lhotse's transform, by the resampler that files are read with."""

    def __call__(self, samples: np.ndarray, *_: Any, **__: Any) -> np.ndarray:
        """Resample (C, T)."""
        rate, wanted = self.source_sampling_rate, self.target_sampling_rate
        size = max(round(BLOCK * rate), 1)
        if 2 * samples.shape[-1] <= 3 * size:
            return resample(samples, rate, wanted)
        blocks = (samples[:, start : start + size] for start in range(0, samples.shape[-1], size))
        return np.concatenate([*resampled(blocks, rate, wanted)], -1)


def checked(cut: Cut, largest: int = LARGEST) -> Cut:
    """Return the same cut with checked sources.

    Raises:
        AudioError: a recording asks for what takes too much memory.
    """
    refuse_heavy(cut, largest)
    if isinstance(cut, MixedCut):
        return fastcopy(cut, tracks=[fastcopy(track, cut=checked(track.cut, largest)) for track in cut.tracks])
    if not isinstance(cut, MonoCut | MultiCut) or not cut.has_recording:  # padding says that it has one
        return cut
    recording = cut.recording
    later = (recording.transforms or [])[_first_resample(recording) is not None :]
    _check_transforms(later, recording, largest)
    sources = [checked_source(source, recording, largest) for source in recording.sources]
    transforms = [CheckedResample(**vars(one)) if type(one) is Resample else one for one in later]
    return fastcopy(cut, recording=fastcopy(recording, sources=sources, transforms=transforms or None))


def checked_source(source: AudioSource, recording: Recording, largest: int = LARGEST) -> AudioSource:
    """Return the checked source that stands in for a source of a recording.

    If the recording's first transform resamples, a source of a file gives the samples after that transform.
    """
    if not _is_plain(source):
        # A source that reads another cut passes the limit on; samples in memory have none.
        return fastcopy(source, largest=largest) if hasattr(source, "largest") else source
    first = _first_resample(recording)
    rate, length = _before_transforms(recording)
    rate = rate if first is None else first.target_sampling_rate
    begin, whole, inner = 0.0, length, source
    if isinstance(source, MixedDownSource):
        cut = source.source
        (inner,) = cut.recording.sources
        begin, whole = cut.start, cut.recording.duration
    return CheckedSource(
        type=inner.type,
        channels=source.channels,
        source=inner if isinstance(inner, StoredAudio) else inner.source,
        rate=rate,
        length=length,
        largest=largest,
        highest=recording.sampling_rate,
        whole=whole,
        begin=begin,
        mixed=inner is not source,
    )


def _is_plain(source: AudioSource) -> bool:
    """Tell if a source reads a file, or one that is stored elsewhere, or makes all channels of a segment of one one."""
    if not isinstance(source, MixedDownSource):
        return type(source) is AudioSource or isinstance(source, StoredAudio)
    cut = source.source
    if not isinstance(cut, MonoCut | MultiCut) or cut.recording.transforms:
        return False
    inner, *others = cut.recording.sources
    channels = cut.channel if isinstance(cut, MultiCut) else [cut.channel]
    return not others and (type(inner) is AudioSource or isinstance(inner, StoredAudio)) and inner.channels == channels


def _first_resample(recording: Recording) -> Resample | None:
    """Return the first transform of a recording if it resamples and all sources can do that themselves."""
    first = next(iter(recording.transforms or []), None)
    return first if type(first) is Resample and all(map(_is_plain, recording.sources)) else None


def _before_transforms(recording: Recording) -> tuple[int | None, Seconds | None]:
    """Return rate and duration of a recording's files, as far as its transforms let them be known."""
    rate = recording.sampling_rate
    for transform in reversed(recording.transforms or []):
        if isinstance(transform, Resample):
            rate = transform.source_sampling_rate
        elif not isinstance(transform, Volume):
            return None, None
    return rate, recording.duration


def _separate(block: np.ndarray) -> np.ndarray:
    """Return the channels of a block, (n, C), each by itself, (C, n)."""
    return np.ascontiguousarray(block.T)


# -- memory of resampling ---------------------------------------------------------------------------------------------


def check_resampling(scale: Fraction, largest: int, name: str) -> None:
    """Refuse a ratio of rates, wanted over given, whose filter would take more memory than reading a clip may.

    Args:
        scale: the ratio.
        largest: bytes that reading a clip may take.
        name: of the file, for the message.

    Raises:
        AudioError: it would.
    """
    needed = MAKING * filter_bytes(scale.denominator, scale.numerator)
    if needed > largest:
        raise AudioError(
            f"to resample {name} by {scale} takes {needed >> 20} MB, but only {largest >> 20} MB are allowed",
            "wrong_rate",
            name,
        )


def _check_transforms(transforms: Sequence[AudioTransform], recording: Recording, largest: int) -> None:
    """Refuse transforms that would take too much memory, and make room for the filters that Lhotse keeps."""
    name = next((source.source for source in recording.sources if source.type == "file"), "")
    for transform in transforms:
        if isinstance(transform, Resample):
            check_resampling(ratio(transform.source_sampling_rate, transform.target_sampling_rate), largest, name)
        elif isinstance(transform, Speed):
            rate = recording.sampling_rate
            check_resampling(Fraction(rate, max(round(rate * transform.factor), 1)), largest, name)
    forget_filters()


def forget_filters() -> None:
    """Forget the filters that Lhotse has of changes of speed where they take more than `KEPT`."""
    known = lhotse_resampling._precompiled_resamplers
    exact = (Fraction(wanted, rate) for rate, wanted in known)
    if len(known) > 1 and sum(filter_bytes(scale.denominator, scale.numerator) for scale in exact) > KEPT:
        known.clear()
