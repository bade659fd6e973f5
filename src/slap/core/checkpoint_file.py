"""Checkpoint files: written whole or not at all, and verified whenever they are read.

A checkpoint is the zip archive that `torch.save` writes. The archive keeps a CRC-32 of each of its members, which
`torch.load` ignores: `read` compares them, so that bytes that were changed or lost never become weights.
"""

from __future__ import annotations

import errno
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import torch

from slap.core.errors import UserError
from slap.core.files import atomic_write, part_of, remove_stale_parts, sha256_of

DIRECTORY = 0x10
"""The attribute that marks a member of a zip archive as a folder, of which torch reads no bytes."""


class DamagedCheckpointError(UserError):
    """A checkpoint that is not what was saved."""


def write(content: dict[str, Any], path: Path, previous: Path | None = None) -> None:
    """Save a checkpoint; its name stands for the old content until the new one is complete and on the disk.

    Args:
        content: of the checkpoint.
        path: of the file.
        previous: the name under which the old content is kept; None to keep none.

    Raises:
        OSError: the file cannot be written, e.g. because the disk is full; `path` keeps its old content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_parts(previous or path)
    try:
        with atomic_write(path, "wb") as file:
            _save(content, file)
            if previous is not None and path.exists():
                _link(path, previous)
    except OSError as error:
        there = sorted(other.name for other in path.parent.glob("*.ckpt"))
        left = f"still holds {', '.join(there)}" if there else "holds no checkpoint yet"
        message = f"the checkpoint was not saved: {error.strerror}; {path.parent} {left}"
        raise OSError(error.errno, message, str(path)) from error


def read(path: Path, map_location: Any = "cpu", weights_only: bool | None = None, mmap: bool = False) -> Any:
    """Verify a checkpoint and load it.

    Args:
        path: of the file.
        map_location: where tensors go, as for `torch.load`.
        weights_only: read tensors and plain data alone, unless this is False: then the file may run code.
        mmap: read the bytes of a tensor when they are first used.

    Raises:
        DamagedCheckpointError: the file is cut off, was changed, or is no checkpoint.
        ValueError: it holds more than tensors and plain data.
        OSError: it cannot be read.
    """
    verify(path)
    try:
        return torch.load(path, map_location, weights_only=weights_only is not False, mmap=mmap)
    except (RuntimeError, ValueError, EOFError, KeyError, OSError) as error:
        raise DamagedCheckpointError(f"{path} is damaged or no checkpoint: {error}") from error
    except Exception as error:  # pickle's own errors, which torch raises where something else than data is inside
        if weights_only is False:
            raise
        raise UserError(f"{path} holds more than tensors and plain data, so it is not read: {error}") from error


def verify(path: Path) -> None:
    """Read a checkpoint through and compare its members with their checksums.

    Raises:
        DamagedCheckpointError: the file is cut off, was changed, or is no checkpoint.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [member.filename for member in archive.infolist() if member.compress_type != zipfile.ZIP_STORED]
            if packed:  # torch compresses nothing; a kilobyte could unpack to gigabytes
                raise DamagedCheckpointError(f"{path} is refused: its part {packed[0]} is compressed")
            folders = [member.filename for member in archive.infolist() if member.external_attr & DIRECTORY]
            wrong = next(iter(folders), None) or archive.testzip()
    except DamagedCheckpointError:
        raise
    except (zipfile.BadZipFile, zlib.error, struct.error, ValueError, RuntimeError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that is a place before the file's beginning
            raise
        raise DamagedCheckpointError(f"{path} is cut off, damaged, or no checkpoint: {error}") from error
    if wrong is not None:
        raise DamagedCheckpointError(
            f"{path} is damaged: the checksum of its part {wrong} is wrong, so bytes of it were changed or lost"
        )


def is_good(path: Path) -> bool:
    """Return whether a checkpoint is there, loads, and is what was saved."""
    try:
        verify(path)
    except (DamagedCheckpointError, FileNotFoundError):
        return False
    return _steps(path) >= 0


def provenance(path: Path) -> dict[str, Any]:
    """Return the path, the SHA-256 and the step of a checkpoint, as plain data for the record of an evaluation."""
    return {"path": str(path), "sha256": sha256_of(path), "step": _steps(path)}


def newest_good(folder: Path) -> Path | None:
    """Return the undamaged checkpoint of most steps in a run's folder; files that are being written do not count."""
    for path in sorted(folder.glob("*.ckpt"), key=_steps, reverse=True):
        if is_good(path):
            return path
    return None


def _steps(path: Path) -> int:
    """Return the steps that a checkpoint has seen, -1 if it cannot be loaded, without reading it as a whole."""
    try:
        return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"])
    except Exception:  # any error that a damaged file causes in the reader; `read` explains it to who asks for the file
        return -1


class _ErrorKeeper:
    """A file for `torch.save`, whose own error would not say why writing failed."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _save(content: dict[str, Any], file: IO[bytes]) -> None:
    keeper = _ErrorKeeper(file)
    try:
        torch.save(content, keeper)  # type: ignore[arg-type]  # it has all that torch needs of a file
    except RuntimeError:
        if keeper.error is not None:
            raise keeper.error from None
        raise


def _link(path: Path, name: Path) -> None:
    """Give a file a second name in one step; where files have but one name, move it."""
    link = part_of(name)
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:
        path.replace(name)
        return
    link.replace(name)
    link.unlink(missing_ok=True)  # a rename between two names of one file leaves both
