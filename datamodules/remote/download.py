"""One file from elsewhere to disk: continued where a connection broke, tried again, checked."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable
from typing import IO, TypeVar

from slap.core.units import Seconds
from slap.datamodules.remote.errors import RemoteChangedError, RemoteError, TransientError
from slap.datamodules.remote.settings import tries
from slap.datamodules.remote.store import RemoteFile
from slap.datamodules.remote.stores import store_of

log = logging.getLogger(__name__)

LONGEST_WAIT = 30.0
"""Seconds between two attempts, at most."""

T = TypeVar("T")

_RANDOM = random.SystemRandom()  # Python's own random numbers belong to training


def look(url: str, roots: tuple[str, ...]) -> RemoteFile:
    """Return a file elsewhere, its size and its version.

    Raises:
        RemoteError: there is none, it may not be read, or there was no answer.
    """
    return attempted(url, lambda: store_of(url).look(url, roots))


def attempted(url: str, action: Callable[[], T], reached: Callable[[], int] = lambda: 0) -> T:
    """Return the result of an action that is tried again, after longer and longer waits, where that makes sense.

    Args:
        url: the address, for messages.
        action: the action.
        reached: returns how far the last attempt came; only attempts that came no further than others count.

    Raises:
        RemoteError: it failed for good, or as often as `slap.datamodules.remote.settings.tries` says.
    """
    failed, best = 0, reached()
    while True:
        try:
            return action()
        except TransientError as error:
            fault = error
        failed = 1 if reached() > best else failed + 1
        best = max(best, reached())
        if failed >= tries():
            raise RemoteError(
                f"{url} cannot be read: {fault} (attempts: {failed}). Check the network and the address; "
                "SLAP_REMOTE_TRIES and SLAP_REMOTE_TIMEOUT (seconds) allow for more patience"
            ) from fault
        log.info("%s", RemoteError(f"{url}: attempt {failed} of {tries()} failed and is repeated: {fault}"))
        time.sleep(wait(failed))


def wait(failed: int) -> Seconds:
    """Return the time until the next attempt: about 1, 2, 4, 8, ... seconds, different in each process."""
    return min(2.0 ** (failed - 1), LONGEST_WAIT) * _RANDOM.uniform(0.5, 1.0)


def download(file: RemoteFile, part: IO[bytes]) -> None:
    """Write the rest of a file behind what an earlier attempt has written, and force it to the disk.

    Args:
        file: the file elsewhere.
        part: the file on disk, with the first bytes of that file, or none; open for reading and writing.

    Raises:
        RemoteError: the file cannot be read, or is not what it was when it was looked at; then `part` is empty.
        OSError: the disk is full, for example.
    """

    def once() -> None:
        written = part.seek(0, os.SEEK_END)
        if written == file.size:
            return
        begin, pieces = store_of(file.url).read(file, written)
        part.truncate(begin)
        part.seek(begin)
        for piece in pieces:
            part.write(piece)
        if part.tell() < file.size:
            raise TransientError(f"the connection ended after {part.tell()} of {file.size} bytes")
        if part.tell() > file.size:
            raise RemoteChangedError(f"{file.url} has more than the {file.size} bytes that the server announced")

    try:
        attempted(file.url, once, lambda: part.seek(0, os.SEEK_END))
    except RemoteChangedError:
        part.truncate(0)
        raise
    part.flush()
    os.fsync(part.fileno())
