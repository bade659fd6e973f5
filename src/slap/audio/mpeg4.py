"""MPEG-4 audio (m4a, mp4), which libsndfile does not read, through FFmpeg as PyAV brings it (extra `m4a`).

T frames, C channels.
"""

from __future__ import annotations

from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from slap.core.errors import MissingDependencyError, UserError

LEAD = 4096
"""Frames that are decoded before a segment and dropped: a block of AAC needs those before it."""


def is_mpeg4(source: str | BytesIO) -> bool:
    """Tell by its first bytes if a file, or the content of one, is an MPEG-4 container."""
    if isinstance(source, str):
        with Path(source).open("rb") as file:
            start = file.read(8)
    else:
        source.seek(0)
        start = source.read(8)
        source.seek(0)
    return start[4:8] == b"ftyp"


class Mpeg4File:
    """An open file with those methods of `soundfile.SoundFile` that are needed here.

    Attributes:
        frames: T; containers may be wrong about it by one block.
        samplerate: Hz.
        channels: C.
        format: "MPEG-4".

    Raises:
        ImportError: PyAV is not installed.
        ValueError: this is not MPEG-4 with audio in it.
        OSError: the file cannot be read.
    """

    format = "MPEG-4"

    def __init__(self, source: str | BytesIO) -> None:
        try:
            import av
        except ImportError as error:
            raise MissingDependencyError("m4a and mp4 need PyAV: pip install 'slap-audio[m4a]'") from error
        container: Any = av.open(source, metadata_errors="ignore")  # what it knows depends on the kind of file
        self._container = container
        if not container.streams.audio:
            container.close()
            raise UserError("there is no audio in it")
        self._stream = container.streams.audio[0]
        self._stream.codec_context.thread_count = 1
        self.samplerate: int = self._stream.rate
        self.channels: int = self._stream.channels
        self._unit = Fraction(self._stream.time_base)
        self._begin: int = self._stream.start_time or 0  # of the first frame, in the container's units
        ticks = self._stream.duration
        seconds = ticks * self._unit if ticks is not None else Fraction(container.duration or 0, av.time_base)
        self.frames = round(seconds * self.samplerate)
        self._at = 0
        self._broken_off = False  # the rest of a block is lost after a read

    def seek(self, frame: int) -> int:
        """Read from a frame on.

        Raises:
            OSError: FFmpeg finds no such place.
        """
        self._at, self._broken_off = frame, False
        lead = Fraction(max(frame - LEAD, 0), self.samplerate)
        self._container.seek(int(lead / self._unit) + self._begin, stream=self._stream)
        return frame

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = True) -> np.ndarray:
        """Decode (frames, C) float32 from here on, fewer where the file ends.

        Raises:
            RuntimeError: the data is damaged.
            OSError: as `seek`.
        """
        from av.error import FFmpegError

        assert (dtype, always_2d) == ("float32", True)
        if self._broken_off:
            self.seek(self._at)
        self._broken_off = True
        parts: list[np.ndarray] = []
        found, stop = 0, self._at + frames
        try:
            for block in self._blocks():
                start = round((block.pts - self._begin) * self._unit * self.samplerate)
                part = block.to_ndarray()[:, max(self._at - start, 0) : max(stop - start, 0)]
                parts.append(part)
                found += part.shape[1]
                if start + block.samples >= stop:
                    break
        except FFmpegError as error:
            raise RuntimeError(str(error)) from error
        self._at += found
        return np.concatenate([np.zeros((self.channels, 0), np.float32), *parts], axis=1).T

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _blocks(self) -> Any:
        """Yield decoded blocks as planes of float32."""
        from av import AudioResampler

        planes = AudioResampler(format="fltp")
        for block in self._container.decode(self._stream):
            yield from planes.resample(block)
