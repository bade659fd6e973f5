"""Room in the cache: one process at a time writes a file, and those not read for longest are removed.

The name of a copy holds the size that it has, or will have, so that the files that are being fetched count as a whole.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from slap.datamodules.remote.errors import RemoteError
from slap.datamodules.remote.settings import GIGABYTE, cache_bytes

log = logging.getLogger(__name__)

PART = ".part"
"""End of the names of files that are not complete."""

LOCK = "lock"


@contextmanager
def locked(part: Path, whole: Path) -> Iterator[IO[bytes] | None]:
    """Open a partial file, locked for this process alone; yield None if another one has completed it meanwhile."""
    part.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with part.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
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


def make_room(path: Path, size: int) -> None:
    """Remove copies until another one fits into the cache.

    Args:
        path: its place; its partial file may be there.
        size: bytes that it will have.

    Raises:
        RemoteError: it is larger than the whole cache may be.
    """
    limit = cache_bytes()
    if size > limit:
        raise RemoteError(
            f"{path.name} has {size / GIGABYTE:.2f} GB, more than the {limit / GIGABYTE:.2f} GB that the cache "
            f"{path.parent} may take; raise SLAP_REMOTE_CACHE_GB"
        )
    with (path.parent / LOCK).open("a+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        others = [other for other in _copies(path.parent) if other[0].name.removesuffix(PART) != path.name]
        total = size + sum(taken for _, taken, _ in others)
        for other, taken, _ in sorted(others, key=lambda known: known[2]):
            if total <= limit:
                return
            if _removed(other):
                total -= taken
                log.info("removed %s from the cache", other.name)
    if total > limit:
        log.warning(
            "the cache %s takes %.2f GB, more than its limit of %.2f GB, since all files in it are in use; raise "
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
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True
