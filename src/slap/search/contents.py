"""The files of a folder as streams for `slap.inference.stream`: hashed and decoded when their turn comes.

A file whose bytes are known, in the index or from another file, is not decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from slap.audio.reader import AudioError
from slap.audio.scan import Found, content_hash
from slap.audio.sources import About, AudioStream, Segment


class KnownContentError(AudioError):
    """A file whose bytes are known already; its windows need no model."""


class Contents:
    """The contents of files by their hashes, shared by the threads that read.

    Args:
        folder: the folder that holds the files.
        rate: sample rate of the model, Hz.
        known: hashes of contents whose windows are known.

    Attributes:
        hashes: hash of each file's bytes by the file's name, for files that were read.
    """

    def __init__(self, folder: Path, rate: int, known: set[str]) -> None:
        self.folder, self.rate = folder, rate
        self.hashes: dict[str, str] = {}
        # By hash the claim of the thread that reads the content: of several threads, only one finds its own.
        self._claims: dict[str, object] = dict.fromkeys(known)

    def stream(self, file: Found, anew: bool = False) -> AudioStream:
        """Return a file as a stream, whose length is unknown.

        Args:
            file: the file.
            anew: decode it even if its content is known.
        """
        about = About()
        return AudioStream(file.name, 0, lambda: self._blocks(file, anew, about), about=about)

    def _blocks(self, file: Found, anew: bool, about: About) -> Iterator[np.ndarray]:
        if file.name != file.path:
            raise AudioError("its name is not UTF-8; rename it", "unreadable")
        path, claim = self.folder / file.path, object()
        if file.size == 0 and path.exists():
            raise AudioError("it has no bytes", "empty")
        try:
            content = self.hashes[file.name] = content_hash(path)
            if self._claims.setdefault(content, claim) is not claim and not anew:
                raise KnownContentError(f"{path} has the content of another file")
            yield from Segment(str(path)).blocks(self.rate, about)
        except FileNotFoundError as error:
            raise AudioError("it is a link to nothing, or was removed while it was to be read", "absent") from error
        except OSError as error:
            raise AudioError(str(error), "unreadable") from error
