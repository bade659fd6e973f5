"""The one reader of audio files: any format, rate and number of channels, to mono float32 at a model's rate.

Training, evaluation and use read files here, with the same decoders (`slap.audio.decoders`), the same resampler
(`slap.audio.resample`) and the same limits, so a file gives the same samples, or the same error, everywhere. Only the
segment that is wanted is decoded, in blocks where it is long. Channels are averaged.

T frames at the rate that a recording has, T' samples at the rate that is wanted, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from math import floor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from slap.audio.decoders import AudioError, Header, header, opened
from slap.audio.resample import resample, resampled, samples_after
from slap.core.units import Seconds

__all__ = ["AudioError", "AudioFile", "Header", "Span", "average", "blocks", "check_samples", "header", "read"]

BLOCK: Seconds = 30.0
"""Length of a block; a segment up to one and a half of it is one block."""

LARGEST_BLOCK = 1 << 26
"""Bytes of samples that are decoded at once: a small file may hold hundreds of channels at a rate of radio."""

LOUDEST = 100.0
"""Float samples beyond this are no audio in -1 to 1, most likely integers that were converted without scaling."""

ROUNDING: Seconds = 1e-3
"""Time by which a segment may overstep its file's end: times in manifests are rounded."""

PADDING: Seconds = 0.1
"""Time by which a file's length may differ from a manifest's: decoders disagree on the padding of encoders."""

ESTIMATE: Seconds = 0.05
"""Time by which the data of an MP3 may end early: without a frame that counts the others, its length is an estimate."""

LOSSY = ("MP3", "OGG", "MPEG-4")
"""Formats whose decoders disagree so."""

COPIES = 3
"""Memory to read a segment, as a multiple of all its channels as float32. Measured at most: 4.4."""

Mix = Callable[[np.ndarray], Tensor]
"""From a block, (n, C) float32, to the samples to use, (n,) or (C, n)."""


@dataclass(frozen=True)
class Span:
    """A segment of a file.

    Attributes:
        start: the first frame.
        frames: T.
        samples: T'.
    """

    start: int
    frames: int
    samples: int


