"""Opens audio files: chooses the decoder, reads the header, and says why a file cannot be used.

Nothing heavy is imported, for processes that read many headers. libsndfile reads wav, flac, ogg, mp3, opus, aiff and
others, where the bytes of the file bear out the length that its header claims (`slap.audio.claims`); FFmpeg reads all
others (`slap.audio.ffmpeg`).

T frames at the file's own rate, C channels.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from slap.audio.claims import SURE, UNSURE, Claim, examined
from slap.audio.errors import AudioError, Guard
from slap.audio.ffmpeg import FfmpegFile
from slap.audio.joined import ReadAt
from slap.audio.sndfile import SndFile
from slap.core.bad_clip import Reason
from slap.core.data_root import ElsewhereError, check_root
from slap.core.units import Seconds

RATES = (100, 768_000)
"""Hz; a rate outside is a mistake in a header or a swap of arguments."""

ROUNDING: Seconds = 1e-3
"""Time by which a segment may overstep its file's end: times in manifests are rounded."""

PADDING: Seconds = 0.1
"""Time by which a file's length may differ from what is declared: decoders disagree on the padding of encoders."""


SETTLED = 2_000_000_000
"""Nanoseconds after which a change of a file has another time than the one before, however coarse its clock is."""


class Decoder(Protocol):
    """An open file.

    Attributes:
        frames: T as far as is known before decoding.
        exact: `frames` can be relied on, unless data within the file is damaged.
        declared: T that the header declares; None if it does not.
        samplerate: Hz.
        channels: C.
        lossy: decoders of the format disagree on the padding of encoders.
        begins: time of the first sample in a video.
    """

    frames: int
    exact: bool
    declared: int | None
    samplerate: int
    channels: int
    lossy: bool
    begins: Seconds

    @property
    def broken_off(self) -> bool:
        """True if the file was found to end within its stream."""

    @property
    def damaged(self) -> int:
        """Number of packets so far that are silence instead of what they held."""

    @property
    def missing(self) -> Seconds:
        """Time that is known to be missing within what was decoded so far."""

    def seek(self, frame: int, /) -> int:
        """Go to a frame, to read from there on."""

    def read(self, frames: int, /) -> np.ndarray:
        """Decode (frames, C) float32, fewer where the file ends."""

    def length(self) -> int:
        """Return T, for which what must be is decoded."""

    def close(self) -> None:
        """Close the file."""


@dataclass(frozen=True)
class Header:
    """The length, rate and channels of a file.

    Attributes:
        frames: T; a hint where it is not exact.
        rate: Hz.
        channels: C.
        exact: the length is that of the audio that can be decoded; else only decoding tells it, see `measure`.
        note: a sentence of what is missing in the file; empty if nothing is known to be.
    """

    frames: int
    rate: int
    channels: int
    exact: bool = True
    note: str = ""

    @property
    def duration(self) -> Seconds:
        """Length of the whole file."""
        return self.frames / self.rate


def header(source: str | Path | BinaryIO) -> Header:
    """Read the header of an audio file; at most its first packets are decoded.

    Raises:
        AudioError: the file is absent, unreadable or empty, or its rate is impossible.
    """
    with closing(opened(source)) as file:
        return header_of(file)


def measure(source: str | Path | BinaryIO, name: str | None = None) -> Header:
    """Read the header of an audio file, with the true length: where the header is not sure of it, the file is decoded.

    Args:
        source: a path, or an open file that can be sought.
        name: of the file, for messages; None is the path.

    Raises:
        AudioError: as `header`, or nothing of it can be decoded.
    """
    name = name or name_of(source)
    with closing(opened(source, name)) as file:
        return measured(file, name)


def measured(file: Decoder, name: str) -> Header:
    """Return the header of an open file, named for messages, with the true length; nothing can be read after it."""
    found = header_of(file)
    if found.exact:
        return found
    with Guard(name, "cannot be decoded", "truncated"):
        frames = file.length()
    return replace(found, frames=frames, exact=True, note=note_of(file, frames))


def header_of(file: Decoder) -> Header:
    """Return the header of an open file."""
    note = note_of(file, file.frames) if file.exact else ""
    return Header(file.frames, file.samplerate, file.channels, file.exact, note)


def note_of(file: Decoder, frames: int) -> str:
    """Return a sentence of what is missing in a file of which some frames could be decoded; empty if nothing is."""
    notes = []
    rate, declared = file.samplerate, file.declared or 0
    if declared - frames > (ROUNDING if file.exact else PADDING) * rate:
        notes.append(
            f"it was cut short: {frames / rate:.2f} of the {declared / rate:.2f} s that its header declares are there"
        )
    elif file.broken_off:
        notes.append(f"its stream breaks off after {frames / rate:.2f} s")
    if file.damaged:
        packets = "1 damaged packet was" if file.damaged == 1 else f"{file.damaged} damaged packets were"
        notes.append(f"{packets} passed over")
    if file.missing:
        notes.append(f"{file.missing:.2f} s within it are missing")
    return ", and ".join(notes)


