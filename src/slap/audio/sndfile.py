"""The first decoder: libsndfile, for files whose length it is sure of.

T frames, C channels.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import BinaryIO

import numpy as np
import soundfile

from slap.audio.claims import Claim
from slap.audio.ffmpeg import FfmpegFile
from slap.core.units import Seconds

UNKNOWN = 0x7FFFF000
"""Bytes of a WAV's data from which on the size is that of a stream, whose length was not known."""

_CUT_SHORT = re.compile(r"^ *(?:data|SSND|Data Size|riff) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
"""The line of libsndfile's log about the data of a file that ends too early."""

FAR = 10
"""Seconds from which on FFmpeg finds a place in a file in which libsndfile would have to begin at the first frame."""

LOGGED = ("WAV", "WAVEX", "RF64", "AIFF", "AU", "W64")
"""Formats whose log says that."""


class SndFile:
    """An open file, see `slap.audio.decoders.Decoder`.

    Args:
        source: a path, or an open file, which is read from its beginning.
        claim: of its header.

    Raises:
        Exception: whatever soundfile raises.
    """

    begins: Seconds = 0.0
    exact = True
    broken_off = False

    def __init__(self, source: str | BinaryIO, claim: Claim) -> None:
        self._source, self._claim = source, claim
        self._file = self._open()
        self._reach = claim.reach if self._file.can_seek() else 0
        self.frames, self.samplerate, self.channels = self._file.frames, self._file.samplerate, self._file.channels
        container = self._file.format
        self.lossy = container in ("MP3", "OGG")
        self.declared: int | None = self._declared(container)
        self._at = 0
        self._second: FfmpegFile | None = None

    def _open(self) -> _Unsought:
        if not isinstance(self._source, str):
            self._source.seek(0)
        return _Unsought(self._source)

    @property
    def damaged(self) -> int:
        """Number of packets that were passed over."""
        return self._second.damaged if self._second else 0

    def _declared(self, container: str) -> int:
        """Return T by the header; libsndfile's is that of the data that is there."""
        short = _CUT_SHORT.search(self._file.extra_info) if container in LOGGED else None
        if not short or int(short[1]) >= UNKNOWN or int(short[1]) <= int(short[2]):
            return self.frames
        return round(self.frames * int(short[1]) / max(int(short[2]), 1))

    def seek(self, frame: int) -> int:
        """Read from a frame on, with the same samples as if all before it were decoded."""
        if self._second is None and self._reach == 0 and frame - self._at > FAR * self.samplerate:
            self._second = FfmpegFile(self._source, self._claim)
        if self._second is not None:
            self._second.seek(frame)
        elif self._reach is None or frame <= self._reach:
            self._file.seek(min(frame, self.frames))
        else:
            self._approach(frame, self._reach)
        self._at = frame
        return frame

    def _approach(self, frame: int, reach: int) -> None:
        """Read up to a frame from one before it at which libsndfile may begin."""
        if frame < self._at or reach > self._at:
            if reach:
                self._file.seek(reach)
            else:
                self._file.close()
                self._file = self._open()
            self._at = reach
        while self._at < frame and (passed := len(self._read_first(min(frame - self._at, 1 << 16)))):
            self._at += passed

    def read(self, frames: int) -> np.ndarray:
        """Decode (frames, C) float32 from here on, fewer where the file ends."""
        wanted = min(frames, max(self.frames - self._at, 0))
        block = self._read_first(wanted) if self._second is None else self._second.read(frames)
        if len(block) < wanted and self._second is None:
            self._second = FfmpegFile(self._source, self._claim)
            self._second.seek(self._at + len(block))
            block = np.concatenate([block, self._second.read(wanted - len(block))])
        self._at += len(block)
        return block

    def _read_first(self, frames: int) -> np.ndarray:
        """Decode by libsndfile, nothing where it fails: it loses its place in some valid FLAC."""
        block = np.zeros((0, self.channels), np.float32)
        with suppress(soundfile.SoundFileError):
            block = self._file.read(frames, dtype="float32", always_2d=True)
        return block

    def length(self) -> int:
        """Return T."""
        return self.frames

    def close(self) -> None:
        """Close the file, unless it was open before."""
        self._file.close()
        if self._second:
            self._second.close()


class _Unsought(soundfile.SoundFile):
    """A file that is not sought after each read.

    soundfile seeks to where it is already, and libmpg123 then decodes some frames again, without all the bytes that
    they need: 0.03 s of audio are wrong after each block of an MP3 of a low rate.
    """

    def seekable(self) -> bool:
        """Return False, so that a read is one read."""
        return False

    def can_seek(self) -> bool:
        """Tell if the file can be sought."""
        return super().seekable()