class AudioFile:
    """An open audio file whose header makes sense.

    Args:
        source: a path, or the content of a file.
        name: of the file, for messages; None is the path.

    Attributes:
        name: of the file, for messages.
        header: length, rate and channels.

    Raises:
        AudioError: the file is absent, unreadable, truncated or empty, or its rate is impossible.
    """

    def __init__(self, source: str | Path | BytesIO, name: str | None = None) -> None:
        self._file = opened(str(source) if isinstance(source, Path) else source, name)
        self.name = name or ("memory" if isinstance(source, BytesIO) else str(source))
        self.header = Header(self._file.frames, self._file.samplerate, self._file.channels)

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def span(self, rate: int, start: Seconds = 0.0, duration: Seconds | None = None) -> Span:
        """Find the frames of a segment.

        Args:
            rate: that is wanted, Hz.
            start: of the segment.
            duration: of the segment; None is up to the end of the file.

        Raises:
            AudioError: the segment goes on beyond the end of the file.
        """
        own, total = self.header.rate, self.header.frames
        first = samples_in(start, own)
        if duration is None:
            duration = self.header.duration - start
        samples = max(samples_in(duration, rate), 1)
        # As many as give these samples, also where each becomes several.
        frames = max(samples_after(samples, rate, own), (samples - 1) * own // rate + 1)
        # Times are rounded, e.g. to another rate; the last frames of a file belong to the segment that ends there.
        if abs(first + frames - total) <= ROUNDING * own and first < total:
            frames = total - first
        if duration <= 0 or first + frames - total > max(self._slack(frames) * own, 2):
            raise AudioError(
                f"the segment from {start:.3f} to {start + duration:.3f} s does not lie in {self.name}, which lasts "
                f"{self.header.duration:.3f} s",
                "wrong_duration",
                self.name,
            )
        return Span(first, frames, samples)

    def check_length(self, expected: Seconds) -> None:
        """Refuse a file that is not as long as a manifest says.

        Rates alone may differ: libsndfile says of Opus what rate the encoder was given, others that it is 48 kHz.

        Raises:
            AudioError: the lengths differ by more than decoders do.
        """
        found = self.header.duration
        if abs(found - expected) > PADDING + 0.01 * expected:
            raise AudioError(
                f"{self.name} lasts {found:.3f} s, but the manifest says {expected:.3f} s", "wrong_duration", self.name
            )

    def check_size(self, span: Span, rate: int, largest: int) -> None:
        """Refuse a segment that takes too much memory to be read as a whole.

        Args:
            span: the segment.
            rate: the highest that its samples will have, Hz.
            largest: bytes that it may take.

        Raises:
            AudioError: it takes more.
        """
        own, channels = self.header.rate, self.header.channels
        needed = span.frames * channels * 4 * COPIES * max(rate, own) / own
        if needed > largest:
            raise AudioError(
                f"to read {span.frames / own:.1f} s x {channels} channels x {own} Hz of {self.name} takes "
                f"{needed / 2**20:.0f} MB, but only {largest / 2**20:.0f} MB are allowed",
                "too_large",
                self.name,
            )

    def read(self, rate: int, start: Seconds = 0.0, duration: Seconds | None = None, mix: Mix | None = None) -> Tensor:
        """Read a segment as a whole; for the arguments see `blocks`.

        Returns:
            (T',) or (C, T') float32.
        """
        parts = list(self.blocks(rate, start, duration, mix=mix))
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def blocks(
        self,
        rate: int,
        start: Seconds = 0.0,
        duration: Seconds | None = None,
        seconds: Seconds = BLOCK,
        mix: Mix | None = None,
    ) -> Iterator[Tensor]:
        """Yield a segment in consecutive blocks, (n_i,) or (C, n_i) float32; joined they are `read`.

        Args:
            rate: of the blocks, Hz.
            start: of the segment; audio before it is not decoded where the format allows that.
            duration: of the segment; None is up to the end of the file.
            seconds: length of a block.
            mix: from the channels to the samples to use; None averages them.

        Raises:
            AudioError: the segment does not lie in the file, cannot be decoded, or has samples that are not finite or
                far beyond -1 to 1.
        """
        own, mix = self.header.rate, mix or average
        span = self.span(rate, start, duration)
        size = max(min(round(seconds * own), LARGEST_BLOCK // (4 * self.header.channels)), 1)
        if 2 * span.frames <= 3 * size:
            parts = list(self._decoded(span, span.frames, mix))
            yield resample(parts[0] if len(parts) == 1 else torch.cat(parts, -1), own, rate, span.samples)
        else:
            yield from resampled(self._decoded(span, size, mix), own, rate, span.samples)

    def _decoded(self, span: Span, size: int, mix: Mix) -> Iterator[Tensor]:
        """Yield the frames of a segment in blocks of a size; those that may be missing at its end are zeros."""
        at, stop = span.start, span.start + span.frames
        if at:
            self._seek(min(at, self.header.frames))
        while at < stop:
            block = self._decode(min(size, stop - at), at)
            if not len(block):
                break
            samples = mix(block)
            check_samples(samples, self.name, at)
            yield samples
            at += len(block)
        missing = stop - at
        if not missing:
            return
        slack = min(self._slack(span.frames), ESTIMATE) * self.header.rate
        if missing > max(stop - self.header.frames, 0) + slack:
            raise AudioError(
                f"{self.name} was cut short: its data ends {missing / self.header.rate:.3f} s before the end that its "
                "header declares",
                "truncated",
                self.name,
            )
        yield mix(np.zeros((missing, self.header.channels), np.float32))

    def _seek(self, frame: int) -> None:
        try:
            self._file.seek(frame)
        except (RuntimeError, OSError) as error:  # LibsndfileError is a RuntimeError
            raise self._damaged(frame, error) from error

    def _decode(self, frames: int, at: int) -> np.ndarray:
        try:
            block: np.ndarray = self._file.read(frames, dtype="float32", always_2d=True)
        except (RuntimeError, OSError) as error:
            raise self._damaged(at, error) from error
        return block

    def _damaged(self, at: int, error: Exception) -> AudioError:
        where = f"{at / self.header.rate:.2f} s"
        return AudioError(f"{self.name} cannot be decoded beyond {where}: {error}", "truncated", self.name)

    def _slack(self, frames: int) -> Seconds:
        """Return the time by which a segment of some frames may overstep the end of the file."""
        return min(PADDING, frames / self.header.rate / 10) if self._file.format in LOSSY else ROUNDING


def read(path: str | Path, rate: int) -> Tensor:
    """Read a whole file, (T',) float32, mono at a rate.

    Raises:
        AudioError: it cannot be read, has no samples, or samples that are not finite or far beyond -1 to 1.
    """
    with AudioFile(path) as file:
        return file.read(rate)


def blocks(
    path: str | Path, rate: int, seconds: Seconds = BLOCK, start: Seconds = 0.0, duration: Seconds | None = None
) -> Iterator[Tensor]:
    """Yield a segment of a file in consecutive blocks, (n_i,) float32, mono at a rate; see `AudioFile.blocks`.

    Raises:
        AudioError: as `read`, or the segment does not lie in the file; while iterating.
    """
    with AudioFile(path) as file:
        yield from file.blocks(rate, start, duration, seconds)


def samples_in(seconds: Seconds, rate: int) -> int:
    """Return the nearest number of samples of a time, halves rounded up, as Lhotse does."""
    return floor(round(seconds * rate, 8) + 0.5)


def average(block: np.ndarray) -> Tensor:
    """Return the mean of the channels, (n,), of a block, (n, C) float32."""
    mean = block[:, 0]
    if block.shape[1] > 1:
        mean = mean.copy()
        for channel in range(1, block.shape[1]):
            mean += block[:, channel]
        mean /= block.shape[1]
    return torch.from_numpy(mean)


def check_samples(samples: Tensor, name: str, start: int = 0) -> None:
    """Refuse samples that are not finite or far beyond -1 to 1.

    Args:
        samples: (..., n), with n above 0.
        name: of the recording, for messages.
        start: the number of the first sample.

    Raises:
        AudioError: there is one.
    """
    low, high = (float(extreme) for extreme in samples.aminmax())  # both NaN if any is
    if low >= -LOUDEST and high <= LOUDEST:
        return
    finite = samples.isfinite()
    if not bool(finite.all()):
        first = tuple((~finite).nonzero()[0].tolist())
        found = f"has a sample that is {samples[first]:.0f}, number {start + first[-1]}; all must be finite"
    else:
        found = (
            f"has samples of up to {max(-low, high):.6g}; floats must lie in -1 to 1 (divide what were 16-bit integers "
            "by 32768, or pass them as int16)"
        )
    raise AudioError(f"{name} {found}", "not_finite")
