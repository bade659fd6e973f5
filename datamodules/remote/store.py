"""Kinds of places that files are read from: an object store, or a web server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from slap.datamodules.remote.address import masked

CHUNK = 1 << 20
"""Bytes that are written to disk at a time."""


@dataclass(frozen=True)
class RemoteFile:
    """A file elsewhere, as it was when it was looked at.

    Args:
        url: its address.
        size: bytes.
        version: a text that is different after the file has changed, such as its ETag; empty if the server gives none.
        roots: the remote roots; redirections must not lead out of them.
    """

    url: str
    size: int
    version: str
    roots: tuple[str, ...]

    @property
    def name(self) -> str:
        """Last part of the address."""
        return PurePosixPath(urlsplit(self.url).path).name

    def __str__(self) -> str:
        return masked(self.url)


class Store(ABC):
    """A place that files are read from."""

    @abstractmethod
    def look(self, url: str, roots: tuple[str, ...]) -> RemoteFile:
        """Return size and version of a file.

        Raises:
            RemoteError: there is none, or it may not be read.
            TransientError: there was no answer.
        """

    @abstractmethod
    def read(self, file: RemoteFile, start: int) -> tuple[int, Iterator[bytes]]:
        """Read a file from byte `start` on, or from its first byte if the server cannot begin elsewhere.

        Returns:
            The byte that it begins with, and the content in pieces. What is said below may be raised by either.

        Raises:
            RemoteChangedError: it is another file by now.
            RemoteError: it cannot be read.
            TransientError: the connection broke.
        """

    @abstractmethod
    def files(self, folder: str, roots: tuple[str, ...]) -> list[RemoteFile]:
        """Return the files in a folder, without those of its folders.

        Raises:
            RemoteError: there is no such folder, it cannot be listed, or it may not be read.
            TransientError: there was no answer.
        """
