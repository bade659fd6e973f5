"""Audio files of a folder, by the suffixes of their names, and the marks by which a change shows."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from slap.core.data_root import open_audio

SUFFIXES = (
    *(
        "wav",
        "flac",
        "wave",
        "aif",
        "aiff",
        "aifc",
        "au",
        "snd",
        "caf",
        "w64",
        "rf64",
        "voc",
        "sph",
        "wv",
        "ape",
        "tta",
    ),
    *("mp3", "ogg", "oga", "opus", "m4a", "m4b", "aac", "wma", "spx", "mp2", "mpc"),
    *("ac3", "eac3", "dts", "amr", "awb", "mka", "weba"),
    *("mp4", "m4v", "mov", "mkv", "webm", "3gp", "3g2", "avi", "flv", "f4v", "wmv", "asf", "mpg", "mpeg", "m2ts"),
    *("vob", "ogv"),
)
"""Suffixes of audio and of video with audio, in lower case and without the dot; of one recording in several files, the
file with the first of these is read.

A file in another format than its suffix says is read all the same. Left out: `ts`, mostly TypeScript.
"""

NO_SUFFIX, HIDDEN, LINK = "no suffix", "hidden", "link to a folder"
"""Reasons to pass over what is in a folder, beside the suffix of its name, e.g. `.txt`."""

LONGEST_SUFFIX = 10
"""Characters of a suffix; what stands behind the last dot of a longer name is a part of that name."""

LISTED = 6
"""Number of reasons that one line names."""


class Found(NamedTuple):
    """A file of the folder.

    Attributes:
        path: below the folder, with slashes.
        size: bytes.
        mtime_ns: time of its last change, ns.
    """

    path: str
    size: int
    mtime_ns: int

    @property
    def name(self) -> str:
        """Path as it can be shown and kept: bytes that are not UTF-8 are escaped."""
        return os.fsencode(self.path).decode("utf-8", "backslashreplace")


def _forget(reason: str, path: str) -> None:
    """Take no notice of what is passed over."""


class PassedOver:
    """The numbers of files and folders that scans pass over, by reason.

    Attributes:
        counts: the numbers by reason.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, reason: str, path: str) -> None:  # noqa: ARG002  what `scan` calls; the numbers are enough here
        """Count a file or a folder."""
        self.counts[reason] += 1

    def __bool__(self) -> bool:
        """Tell if anything was passed over."""
        return bool(self.counts)

    def __str__(self) -> str:
        """Return the reasons in one line, the most frequent ones first: `.txt (12), hidden (1)`."""
        ordered = self.counts.most_common()
        rest = sum(count for _, count in ordered[LISTED:])
        shown = [*ordered[:LISTED], *([("others", rest)] if rest else [])]
        return ", ".join(f"{reason} ({count})" for reason, count in shown)


def is_audio(name: str) -> bool:
    """Tell if the name of a file has one of the suffixes; hidden files are no audio.

    Example:
        >>> is_audio("a.WAV"), is_audio("a.txt"), is_audio(".wav"), is_audio("wav")
        (True, False, False, False)
    """
    return why_not(name) is None


def why_not(name: str) -> str | None:
    """Return the reason why a file of a name is passed over; None if it is audio.

    Example:
        >>> why_not("a.TXT"), why_not("Interview with Dr. No, part one"), why_not(".wav"), why_not("a.wav")
        ('.txt', 'no suffix', 'hidden', None)
    """
    stem, _, suffix = name.rpartition(".")
    if name.startswith("."):
        return HIDDEN
    if not stem or not suffix.isalnum() or len(suffix) > LONGEST_SUFFIX:
        return NO_SUFFIX
    return None if suffix.lower() in SUFFIXES else f".{suffix.lower()}"


def scan(folder: Path, passed: Callable[[str, str], None] = _forget) -> Iterator[Found]:
    """Yield the audio files below a folder, by name.

    Passed over are hidden files and folders, links to folders, and files whose suffix is no audio's: what a file holds
    is not looked at. A link that leads nowhere is yielded with 0 bytes, so that whoever reads it names it.

    Args:
        folder: the folder.
        passed: called for each file and folder that is passed over, with the reason and the path; see `PassedOver`.

    Raises:
        NotADirectoryError: there is no such folder.
        PermissionError: a folder may not be read; otherwise its files would count as removed.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"there is no folder {folder}")
    for directory, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = _followed(directory, folders, passed)
        for name in sorted(files):
            path = Path(directory, name)
            reason = why_not(name)
            if reason is not None:
                passed(reason, str(path))
                continue
            status = _status(path)
            if status is not None:
                yield Found(path.relative_to(folder).as_posix(), *status)


def _followed(directory: str, folders: list[str], passed: Callable[[str, str], None]) -> list[str]:
    """Return the sub-folders to go into, by name."""
    followed = []
    for name in sorted(folders):
        path = os.path.join(directory, name)  # noqa: PTH118  Path takes twice the time
        reason = HIDDEN if name.startswith(".") else LINK if os.path.islink(path) else None  # noqa: PTH114
        if reason is None:
            followed.append(name)
        else:
            passed(reason, path)
    return followed


def _status(path: Path) -> tuple[int, int] | None:
    """Return bytes and time of change of a file, 0 bytes of a link that leads nowhere; None if it was removed since."""
    try:
        status = path.stat()
    except OSError:
        try:
            return 0, path.lstat().st_mtime_ns
        except FileNotFoundError:
            return None
    return status.st_size, status.st_mtime_ns


def content_hash(path: Path) -> str:
    """Return 32 hexadecimal digits of a file's bytes."""
    with open_audio(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def file_id(path: str) -> str:
    """Return 16 hexadecimal digits that name an indexed file without saying where it is."""
    return hashlib.blake2b(path.encode(), digest_size=8).hexdigest()


def _refuse(error: OSError) -> None:
    raise error
