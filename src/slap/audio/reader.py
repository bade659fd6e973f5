"""The one reader of audio files: any format, rate and number of channels, to mono float32 at a model's rate.

Training, evaluation and use read files here, with the same decoders (`slap.audio.decoders`), the same resampler
(`slap.audio.resample`) and the same limits, so a file gives the same samples, or the same error, everywhere. Only the
segment that is wanted is decoded, in blocks where it is long. Channels become one as `slap.audio.mixing` says.

A file is read to the end of what can be decoded, whatever its header says of its length, and `AudioFile.note` says what
is missing. A segment of a given duration must be there as a whole.

T frames at the rate that a recording has, T' samples at the rate that is wanted, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from slap.audio.arrays import check_samples
from slap.audio.decoders import (
    PADDING,
    ROUNDING,
    Header,
    header,
    header_of,
    measure,
    measured,
    name_of,
    note_of,
    opened,
)
from slap.audio.errors import AudioError, Guard
from slap.audio.mixing import Mix, mixed
from slap.audio.resample import resample, resampled, samples_after, samples_in
from slap.core.units import Seconds

__all__ = ["AudioError", "AudioFile", "Header", "blocks", "header", "measure", "read"]

BLOCK: Seconds = 30.0
"""Length of a block; a segment up to one and a half of it is one block."""

LARGEST_BLOCK = 1 << 26
"""Bytes of samples that are decoded at once: a small file may hold hundreds of channels at a rate of radio."""

ESTIMATE: Seconds = 0.05
"""Time by which the data of an MP3 may end early: without a frame that counts the others, its length is an estimate."""

MISMATCH: Seconds = 0.5
"""Time by which the length of a lossy file may differ from a manifest's, as in Lhotse: the headers of many MP3 files
say too little, and each reader estimates their lengths in its own way."""

COPIES = 3
"""Memory to read a segment, as a multiple of all its channels as float32. Measured at most: 4.4."""


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
        source: a path, or an open file that can be sought, which is read from its beginning and stays open.
        name: of the file, for messages; None is the path.

    Attributes:
        name: of the file, for messages.
        header: length, rate and channels.
        begins: time of the first sample on the clock of a video whose sound begins after its first picture, else 0.
        note: a sentence of what is missing in the file, once it was read to its end; empty if nothing is.

    Raises:
        AudioError: the file is absent, unreadable or empty, or its rate is impossible.
    """

    def __init__(self, source: str | Path | BinaryIO, name: str | None = None) -> None:
        self.name = name or name_of(source)
        self._file = opened(source, self.name)
        self.header = header_of(self._file)
        self.begins = self._file.begins
        self.note = ""
        self._expected: Seconds | None = None
        self._begun = False

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

        Where the length of the file is not known before it is decoded, nothing is checked.

        Raises:
            AudioError: the segment goes on beyond the end of the file.
        """
        own, total = self.header.rate, self.header.frames
        first = samples_in(start, own)
        whole = duration is None
        duration = self.header.duration - start if duration is None else duration
        samples = max(samples_in(duration, rate), 1)
        # As many as give these samples, also where each becomes several.
        frames = max(samples_after(samples, rate, own), (samples - 1) * own // rate + 1)
        if not self.header.exact:  # the manifest's length, which is rounded to a sample of its rate
            total = 0 if self._expected is None else samples_in(self._expected + 0.5 / rate, own)
        # Times are rounded, e.g. to another rate; the last frames of a file belong to the segment that ends there.
        if abs(first + frames - total) <= ROUNDING * own and first < total:
            frames = total - first
        if not self.header.exact and (whole or duration > 0):
            return Span(first, frames, samples)
        slack = max(self._slack(frames), self._lossy_tolerance())
        if duration <= 0 or first + frames - total > max(slack * own, 2):
            raise self._outside(start, start + duration, total)
        return Span(first, frames, samples)

    def _outside(self, start: Seconds, stop: Seconds, total: int) -> AudioError:
        note = self.header.note
        return AudioError(
            f"the segment from {start:.3f} to {stop:.3f} s does not lie in {self.name}, which lasts "
            f"{total / self.header.rate:.3f} s{note and ': ' + note}",
            "truncated" if note else "wrong_duration",
            self.name,
        )

    def check_length(self, expected: Seconds) -> None:
        """Refuse a file that is not as long as a manifest says, at the latest when it was read.

        Rates alone may differ: libsndfile says of Opus what rate the encoder was given, others that it is 48 kHz.

        Raises:
            AudioError: the lengths differ by more than decoders do.
        """
        self._expected = expected
        found = self.header.duration
        if not self.header.exact:
            return
        tolerance = self._tolerance(expected)
        if self.header.note and found < expected - tolerance:
            detail = f"{self.name} is not whole, {self.header.note}; the manifest says {expected:.3f} s"
            raise AudioError(detail, "truncated", self.name)
        if abs(found - expected) > tolerance:
            raise self._differs(f"lasts {found:.3f} s", expected)

    def _differs(self, found: str, expected: Seconds) -> AudioError:
        return AudioError(f"{self.name} {found}, but the manifest says {expected:.3f} s", "wrong_duration", self.name)

    def measure(self) -> None:
        """Make the header exact, by decoding the file if need be."""
        if not self.header.exact:
            self.header, self._begun = measured(self._file, self.name), True

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

    def read(
        self, rate: int, start: Seconds = 0.0, duration: Seconds | None = None, mix: Mix | None = None
    ) -> np.ndarray:
        """Read a segment as a whole; for the arguments see `blocks`.

        Returns:
            (T',) or (C, T') float32.
        """
        parts = list(self.blocks(rate, start, duration, mix=mix))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, -1)

    def blocks(
        self,
        rate: int,
        start: Seconds = 0.0,
        duration: Seconds | None = None,
        seconds: Seconds = BLOCK,
        mix: Mix | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield a segment in consecutive blocks, (n_i,) or (C, n_i) float32; joined they are `read`.

        Args:
            rate: of the blocks, Hz.
            start: of the segment; audio before it is not decoded where the format allows that.
            duration: of the segment; None is up to the end of the file.
            seconds: length of a block.
            mix: from the channels to the samples to use; None makes them one, see `slap.audio.mixing`.

        Raises:
            AudioError: the segment does not lie in the file, cannot be decoded, or has samples that are not finite or
                far beyond -1 to 1.
        """
        own = self.header.rate
        size = max(min(round(seconds * own), LARGEST_BLOCK // (4 * self.header.channels)), 1)
        if duration is None:
            yield from self._to_the_end(rate, start, size, mix)
            return
        span = self.span(rate, start, duration)
        if 2 * span.frames <= 3 * size:
            parts = list(self._mixed(self._segment(span, span.frames), span.start, mix))
            yield resample(parts[0] if len(parts) == 1 else np.concatenate(parts, -1), own, rate, span.samples)
        else:
            yield from resampled(self._mixed(self._segment(span, size), span.start, mix), own, rate, span.samples)

    def _to_the_end(self, rate: int, start: Seconds, size: int, mix: Mix | None) -> Iterator[np.ndarray]:
        """Yield all that can be decoded from a time on, in the blocks that a segment of that length has."""
        own = self.header.rate
        first = samples_in(start, own)
        if self.header.exact and start:
            self.span(rate, start)
        decoded = self._decoded(first, self.header.frames if self.header.exact else None, size)
        begin = list(islice(decoded, 2))

        def count(frames: int) -> int:
            return max(samples_in((first + frames) / own - start, rate), 1)

        if not begin:
            raise self._empty(start)
        frames, stream = sum(map(len, begin)), self._mixed(chain(begin, decoded), first, mix)
        if 2 * frames <= 3 * size:
            parts = list(stream)
            yield resample(parts[0] if len(parts) == 1 else np.concatenate(parts, -1), own, rate, count(frames))
        else:
            yield from resampled(stream, own, rate, count)

    def _mixed(self, frames: Iterable[np.ndarray], at: int, mix: Mix | None) -> Iterator[np.ndarray]:
        """Yield the samples to use of decoded frames, (n, C) each, the first of which has a number."""
        for samples in mixed(frames, self.header.rate) if mix is None else map(mix, frames):
            check_samples(samples, self.name, at)
            yield samples
            at += samples.shape[-1]

    def _segment(self, span: Span, size: int) -> Iterator[np.ndarray]:
        """Yield the frames of a segment in blocks of a size; those that may be missing at its end are zeros."""
        stop, at = span.start + span.frames, span.start
        for block in self._decoded(span.start, stop, size):
            at += len(block)
            yield block
        missing, own = stop - at, self.header.rate
        if self._expected is not None and not self.header.exact:
            self._check_end(at, self._expected)
        if not missing:
            return
        if at == span.start:
            raise self._beyond_the_end(at, stop) if at else self._empty()
        beyond = max(stop - self.header.frames, 0) if self.header.exact else 0
        cut_short = self.header.exact or self.note
        slack = max(min(self._slack(span.frames), ESTIMATE), 0 if cut_short else self._lossy_tolerance())
        if missing > beyond + slack * own:
            raise AudioError(
                f"{self.name} was cut short: its data ends {missing / own:.3f} s before the end that its header or "
                "manifest declares",
                "truncated",
                self.name,
            )
        yield np.zeros((missing, self.header.channels), np.float32)

    def _empty(self, start: Seconds = 0.0) -> AudioError:
        where = f" from {start:.3f} s on" if start else ""
        return AudioError(f"{self.name} holds no samples{where}", "empty", self.name)

    def _beyond_the_end(self, start: int, stop: int) -> AudioError:
        self.measure()
        return self._outside(start / self.header.rate, stop / self.header.rate, self.header.frames)

    def _check_end(self, at: int, expected: Seconds) -> None:
        """Refuse a file that goes on where it should end, once it was read up to there."""
        own = self.header.rate
        margin = round(self._tolerance(expected) * own)
        if at < samples_in(expected, own) - margin:
            return
        more = len(self._read(2 * margin, at))
        if at + more > samples_in(expected, own) + margin:
            raise self._differs(f"goes on after {at / own:.3f} s", expected)

    def _decoded(self, at: int, stop: int | None, size: int) -> Iterator[np.ndarray]:
        """Yield the frames from one on, up to another or to the end of the file, in blocks of a size."""
        if at or self._begun:
            self._seek(at)
        self._begun = True
        if stop is not None and stop >= self.header.frames:
            self.note = self.header.note
        while stop is None or at < stop:
            wanted = size if stop is None else min(size, stop - at)
            block = self._read(wanted, at)
            if len(block) < wanted:
                self.note = note_of(self._file, at + len(block))
            if not len(block):
                return
            yield block
            at += len(block)

    def _seek(self, frame: int) -> None:
        with Guard(self.name, f"cannot be decoded from {frame / self.header.rate:.2f} s on", "truncated"):
            self._file.seek(frame)

    def _read(self, frames: int, at: int) -> np.ndarray:
        with Guard(self.name, f"cannot be decoded beyond {at / self.header.rate:.2f} s", "truncated"):
            return self._file.read(frames)

    def _slack(self, frames: int) -> Seconds:
        """Return the time by which a segment of some frames may overstep the end of the file."""
        return min(PADDING, frames / self.header.rate / 10) if self._file.lossy else ROUNDING

    def _tolerance(self, expected: Seconds) -> Seconds:
        """Return the time by which the file's length may differ from a manifest's."""
        return max(PADDING + 0.01 * expected, MISMATCH if self._file.lossy else 0)

    def _lossy_tolerance(self) -> Seconds:
        """Return the time that may be missing at the end by a manifest, where its length is that of another decoder."""
        return self._tolerance(self._expected) if self._expected is not None and self._file.lossy else 0


def read(path: str | Path, rate: int) -> np.ndarray:
    """Read a whole file, (T',) float32, mono at a rate.

    Raises:
        AudioError: it cannot be read, has no samples, or samples that are not finite or far beyond -1 to 1.
    """
    with AudioFile(path) as file:
        return file.read(rate)


def blocks(
    path: str | Path, rate: int, seconds: Seconds = BLOCK, start: Seconds = 0.0, duration: Seconds | None = None
) -> Iterator[np.ndarray]:
    """Yield a segment of a file in consecutive blocks, (n_i,) float32, mono at a rate; see `AudioFile.blocks`.

    Raises:
        AudioError: as `read`, or the segment does not lie in the file; while iterating.
    """
    with AudioFile(path) as file:
        yield from file.blocks(rate, start, duration, seconds)
