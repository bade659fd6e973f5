"""Audio files as a browser plays them: as they are, or as 16-bit WAV made on the fly; whole or in parts.

Files that browsers play by themselves are given as they are, if the reader of audio files is sure of their length, so
that a browser finds the same times in them. Every other file, such as a video, is decoded where it is asked for, on the
clock of a player: the silence before audio that starts late is a part of it.

T samples, C channels.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import numpy as np
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from slap.audio.player_clock import on_clock
from slap.audio.reader import AudioError, AudioFile
from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.search.web.playable import playable

CHUNK = 1 << 16
"""Bytes that are sent at once."""

BLOCK: Seconds = 1.0
"""Length of what is decoded at once."""

SAME: Seconds = 0.05
"""Time by which the length of a file that is given as it is may differ from the indexed one."""

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

    Args:
        file: the open file.
        sound: reads it.
        duration: its end on the clock of a player.

    Raises:
        UserError: it is too long for a WAV file.
    """

    mime = "audio/wav"

    def __init__(self, file: BinaryIO, sound: AudioFile, duration: Seconds) -> None:
        self.file, self.sound = file, sound
        self.rate = sound.header.rate
        self.channels = 2 if sound.header.channels == 2 else 1
        self.frames = round(duration * self.rate)
        self.size = WAV_HEADER + 2 * self.channels * self.frames
        if self.size > LARGEST:
            raise UserError(f"{duration / 3600:.1f} h are too long to be played in a browser")

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `stop`; parts that cannot be decoded are silent."""
        if start < WAV_HEADER:
            yield self._header()[start:stop]
        frame = 2 * self.channels
        first, wanted = max(start - WAV_HEADER, 0), stop - WAV_HEADER
        at = first // frame * frame
        for data in self._data(at // frame) if first < wanted else ():
            if at >= wanted:
                return
            yield data[max(first - at, 0) : wanted - at]
            at += len(data)
        at = max(at, first)
        while at < wanted:
            yield bytes(min(CHUNK, wanted - at))
            at += CHUNK

    def close(self) -> None:
        """Close the file."""
        self.sound.close()
        self.file.close()

    def _data(self, frame: int) -> Iterator[bytes]:
        """Yield the frames from one on, up to the end or to what cannot be decoded."""
        left = self.frames - frame
        mix = _stereo if self.channels == 2 else None
        with suppress(AudioError):
            for block in on_clock(self.sound, self.rate, frame / self.rate, None, BLOCK, mix):
                samples = block.reshape(self.channels, -1)[:, :left].T
                left -= len(samples)
                yield np.rint(samples.clip(-1, 1) * 32767).astype("<i2").tobytes()

    def _header(self) -> bytes:
        frame = 2 * self.channels
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, self.channels, self.rate, self.rate * frame, frame, 16)
        data = struct.pack("<4sI", b"data", self.size - WAV_HEADER)
        return struct.pack("<4sI4s", b"RIFF", self.size - 8, b"WAVE") + form + data


def _stereo(block: np.ndarray) -> np.ndarray:
    """Return both channels of a block, (n, 2), each by itself, (2, n)."""
    return np.ascontiguousarray(block.T)


def media(file: BinaryIO, name: str, duration: Seconds) -> Original | Transcoded:
    """Prepare an open audio file for a browser.

    Args:
        file: the file.
        name: of the file, for messages.
        duration: its end on the clock of a player, as it was indexed.

    Raises:
        AudioError: it is no audio.
        UserError: it is too long.
    """
    mime = playable(file)
    sound = AudioFile(file, name)
    header = sound.header
    if mime and header.exact and not sound.begins and abs(header.duration - duration) <= SAME:
        sound.close()
        return Original(file, mime, os.fstat(file.fileno()).st_size)
    try:
        return Transcoded(file, sound, duration)
    except UserError:
        sound.close()
        raise


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
