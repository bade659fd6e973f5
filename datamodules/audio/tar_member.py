"""Audio within a tar file, read where it lies, without the members before it."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Self

from slap.audio.errors import AudioError
from slap.core.data_root import ElsewhereError, open_audio
from slap.core.files import open_plain
from slap.datamodules.audio.stored import StoredAudio
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.shar.tar import BoundedInfo

HEADER = tarfile.BLOCKSIZE  # bytes before a member's content, which describe it


@dataclass
class TarMember(StoredAudio):
    """A source that is a member of a tar file; `source` is the path of that file.

    Args:
        size: of the member's content, in bytes.
        offset: of the content in the tar file, in bytes.
        copied: whether SLAP itself put the tar file where it lies, in the cache of files of other machines.
    """

    offset: int = 0
    copied: bool = False

    def at(self, channels: list[int], offset: int, size: int) -> Self:
        """Return another member of the same file."""
        other = copy(self)
        other.channels, other.offset, other.size = channels, offset, size
        return other

    def read(self) -> bytes:
        """Read the member's content; the file is opened for each, so that any process may read.

        Raises:
            OSError: the file was cut off or changed.
        """
        with open_tar(self.source, self.copied) as file:
            file.seek(self.offset - HEADER)
            raw = file.read(HEADER + self.size)
        if _size(raw[:HEADER]) != self.size or len(raw) != HEADER + self.size:
            raise OSError(f"{self.source} has changed, or was cut off within the {self.size} bytes from {self.offset}")
        return raw[HEADER:]


def _size(header: bytes) -> int | None:
    """Return the size of a member by its header, None if that is no header."""
    try:
        return tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").size
    except tarfile.HeaderError:
        return None


def open_tar(path: str | Path, copied: bool = False) -> BinaryIO:
    """Open a tar file with audio.

    Args:
        path: of the file.
        copied: whether it is a copy of SLAP's own, which lies outside of the folders that audio may lie in.

    Raises:
        AudioError: it lies elsewhere.
        OSError: it cannot be read.
    """
    try:
        return open_plain(path) if copied else open_audio(path)
    except ElsewhereError as error:
        raise AudioError(str(error), "unreadable", str(path)) from error


def tar_members(path: Path, copied: bool = False) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar file in their order, but for folders; only headers are read.

    Args:
        path: of the tar file.
        copied: as of `open_tar`.

    Raises:
        ManifestError: it lies elsewhere, or is no plain file; or one is no plain file, has a name that points outside,
            or does not lie in the file as a whole.
    """
    try:
        with open_tar(path, copied) as file, tarfile.open(fileobj=file, mode="r:", tarinfo=BoundedInfo) as tar:
            size = os.fstat(file.fileno()).st_size
            for member in tar:
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise ManifestError(f"{path}: the member {member.name!r} is no plain file, which is refused")
                refuse_outside(member.name, str(path))
                if member.offset_data + member.size > size:
                    raise ManifestError(f"{path} was cut off within its member {member.name!r}")
                yield member
    except AudioError as error:
        raise ManifestError(str(error)) from error
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ManifestError(f"{path} cannot be read as a tar file: {error}") from error


def refuse_outside(name: str, where: str) -> None:
    """Refuse the name of a member that is absolute or has `..` in it.

    Raises:
        ManifestError: it does.
    """
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts or "\\" in name:
        raise ManifestError(f"{where}: the name {name!r} is refused: it must lie within the tar file")
