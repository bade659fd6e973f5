"""From an audio file to samples, with the distrust that files from anywhere deserve.

T frames at the file's own rate, C channels. Lhotse reads through the sources of a recording; a `CheckedSource` source
stands
in for them. It opens files as `slap.audio.header` says: Lhotse's own choice tries programs after libraries,
some through a shell with the file's name in it. The header is looked at before memory is asked for, and only the
stretch that is wanted is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import soundfile
from lhotse import AudioSource, Recording
from lhotse.augmentation import Resample, Volume
from lhotse.cut import Cut, MixedCut
from lhotse.utils import compute_num_samples, fastcopy

from slap.audio.header import FileError, Header, opened
from slap.audio.mpeg4 import Mpeg4File
from slap.audio.resample import check_resampling, check_transforms, forget_filters
from slap.core.bad_clip import Reason
from slap.core.units import Seconds
from slap.datamodules.audio.tar_member import TarMember

MEGABYTE = 1 << 20
LARGEST = 1024 * MEGABYTE
"""Bytes that reading one stretch of a clip may take, unless told otherwise."""

COPIES = 3
"""Reading takes about so many times what a stretch takes as float32: Lhotse stacks channels, and resampling has its own
copies. Measured: 2 times without resampling, 3.8 for mono and 4.4 for stereo with it, so at most 1.5 x `LARGEST`."""

ROUNDING: Seconds = 1e-3
"""By which a stretch may overstep its file's end: times in manifests are rounded."""

PADDING: Seconds = 0.1
"""By which a file's length may differ from what a manifest says: decoders disagree on what an encoder added."""

ESTIMATE: Seconds = 0.05
"""By which the data of an MP3 may end early: without a frame that counts the others, its length is an estimate."""

LOSSY = ("MP3", "OGG", "MPEG-4")
"""Formats whose decoders disagree so."""


@dataclass
class CheckedSource(AudioSource):
    """A source that checks what it reads against what its recording says.

    Args:
        rate: of the recording before any transform, Hz; None if that is not known.
        length: of the recording, likewise.
        largest: bytes that reading may take.
        final: rate that the recording has after its transforms.
    """

    rate: int | None = None
    length: Seconds | None = None
    largest: int = LARGEST
    final: int = 0

    def load_audio(self, offset: Seconds = 0.0, duration: Seconds | None = None, **_: Any) -> np.ndarray:
        """(C, T) float32, a stretch of the file.

        Raises:
            FileError: see `slap.core.bad_clip.Reason`.
        """
        name = self.source if isinstance(self.source, str) else getattr(self.source, "source", "memory")
        with opened(self._content()) as file:
            self._compare(Header(file.frames, file.samplerate, file.channels), name)
            start = compute_num_samples(offset, file.samplerate) if offset else 0
            count = file.frames - start
            if duration is not None:
                count = max(compute_num_samples(duration, file.samplerate), 1)
            elif self.length is not None and not offset:
                declared = compute_num_samples(self.length, file.samplerate)
                # After resampling, a recording has rounded its length to its new rate.
                count = declared if abs(declared - count) > ROUNDING * file.samplerate else count
            rate = file.samplerate
            growth = max(self.rate or 0, self.final, rate) / rate
            samples = _read(file, start, count, self.largest, name, growth)
        if self.rate is None or self.rate == rate:
            return samples
        check_resampling(rate, self.rate, self.largest, name)
        resampled: np.ndarray = Resample(rate, self.rate)(samples, rate)
        return resampled

    def _content(self) -> str | BytesIO:
        """What to open: a path, or what a member of a tar file or memory holds."""
        if isinstance(self.source, TarMember):
            if self.source.size > self.largest:
                raise FileError(f"{self.source.size / MEGABYTE:.0f} MB of a tar file", "too_large", self.source.source)
            try:
                return BytesIO(self.source.read())
            except OSError as error:
                reason: Reason = "absent" if isinstance(error, FileNotFoundError) else "truncated"
                raise FileError(str(error), reason, self.source.source) from error
        return BytesIO(self.source) if isinstance(self.source, bytes) else self.source

    def _compare(self, found: Header, name: str) -> None:
        if self.length is None:
            return
        # Rates alone may differ: libsndfile says of Opus what rate the encoder was given, others that it is 48 kHz.
        if abs(found.duration - self.length) > PADDING + 0.01 * self.length:
            raise FileError(
                f"the file lasts {found.duration:.3f} s, but the manifest says {self.length:.3f} s",
                "wrong_duration",
                name,
            )