def opened(source: str | Path | BinaryIO, name: str | None = None) -> Decoder:
    """Open a file with the decoder for it, and check its header.

    Args:
        source: a path, or an open file that can be sought, which is read from its beginning.
        name: of the file, for messages; None is the path.

    Raises:
        AudioError: as `header`.
    """
    name = name or name_of(source)
    source = str(source) if isinstance(source, Path) else source
    if isinstance(source, str):
        _check_root(source)
    about = _check_plain(source) if isinstance(source, str) else None
    file = _decoder(source, name, about)
    fault = _fault(file)
    if fault:
        file.close()
        detail, reason = fault
        raise AudioError(f"{name} {detail}", reason, name)
    return file


def name_of(source: str | Path | BinaryIO) -> str:
    """Return the name of a file for messages."""
    name = source if isinstance(source, str | Path) else getattr(source, "name", None)
    return str(name) if isinstance(name, str | Path) else "memory"


def _check_root(path: str) -> None:
    """Refuse a file outside of the folders that audio may lie in."""
    try:
        check_root(path)
    except ElsewhereError as error:
        raise AudioError(str(error), "unreadable", path) from error


def _check_plain(path: str) -> os.stat_result:
    """Return the facts about a file.

    Pipes, devices and folders are refused before they are opened: a pipe would wait for ever, a device never ends.
    """
    try:
        about = os.stat(path)  # noqa: PTH116  # Path takes twice the time, for every clip
    except (OSError, ValueError) as error:  # ValueError: a name with NUL in it, which libsndfile would cut off there
        fault = FAULTS.get(getattr(error, "errno", None) or 0)
        if fault:
            raise AudioError(f"{path[:LONGEST]} cannot be opened: {fault}", "unreadable", path) from error
        raise AudioError(f"there is no file {path}", "absent", path) from error
    if not stat.S_ISREG(about.st_mode):
        raise AudioError(f"{path} is no plain file", "unreadable", path)
    return about


LONGEST = 200
"""Characters of a path that are shown where it is too long to be one."""

FAULTS = {
    errno.ELOOP: "it is a link to itself",
    errno.EACCES: "permission denied",
    errno.ENAMETOOLONG: f"its path of more than {LONGEST} characters is too long",
}
"""Faults of a path other than that there is no such file."""


def _decoder(source: str | BinaryIO, name: str, about: os.stat_result | None) -> Decoder:
    """Open a file with libsndfile where it is sure of the length, else with FFmpeg."""
    with Guard(name):
        claim = _claim(source, name, about)
        if claim.sure:
            with suppress(RuntimeError, TypeError):  # then FFmpeg says what is wrong; TypeError: no header, by the name
                first = SndFile(source, claim)
                if first.frames > 0 and first.sure:
                    return first
                first.close()
        return FfmpegFile(source, claim)


def _claim(source: str | BinaryIO, name: str, about: os.stat_result | None) -> Claim:
    if not isinstance(source, str):
        return _checked(partial(_read_at, source), source.seek(0, os.SEEK_END), name)
    assert about
    settled = time.time_ns() - about.st_ctime_ns > SETTLED
    look = _claim_of if settled else _claim_of.__wrapped__
    return look(source, name, about.st_size, about.st_ctime_ns, about.st_ino)


@lru_cache(maxsize=1 << 12)
def _claim_of(path: str, name: str, *_: int) -> Claim:
    """Examine a file of a size, changed at a time; what was found is kept for the next time that it is read."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _checked(lambda at, size: os.pread(file, size, at), os.fstat(file).st_size, name)
    finally:
        os.close(file)


def _checked(read_at: ReadAt, size: int, name: str) -> Claim:
    if not size:
        raise AudioError(f"{name} is empty: it has 0 bytes", "empty", name)
    claim = examined(read_at, size)
    # libsndfile looks for MP3 in whatever has that suffix.
    return UNSURE if claim is SURE and name.lower().endswith(".mp3") else claim


def _read_at(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)


def _fault(file: Decoder) -> tuple[str, Reason] | None:
    """Return the fault of an open file, by its header, with its reason; None if there is none."""
    if file.exact and file.frames <= 0:
        if file.damaged:
            return f"has {file.damaged} packets of sound, none of which can be decoded", "unreadable"
        return "holds no samples", "empty"
    if file.channels <= 0:
        return "says that it has no channels", "unreadable"
    if not RATES[0] <= file.samplerate <= RATES[1]:
        return f"says that its rate is {file.samplerate} Hz; {RATES[0]} to {RATES[1]} are read", "wrong_rate"
    return None
