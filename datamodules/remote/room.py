"""Room in the cache: one process at a time writes a file, and those not read for longest are removed.

The name of a copy holds the size that it has, or will have, so that the files that are being fetched count as a whole.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from slap.datamodules.remote.errors import RemoteError
from slap.datamodules.remote.settings import GIGABYTE, cache_bytes
from slap.datamodules.remote.store import RemoteFile

log = logging.getLogger(__name__)

PART = ".part"
"""End of the names of files that are not complete."""

LOCK = "lock"

POLL = 0.05
"""Seconds between two looks whether another process has fetched a file."""


@contextmanager
def locked(part: Path, whole: Path) -> Iterator[IO[bytes] | None]:
    """Open a partial file, locked for this process alone; yield None if another one has completed it meanwhile."""
    part.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with part.open("a+b") as file:
            # No blocking call: when the file is complete, those who use it hold locks on it for as long as they like.
            while is_named(file, part) and not _exclusive(file):
                time.sleep(POLL)
            if not is_named(file, part):  # it was completed, or removed, while this process waited
                if not whole.exists():
                    continue
                yield None
            elif whole.exists():
                part.unlink()
                yield None
            else:
                yield file
            return


def is_named(file: IO[bytes], path: Path) -> bool:
    """Return True if a path names the file that is open, and no other."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def make_room(file: RemoteFile, path: Path) -> None:
    """Remove copies until that of another file fits into the cache.

    Args:
        file: the file.
        path: the place of its copy; a part of it may be there.

    Raises:
        RemoteError: it is larger than the whole cache may be.
    """
    limit = cache_bytes()
    if file.size > limit:
        raise RemoteError(
            f"{file} has {file.size / GIGABYTE:.3g} GB, more than the {limit / GIGABYTE:.3g} GB that the cache "
            f"{path.parent} may take; raise SLAP_REMOTE_CACHE_GB"
        )
    with (path.parent / LOCK).open("a+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        others = [other for other in _copies(path.parent) if other[0].name.removesuffix(PART) != path.name]
        total = file.size + sum(taken for _, taken, _ in others)
        for other, taken, _ in sorted(others, key=lambda known: known[2]):
            if total <= limit:
                return
            if _removed(other):
                total -= taken
                log.info("removed %s from the cache", other.name)
    if total > limit:
        log.warning(
            "the cache %s takes %.3g GB, more than its limit of %.3g GB, since all files in it are in use; raise "
            "SLAP_REMOTE_CACHE_GB, or make smaller shards",
            path.parent,
            total / GIGABYTE,
            limit / GIGABYTE,
        )


def _copies(folder: Path) -> list[tuple[Path, int, int]]:
    """Return the copies in the cache, each with the bytes that it takes, or will take, and the time of its last use."""
    found = []
    for path in folder.iterdir():
        size = path.name.split("-", 2)[1:2]
        with suppress(FileNotFoundError):  # removed, or completed, by another process
            if size and size[0].isdecimal():
                found.append((path, int(size[0]), path.stat().st_mtime_ns))
    return found


def _removed(path: Path) -> bool:
    """Remove a copy, and return True, unless a process uses it."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        if not _exclusive(file):
            return False
        path.unlink()
    return True


def _exclusive(file: IO[bytes]) -> bool:
    """Lock a file for this process alone, and return True, unless another process has a lock on it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