def checked(cut: Cut, largest: int = LARGEST) -> Cut:
    """The same cut, with sources that check what they read."""
    if isinstance(cut, MixedCut):
        return fastcopy(cut, tracks=[fastcopy(track, cut=checked(track.cut, largest)) for track in cut.tracks])
    if not cut.has_recording:
        return cut
    sources = [checked_source(source, cut.recording, largest) for source in cut.recording.sources]
    return fastcopy(cut, recording=fastcopy(cut.recording, sources=sources))


def checked_source(source: AudioSource, recording: Recording, largest: int = LARGEST) -> AudioSource:
    """What stands in for a source of a recording, and checks what it reads.

    Raises:
        FileError: the recording asks for what takes too much memory.
    """
    check_transforms(recording, largest, source.source if source.type == "file" else "")
    forget_filters()
    if type(source) in (AudioSource, TarMember):
        rate, length = _before_transforms(recording)
        content = source if isinstance(source, TarMember) else source.source
        return CheckedSource(
            source.type, source.channels, content, None, rate, length, largest, recording.sampling_rate
        )
    # One that reads another cut passes the limit on; what is in memory has none.
    return fastcopy(source, largest=largest) if hasattr(source, "largest") else source


def _before_transforms(recording: Recording) -> tuple[int | None, Seconds | None]:
    """Rate and duration of a recording's files, as far as it says."""
    rate = recording.sampling_rate
    for transform in reversed(recording.transforms or []):
        if isinstance(transform, Resample):
            rate = transform.source_sampling_rate
        elif not isinstance(transform, Volume):
            return None, None
    return rate, recording.duration


def _read(
    file: soundfile.SoundFile | Mpeg4File, start: int, count: int, largest: int, name: str, growth: float = 1.0
) -> np.ndarray:
    """(C, count) float32 from frame `start` on; resampling makes them `growth` times as many."""
    short = start + count - file.frames
    slack = min(PADDING, count / file.samplerate / 10) if file.format in LOSSY else ROUNDING
    if short > max(slack * file.samplerate, 2):
        raise FileError(
            f"the clip goes on to {(start + count) / file.samplerate:.3f} s, but the file ends at "
            f"{file.frames / file.samplerate:.3f} s",
            "wrong_duration",
            name,
        )
    needed = count * file.channels * 4 * COPIES * growth
    if needed > largest:
        raise FileError(
            f"to read {count / file.samplerate:.1f} s x {file.channels} channels x {file.samplerate} Hz takes "
            f"{needed / MEGABYTE:.0f} MB, but only {largest / MEGABYTE:.0f} MB are allowed",
            "too_large",
            name,
        )
    try:
        if start:
            file.seek(min(start, file.frames))
        samples = file.read(count, dtype="float32", always_2d=True).T
    except RuntimeError as error:  # LibsndfileError is one
        raise FileError(f"decoding broke off before the end: {error}", "truncated", name) from error
    missing = count - samples.shape[1]
    if missing > max(short, 0) + min(slack, ESTIMATE) * file.samplerate:
        raise FileError(
            f"the data ends {missing / file.samplerate:.3f} s before the end that the header declares",
            "truncated",
            name,
        )
    return np.pad(samples, ((0, 0), (0, missing))) if missing else samples
