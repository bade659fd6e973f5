"""Opens audio files: chooses the decoder, reads the header, and says why a file cannot be used.

Nothing heavy is imported, for processes that read many headers. Files are opened with libsndfile (wav, flac, ogg, mp3,
opus, aiff, ...), and with FFmpeg where libsndfile cannot (m4a and other MPEG-4, see `slap.audio.mpeg4`).

T frames at the file's own rate, C channels.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import soundfile

from slap.audio.mpeg4 import Mpeg4File, is_mpeg4
from slap.core.bad_clip import Reason
from slap.core.errors import UserError
from slap.core.units import Seconds

RATES = (100, 768_000)
"""Hz; a rate outside is a mistake in a header or a swap of arguments."""

FORMATS = "wav, flac, mp3, ogg and opus can, and m4a with the extra `m4a`"

UNKNOWN = 0x7FFFF000
"""Bytes of a WAV's data from which on the size is that of a stream, whose length was not known."""

ENDLESS = 2**62
"""Frames from which on libsndfile names the length of a stream that does not say it."""

_CUT_SHORT = re.compile(r"^data : (\d+) \(should be (\d+)\)|Junk after the last page", re.MULTILINE)
"""The lines of libsndfile's log about a WAV's data, or an Ogg stream, that ends too early."""


class Decoder(Protocol):
    """An open file, with those names of `soundfile.SoundFile` that are needed here.

    Attributes:
        frames: T by the header.
        samplerate: Hz.
        channels: C.
        format: name of the container.
    """

    frames: int
    samplerate: int
    channels: int
    format: str

    def seek(self, frames: int, /) -> int:
        """Go to a frame, to read from there on."""

    def read(self, frames: int, dtype: str, always_2d: bool) -> np.ndarray:
        """Decode (frames, C) float32, fewer where the file ends.

        Raises:
            RuntimeError: the data is damaged.
            OSError: likewise.
        """

    def close(self) -> None:
        """Close the file."""


class AudioError(UserError):
    """A recording that cannot be used; the message names it and the fault.

    Lhotse wraps errors into others of their type, made of one text.

    Attributes:
        reason: one of `slap.core.bad_clip.REASONS`.
        file: the path of the file; empty if there is none.
    """

    def __init__(self, message: str, reason: Reason = "unreadable", file: str = "") -> None:
        super().__init__(message)
        self.reason, self.file = reason, file


@dataclass(frozen=True)
class Header:
    """The length, rate and channels of a file as its header says them; compressed files may be wrong about the length.

    Attributes:
        frames: T.
        rate: Hz.
        channels: C.
    """

    frames: int
    rate: int
    channels: int

    @property
    def duration(self) -> Seconds:
        """Length of the whole file."""
        return self.frames / self.rate


def header(path: str | Path) -> Header:
    """Read the header of an audio file; nothing is decoded.

    Raises:
        AudioError: the file is absent, unreadable, truncated or empty, or its rate is impossible.
    """
    with closing(opened(str(path))) as file:
        return Header(file.frames, file.samplerate, file.channels)


def opened(source: str | BytesIO, name: str | None = None) -> Decoder:
    """Open a file, or the content of one, with the decoder for it, and check its header.

    Args:
        source: a path, or the content of a file.
        name: of the file, for messages; None is the path.

    Raises:
        AudioError: as `header`.
    """
    if isinstance(source, str):
        _check_plain(source)
    name = name or (source if isinstance(source, str) else "memory")
    file = _decoder(source, name)
    fault = _fault(file)
    if fault:
        file.close()
        detail, reason = fault
        raise AudioError(f"{name} {detail}", reason, name)
    return file


def _check_plain(path: str) -> None:
    """Refuse pipes, devices and folders before they are opened: a pipe would wait for ever, a device never ends."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  # Path takes twice the time, for every clip
    except (OSError, ValueError) as error:  # ValueError: a name with NUL in it, which libsndfile would cut off there
        raise AudioError(f"there is no file {path}", "absent", path) from error
    if not stat.S_ISREG(mode):
        raise AudioError(f"{path} is no plain file", "unreadable", path)


def _decoder(source: str | BytesIO, name: str) -> Decoder:
    """Open a file with the first decoder that can read it."""
    try:
        return cast(Decoder, soundfile.SoundFile(source))
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a headerless format, by the file's name
        what = f"{type(error).__name__}: {getattr(error, 'error_string', error)}; {FORMATS}"
        cause: Exception = error
    try:
        if is_mpeg4(source):
            return Mpeg4File(source)
    except (ImportError, ValueError, OSError) as error:
        what, cause = str(error), error
    raise AudioError(f"{name} cannot be read as audio: {what}", "unreadable", name) from cause


def _fault(file: Decoder) -> tuple[str, Reason] | None:
    """Return the fault of an open file, by its header, with its reason; None if there is none."""
    log: str = getattr(file, "extra_info", "") if file.format in ("WAV", "WAVEX", "RF64", "OGG") else ""
    short = _CUT_SHORT.search(log)
    if short and not (short[1] and int(short[1]) >= UNKNOWN):
        ends = f"{short[2]} of its {short[1]} bytes of audio are there" if short[1] else "it ends within a page"
        return f"was cut short: {ends}", "truncated"
    if file.frames <= 0:
        return "holds no samples", "empty"
    if file.frames >= ENDLESS:
        return "does not say how long it is", "unreadable"
    if file.channels <= 0:
        return "says that it has no channels", "unreadable"
    if not RATES[0] <= file.samplerate <= RATES[1]:
        return f"says that its rate is {file.samplerate} Hz; {RATES[0]} to {RATES[1]} are read", "wrong_rate"
    return None
