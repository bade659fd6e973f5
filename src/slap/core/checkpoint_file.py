"""Checkpoints as files: complete and with a checksum under their name, or not there at all.

A checkpoint is written aside in its own folder, forced to the disk, and renamed to its place; then the folder is forced
to the disk too. So whatever happens, the name stands for the old content or the new one.

The file is a zip archive, as `torch.save` writes it, with the SHA-256 of all bytes before it as the archive's comment;
any reader of zip archives and `torch.load` read it as ever, and the checksum travels with copies. A checkpoint without
the comment, as of other programs, is checked by the CRC-32 that the archive keeps of each of its members.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import torch

MARK = b"slap sha256 "
COMMENT = len(MARK) + 64
END = 22
"""Bytes of the record that ends a zip archive; its last two say how long the comment is that follows."""

BLOCK = 1 << 22


class DamagedCheckpointError(ValueError):
    """A checkpoint that is not what was saved."""


def write(content: dict[str, Any], path: Path, previous: Path | None = None) -> None:
    """Save a checkpoint; its name stands for the old content until the new one is complete.

    Args:
        content: of the checkpoint.
        path: of the file.
        previous: keep what the file was under this name.

    Raises:
        OSError: it cannot be written, e.g. because the disk is full; what was there before still is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f"{glob.escape(path.name)}.*.part"):  # of processes that were killed
        stale.unlink(missing_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            _save(content, file)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            _link(path, previous)
        part.replace(path)
        _force_folder(path.parent)
    except OSError as error:
        raise OSError(
            error.errno, f"the checkpoint was not saved: {error.strerror}; {_left(path)}", str(path)
        ) from error
    finally:
        part.unlink(missing_ok=True)


def verify(path: Path) -> None:
    """Read a checkpoint through and compare it with its checksum.

    Raises:
        DamagedCheckpointError: it is cut off, was changed, or is no checkpoint.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - COMMENT, 0))
        comment = file.read()
        if comment.startswith(MARK):
            _compare(file, path, size - COMMENT, comment[len(MARK) :].decode(errors="replace"))
            return
    _check_members(path)


def is_good(path: Path) -> bool:
    """Whether a checkpoint is there and is what was saved."""
    try:
        verify(path)
    except (DamagedCheckpointError, FileNotFoundError):
        return False
    return True


def newest_good(folder: Path) -> Path | None:
    """Of the checkpoints of a run the one of most steps that is undamaged; files being written are none."""
    for path in sorted(folder.glob("*.ckpt"), key=_steps, reverse=True):
        if _steps(path) >= 0 and is_good(path):
            return path
    return None


def _steps(path: Path) -> int:
    """How many steps a checkpoint has seen; -1 if it cannot say. It is not read as a whole."""
    try:
        return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"])
    except Exception:  # whatever a damaged file makes of the reader; whoever wants to read it checks and names it
        return -1


class _Summed:
    """A file that sums up what is written to it, and puts the sum into the comment at its end.

    What torch makes of an error while it writes does not say what the error was, so it is kept.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sum = file, hashlib.sha256()
        self.error: OSError | None = None
        self._end = b""  # the last bytes so far

    def write(self, data: Any) -> int:
        data = memoryview(data).cast("B")
        kept = self._end + bytes(data[-END:])
        try:
            if len(data) >= END:
                self._put(self._end)
                self._put(data[:-END])
            else:
                self._put(kept[:-END])
        except OSError as error:
            self.error = error
            raise
        self._end = kept[-END:]
        return len(data)

    def flush(self) -> None:
        self.file.flush()

    def finish(self) -> None:
        assert self._end.startswith(b"PK\5\6"), "torch.save wrote no zip archive, or one with a comment"
        self._put(self._end[:-2] + struct.pack("<H", COMMENT))
        self.file.write(MARK + self.sum.hexdigest().encode())

    def _put(self, data: bytes | memoryview) -> None:
        self.sum.update(data)
        self.file.write(data)


def _save(content: dict[str, Any], file: IO[bytes]) -> None:
    summed = _Summed(file)
    try:
        torch.save(content, summed)  # type: ignore[arg-type]  # all that torch wants of it is here
    except RuntimeError:
        if summed.error is not None:
            raise summed.error from None
        raise
    summed.finish()


def _compare(file: IO[bytes], path: Path, size: int, expected: str) -> None:
    total = hashlib.sha256()
    file.seek(0)
    while size:
        block = file.read(min(BLOCK, size))
        if not block:
            break
        total.update(block)
        size -= len(block)
    if total.hexdigest() != expected:
        raise DamagedCheckpointError(f"{path} is damaged: its checksum is wrong, so bytes of it were changed or lost")


def _check_members(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
            if not _ends_as_it_says(path):  # a comment that is cut off passes with zipfile
                raise zipfile.BadZipFile("its end is missing")
    except (zipfile.BadZipFile, zlib.error, struct.error, ValueError, RuntimeError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that is a place before the file's beginning
            raise
        raise DamagedCheckpointError(f"{path} is cut off, damaged, or no checkpoint: {error}") from error
    if wrong is not None:
        raise DamagedCheckpointError(f"{path} is damaged: the checksum of its part {wrong} is wrong")


def _ends_as_it_says(path: Path) -> bool:
    """Whether the comment of an archive is as long as the archive says."""
    with path.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - END - COMMENT, 0))
        tail = file.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0:
        return True  # a longer comment, of somebody else
    (length,) = struct.unpack("<H", tail[end + END - 2 : end + END])
    return bool(length == len(tail) - end - END)


def _link(path: Path, name: Path) -> None:
    """Give a file a second name in one step; where files have but one name, move it."""
    link = name.with_name(f"{name.name}.{os.getpid()}.part")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:
        path.replace(name)
        return
    link.replace(name)


def _force_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _left(path: Path) -> str:
    there = sorted(other.name for other in path.parent.glob("*.ckpt"))
    return f"{path.parent} still holds {', '.join(there)}" if there else f"{path.parent} holds no checkpoint yet"
