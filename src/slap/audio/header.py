"""What an audio file says of itself, and why one cannot be used; imports nothing heavy, for processes that read many.

T frames at the file's own rate, C channels. Files are opened with libsndfile (wav, flac, ogg, mp3, opus, aiff, ...), or
with FFmpeg what that cannot (m4a and other MPEG-4, see `slap.audio.mpeg4`).
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import soundfile

from slap.audio.mpeg4 import Mpeg4File, is_mpeg4
from slap.audio.rates import RATES
from slap.core.bad_clip import Reason
from slap.core.units import Seconds

FORMATS = "wav, flac, mp3, ogg and opus can, and m4a with the extra `m4a`"

UNKNOWN = 0x7FFFF000
"""A WAV's data of this size or more was written to a pipe, with the size not known."""

_CUT_SHORT = re.compile(r"^data : (\d+) \(should be (\d+)\)|Junk after the last page", re.MULTILINE)
"""How libsndfile's log says that a WAV's data, or an Ogg stream, ends too early."""


class FileError(Exception):
    """What is wrong with a file. Lhotse wraps errors into others of their type, made of one text."""

    def __init__(self, detail: str, reason: Reason = "unreadable", file: str = "") -> None:
        super().__init__(detail)
        self.detail, self.reason, self.file = detail, reason, file


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Args:
        frames: T.
        rate: Hz.
        channels: C.
    """

    frames: int
    rate: int
    channels: int

    @property
    def duration(self) -> Seconds:
        """Of the whole file."""
        return self.frames / self.rate


def header(path: str | Path) -> Header:
    """The header of an audio file.

    Raises:
        FileError: the file is absent, unreadable, truncated or empty.
    """
    with opened(str(path)) as file:
        return Header(file.frames, file.samplerate, file.channels)


def opened(source: str | BytesIO) -> soundfile.SoundFile | Mpeg4File:
    """An open file whose header makes sense.

    Raises:
        FileError: the file is absent, unreadable, truncated or empty, or has a rate that none has.
    """
    name = source if isinstance(source, str) else "memory"
    if isinstance(source, str):
        _check_plain(source)
    try:
        file = soundfile.SoundFile(source)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a headerless format, by the file's name
        if is_mpeg4(source):
            return _checked_mpeg4(source, name)
        what = f"{type(error).__name__}: {getattr(error, 'error_string', error)}"
        raise FileError(f"{name} cannot be read as audio ({what}); {FORMATS}", "unreadable", name) from error
    short = _CUT_SHORT.search(file.extra_info) if file.format in ("WAV", "WAVEX", "RF64", "OGG") else None
    if short and not (short[1] and int(short[1]) >= UNKNOWN):
        ends = f"{short[2]} of its {short[1]} bytes of audio are there" if short[1] else "it ends within a page"
        file.close()
        raise FileError(f"{name} was cut short: {ends}", "truncated", name)
    _check_content(file, name)
    return file


def _check_plain(path: str) -> None:
    """Refuse what is no plain file, before it is opened: a pipe would wait for ever, and a device never ends."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  # Path takes twice the time, for every clip
    except (OSError, ValueError) as error:  # ValueError: a name with NUL in it, which libsndfile would cut off there
        raise FileError(f"there is no file {path}", "absent", path) from error
    if not stat.S_ISREG(mode):
        raise FileError(f"{path} is no plain file", "unreadable", path)


def _checked_mpeg4(source: str | BytesIO, name: str) -> Mpeg4File:
    try:
        file = Mpeg4File(source)
    except (ImportError, ValueError, OSError) as error:
        raise FileError(f"{name} cannot be read as audio: {error}", "unreadable", name) from error
    _check_content(file, name)
    return file


def _check_content(file: soundfile.SoundFile | Mpeg4File, name: str) -> None:
    """Close a file that holds nothing, or whose rate none has, and say so."""
    if file.frames <= 0:
        file.close()
        raise FileError(f"{name} holds no samples", "empty", name)
    if not RATES[0] <= file.samplerate <= RATES[1]:
        file.close()
        detail = f"{name} says that its rate is {file.samplerate} Hz; {RATES[0]} to {RATES[1]} are read"
        raise FileError(detail, "wrong_rate", name)
