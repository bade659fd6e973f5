"""Search for the audio of clips from YouTube, by the file names of all common downloaders."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from slap.audio import scan
from slap.core.errors import UserError

ID_LENGTH = 11  # letters, digits, `-` and `_`: an id may begin with any of them, so a name is never split at `_`

SUFFIXES = tuple(suffix for kind in scan.SUFFIXES for suffix in (f".{kind}", f".{kind.upper()}"))
"""Suffixes of audio files; if a clip has several files, the first of these suffixes is used."""


class Downloads:
    """The audio files below a folder, by name.

    The folder is walked once, on first use, links included, so that the audio may lie in any sub-folders. It takes
    about 200 bytes of memory per file.

    Args:
        folder: folder with the audio files.

    Raises:
        FileNotFoundError: there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}; name the one that holds the audio")
        self.folder = folder
        self._places: list[str] = []  # folders with audio in them
        self._files: dict[str, int] = {}  # name without suffix -> which of the folders and which suffix

    def named(self, name: str) -> Path | None:
        """Return the file of exactly this name, without its suffix, if there is one."""
        if not self._places:
            self._walk()
        if name not in self._files:
            return None
        place, suffix = divmod(self._files[name], len(SUFFIXES))
        return Path(self._places[place], name + SUFFIXES[suffix])

    def find(self, youtube: str, start: float | None = None, end: float | None = None) -> Path:
        """Return the path of a clip's file; if there is none, the path at which it would be expected.

        Args:
            youtube: id of the video.
            start: begin of the clip in the video, seconds, if it is known.
            end: end of the clip in the video, seconds, if it is known.
        """
        found = (path for name in names(youtube, start, end) if (path := self.named(name)) is not None)
        return next(found, self.folder / f"{youtube}.wav")

    def _walk(self) -> None:
        seen: set[str] = set()
        for place, folders, files in os.walk(self.folder, followlinks=True):
            if os.path.realpath(place) in seen:  # a link to a folder above
                folders.clear()
                continue
            seen.add(os.path.realpath(place))
            folders.sort()
            for file in files:
                name, dot, suffix = file.rpartition(".")
                if dot + suffix in SUFFIXES and not file.startswith("._"):
                    self._add(name, len(self._places) * len(SUFFIXES) + SUFFIXES.index(dot + suffix))
            self._places.append(place)

    def _add(self, name: str, code: int) -> None:
        known = self._files.get(name)
        if known is None or code % len(SUFFIXES) < known % len(SUFFIXES):
            self._files[name] = code


def names(youtube: str, start: float | None = None, end: float | None = None) -> Iterator[str]:
    """Yield possible names of a clip's file, without suffix, the most specific ones first.

    They are those of VGGSound's authors (`id_000030`), of audiosetdl (`id_30000_40000`, milliseconds), of AudioSet's
    strong labels (`id_30000`), of YouTube-8M clips in AudioSetCaps (`id_30_10`, start and duration), of MusicCaps'
    downloaders (`[id]-[30-40]`), and others with seconds (`id_30.000_40.000`, `id_30_40`, `id_30`); each of them, and
    the id by itself, also with the Y in front that AudioCaps, WavCaps and PANNs write so that no name begins with a
    dash.

    Example:
        >>> list(names("--PJHxphWEs"))
        ['--PJHxphWEs', 'Y--PJHxphWEs']
        >>> list(names("--PJHxphWEs", 30, 40))[:3]
        ['--PJHxphWEs_000030', 'Y--PJHxphWEs_000030', '--PJHxphWEs_30.000_40.000']
    """
    for ending in _endings(start, end):
        yield youtube + ending
        yield "Y" + youtube + ending
    if start is not None and end is not None:
        yield f"[{youtube}]-[{start:.0f}-{end:.0f}]"
    yield youtube
    yield "Y" + youtube


def _endings(start: float | None, end: float | None) -> Iterator[str]:
    if start is None:
        return
    yield f"_{start:06.0f}"
    if end is not None:
        yield f"_{start:.3f}_{end:.3f}"
        yield f"_{start * 1000:.0f}_{end * 1000:.0f}"
        yield f"_{start:.0f}_{end:.0f}"
        yield f"_{start:.0f}_{end - start:.0f}"
    yield f"_{start:.3f}"
    yield f"_{start * 1000:.0f}"
    yield f"_{start:.0f}"


def parse(name: str) -> tuple[str, float | None, float | None]:
    """Parse the name of a clip in a list of captions into the video's id, and start and end in seconds.

    Accepted are `id`, `Yid`, `id_000030` (VGGSound: the start) and `id_30_10` (YouTube-8M in AudioSetCaps: start and
    duration). An id has 11 characters; one that lost its leading dashes, as in some lists, gets them back.

    Raises:
        ValueError: the name is none of these.

    Example:
        >>> parse("Y---1_cCGK4M"), parse("OxPnZzn1_L8_000883"), parse("9eUrEyAR3xk_84_10")
        (('---1_cCGK4M', None, None), ('OxPnZzn1_L8', 883.0, None), ('9eUrEyAR3xk', 84.0, 94.0))
    """
    found = re.fullmatch(r"Y?([\w-]{11})(?:_(\d+)(?:_(\d+))?)?", name, re.ASCII)
    if found is None and re.fullmatch(r"[\w-]{1,10}", name, re.ASCII):
        return name.rjust(ID_LENGTH, "-"), None, None
    if found is None:
        raise UserError(f"{name!r} is not named after a YouTube id of {ID_LENGTH} characters")
    youtube, start, duration = found.groups()
    begin = None if start is None else float(start)
    return youtube, begin, None if begin is None or duration is None else begin + float(duration)
