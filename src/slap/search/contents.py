"""The files of a folder as streams for `slap.inference.stream`: hashed and decoded when their turn comes.

A file whose bytes are known, in the index or from another file, is not decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from slap.audio.reader import AudioError, blocks
from slap.audio.scan import Found, content_hash
from slap.audio.sources import AudioStream


class NotIndexedError(AudioError):
    """A file that cannot be indexed.

    Attributes:
        bad_reason: as the index keeps it.

    Args:
        reason: `absent`, `unreadable`, `empty` or `silent`.
        detail: the message for a person who is to mend it.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.bad_reason = reason


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
        return AudioStream(file.name, 0, lambda: self._blocks(file, anew))

    def _blocks(self, file: Found, anew: bool) -> Iterator[Tensor]:
        if file.name != file.path:
            raise NotIndexedError("unreadable", "its name is not UTF-8; rename it")
        path, claim = self.folder / file.path, object()
        if file.size == 0 and path.exists():
            raise NotIndexedError("empty", "it has no bytes")
        try:
            content = self.hashes[file.name] = content_hash(path)
            if self._claims.setdefault(content, claim) is not claim and not anew:
                raise KnownContentError(f"{path} has the content of another file")
            yield from blocks(path, self.rate)
        except FileNotFoundError as error:
            raise NotIndexedError(
                "absent", "it is a link to nothing, or was removed while it was to be read"
            ) from error
        except OSError as error:
            raise NotIndexedError("unreadable", str(error)) from error
