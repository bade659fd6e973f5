"""The first decoder: libsndfile, for files whose length it is sure of.

T frames, C channels.
"""

from __future__ import annotations

import re
from typing import BinaryIO

import numpy as np
import soundfile

from slap.audio.claims import UNKNOWN, Claim
from slap.audio.ffmpeg import FfmpegFile
from slap.core.units import Seconds

_CUT_SHORT = re.compile(r"^ *(?:data|SSND|Data Size|riff) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
"""The line of libsndfile's log about the data of a file that ends too early."""

LEAD = 1
"""Seconds of Opus that are decoded before a place."""

OPUS_RATE = 48_000
"""Hz at which Opus is decoded, whatever was encoded."""

FAR = 10
"""Seconds from which on FFmpeg finds a place in a file in which libsndfile would have to begin at the first frame."""

LOGGED = ("WAV", "WAVEX", "RF64", "AIFF", "AU", "W64")
"""Formats whose log says that."""


class SndFile:
    """An open file, see `slap.audio.decoders.Decoder`.

    Args:
        source: a path, or an open file, which is read from its beginning.
        claim: of its header.

    Attributes:
        sure: libsndfile gives the samples that other players give.

    Raises:
        Exception: whatever soundfile raises.
    """

    begins: Seconds = 0.0
    exact = True

    def __init__(self, source: str | BinaryIO, claim: Claim) -> None:
        self._source, self._claim = source, claim
        self._file = self._open()
        self._reach = claim.reach if self._file.can_seek() else 0
        self.frames, self.samplerate, self.channels = self._file.frames, self._file.samplerate, self._file.channels
        container, coding = self._file.format, self._file.subtype
        self.sure = self._sure(container, coding)
        self.lossy = container in ("MP3", "OGG")
        self.declared: int | None = self._declared() if container in LOGGED and not claim.whole else self.frames
        self._lead = LEAD * self.samplerate if coding == "OPUS" else 0
        self._silent = container in ("CAF", "RF64")  # whose log does not say that the data ends too early
        self._at = 0
        self._second: FfmpegFile | None = None

    def _open(self) -> _Unsought:
        if not isinstance(self._source, str):
            self._source.seek(0)
        return _Unsought(self._source)

    def _sure(self, container: str, coding: str) -> bool:
        """Tell if libsndfile gives the samples that other players give, in their order of channels."""
        if coding == "OPUS" and self.samplerate != OPUS_RATE:  # the rate that was encoded, to which it resamples
            return False
        if container == "OGG" and self.channels > 2:  # in the order of Vorbis
            return False
        return coding != "MPEG_LAYER_III" or container == "MP3"

    @property
    def broken_off(self) -> bool:
        """True if the file was found to end within its stream."""
        return self._second.broken_off if self._second else self._silent and self._claim.broken_off

    @property
    def damaged(self) -> int:
        """Number of packets that are silence instead of what they held."""
        return self._second.damaged if self._second else 0

    @property
    def missing(self) -> Seconds:
        """Time that is known to be missing within the file."""
        return self._second.missing if self._second else 0.0

    def _declared(self) -> int:
        """Return T by the header, of which libsndfile's log tells; its own is that of the data that is there."""
        short = _CUT_SHORT.search(self._file.extra_info)
        if not short or int(short[1]) >= UNKNOWN or int(short[1]) <= int(short[2]):
            return self.frames
        return round(self.frames * int(short[1]) / max(int(short[2]), 1))

    def seek(self, frame: int) -> int:
        """Read from a frame on, with the same samples as if all before it were decoded."""
        far = self._reach == 0 and frame - self._at > FAR * self.samplerate
        if self._second is None and not far and self._seek_first(frame):
            self._at = frame
            return frame
        self._go_on(frame)
        return frame

    def _seek_first(self, frame: int) -> bool:
        """Go to a frame by libsndfile, and tell if it could.

        In Ogg it goes wrong where something was read before, and Opus needs some time to settle.
        """
        reach = frame - self._lead if self._reach is None else min(frame, self._reach)
        try:
            if frame < self._at or reach > self._at:
                if self.lossy and self._at:
                    self._file.close()
                    self._file, self._at = self._open(), 0
                if reach > 0:
                    self._at = self._file.seek(min(reach, self.frames))
        except soundfile.SoundFileError:
            return False
        while self._at < frame and (passed := len(self._read_first(min(frame - self._at, 1 << 16)))):
            self._at += passed
        return self._at == min(frame, self.frames)

    def _go_on(self, frame: int) -> FfmpegFile:
        """Read from a frame on by FFmpeg."""
        self._second = self._second or FfmpegFile(self._source, self._claim)
        self._second.seek(frame)
        self._at = frame
        return self._second

    def read(self, frames: int) -> np.ndarray:
        """Decode (frames, C) float32 from here on, fewer where the file ends."""
        wanted = min(frames, max(self.frames - self._at, 0))
        if not wanted and self._second is None:
            return np.zeros((0, self.channels), np.float32)
        block = self._read_first(wanted) if self._second is None else self._second.read(frames)
        self._at += len(block)
        if len(block) < wanted and self._second is None:
            rest = self._go_on(self._at).read(wanted - len(block))
            self._at += len(rest)
            block = np.concatenate([block, rest])
        return block

    def _read_first(self, frames: int) -> np.ndarray:
        """Decode by libsndfile, nothing where it fails: it loses its place in some valid FLAC."""
        block = np.empty((frames, self.channels), np.float32)
        try:
            count = self._file.buffer_read_into(block, "float32")  # in less time than by `read`
        except soundfile.SoundFileError:
            count = 0
        return block[:count]

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
