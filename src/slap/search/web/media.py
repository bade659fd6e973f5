"""Audio files as a browser plays them: as they are, or as 16-bit WAV made on the fly; whole or in parts.

T samples, C channels.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import numpy as np
import soundfile
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from slap.core.errors import UserError

CHUNK = 1 << 16
"""Bytes, or samples, that are sent at once."""

_PCM = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT")
PLAYED = {
    **{(container, coding): "audio/wav" for container in ("WAV", "WAVEX") for coding in _PCM},
    ("OGG", "VORBIS"): "audio/ogg",
    ("OGG", "OPUS"): "audio/ogg",
    ("MP3", "MPEG_LAYER_III"): "audio/mpeg",
}
"""Containers and codings, in soundfile's names, that browsers play by themselves. FLAC is not among them: Chromium 156
stops with `demuxer seek failed` when one seeks in a FLAC file without a seek table, such as soundfile writes."""

WAV_HEADER = 44
LARGEST = 2**32 - 1
"""Bytes of a WAV file."""


class Media(Protocol):
    """Bytes of known number and type."""

    mime: str
    size: int

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `stop`."""

    def close(self) -> None:
        """Close the file."""


@dataclass
class Original:
    """A file as it is."""

    file: BinaryIO
    mime: str
    size: int

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `stop`, fewer if the file has become shorter."""
        self.file.seek(start)
        while start < stop and (chunk := self.file.read(min(CHUNK, stop - start))):
            start += len(chunk)
            yield chunk

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class Transcoded:
    """A file as 16-bit WAV, of one channel or two, decoded where it is read.

    Raises:
        ValueError: it is too long for a WAV file.
    """

    mime = "audio/wav"

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sound = file, soundfile.SoundFile(file)
        sound = self.sound
        self.channels = 2 if sound.channels == 2 else 1
        self.size = WAV_HEADER + 2 * self.channels * sound.frames
        if self.size > LARGEST:
            raise UserError(f"{sound.frames / sound.samplerate / 3600:.1f} h are too long to be played in a browser")

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `stop`; parts that cannot be decoded are silent."""
        if start < WAV_HEADER:
            yield self._header()[start:stop]
        frame = 2 * self.channels
        first, last = max(start - WAV_HEADER, 0), stop - WAV_HEADER
        at = first // frame
        while at * frame < last:
            count = min(CHUNK, -(-last // frame) - at)
            data = self._samples(at, count).tobytes()
            yield data[max(first - at * frame, 0) : last - at * frame]
            at += count

    def close(self) -> None:
        """Close the file."""
        self.sound.close()
        self.file.close()

    def _samples(self, at: int, count: int) -> np.ndarray:
        """(count, C) int16."""
        self.sound.seek(at)
        samples = self.sound.read(count, dtype="float32", always_2d=True)
        if self.channels == 1:
            samples = samples.mean(axis=1, keepdims=True)
        filled = np.zeros((count, self.channels), dtype=np.float32)
        filled[: len(samples)] = np.nan_to_num(samples)
        return np.rint(filled.clip(-1, 1) * 32767).astype("<i2")

    def _header(self) -> bytes:
        rate, frame = self.sound.samplerate, 2 * self.channels
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, self.channels, rate, rate * frame, frame, 16)
        data = struct.pack("<4sI", b"data", self.size - WAV_HEADER)
        return struct.pack("<4sI4s", b"RIFF", self.size - 8, b"WAVE") + form + data


def media(file: BinaryIO) -> Original | Transcoded:
    """Prepare an open audio file for a browser.

    Raises:
        soundfile.LibsndfileError: it is no audio.
        ValueError: it is too long.
    """
    with soundfile.SoundFile(file) as sound:
        mime = PLAYED.get((sound.format, sound.subtype))
    file.seek(0)
    if mime is None:
        return Transcoded(file)
    return Original(file, mime, os.fstat(file.fileno()).st_size)


def media_response(found: Media, request: Request) -> Response:
    """Answer with all bytes, or with the range of bytes that is asked for; the file is closed afterwards."""
    headers = {"Accept-Ranges": "bytes"}
    try:
        part = byte_range(request.headers.get("Range"), found.size)
    except IndexError:
        found.close()
        return Response(status_code=416, headers={"Content-Range": f"bytes */{found.size}"})
    start, stop = part or (0, found.size)
    headers["Content-Length"] = str(stop - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{found.size}"
    status = 200 if part is None else 206
    if request.method == "HEAD":
        found.close()
        return Response(status_code=status, headers=headers, media_type=found.mime)
    return _MediaResponse(found, start, stop, status, headers)


class _MediaResponse(StreamingResponse):
    """Bytes of media, which are closed afterwards, also when the browser goes away before the end."""

    def __init__(self, found: Media, start: int, stop: int, status: int, headers: dict[str, str]) -> None:
        super().__init__(found.read(start, stop), status, headers, found.mime)
        self.media = found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the bytes."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.media.close()


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Read a Range header: the first byte and the one after the last; None if it asks for all, or for several ranges.

    Raises:
        IndexError: none of them is there.

    Example:
        >>> byte_range("bytes=10-19", 100), byte_range("bytes=90-", 100), byte_range("bytes=-5", 100)
        ((10, 20), (90, 100), (95, 100))
    """
    found = re.fullmatch(r"bytes=(\d{0,20})-(\d{0,20})", (header or "").strip())
    if found is None or found.group(0) == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        start, stop = max(size - int(last), 0), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return None
    if start >= stop:
        raise IndexError(f"{header} of {size} bytes")
    return start, stop
