"""Copies that this process uses: shared locks, by which other processes know."""

from __future__ import annotations

import fcntl
import os
import time
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import IO

from slap.datamodules.remote.room import is_named

HELD = 8
"""Copies that each process keeps in use, the last ones that it asked for."""

TOUCHED = 10.0
"""Seconds after which another use of a copy is noted on disk, as the time of its last change."""


class Uses:
    """Locks on the last copies that a process asked for."""

    def __init__(self) -> None:
        self._known: OrderedDict[Path, tuple[IO[bytes], float]] = OrderedDict()
        self._lock = Lock()

    def take(self, path: Path) -> bool:
        """Keep a copy from being removed while it is among the last `HELD`; return False if it is not there."""
        with self._lock:
            file, touched = self._known.pop(path, (None, 0.0))
            if file is None or not is_named(file, path):  # someone may have emptied the folder
                file, touched = _shared(path), 0.0
            if file is None:
                return False
            if time.monotonic() > touched + TOUCHED:
                os.utime(file.fileno())
                touched = time.monotonic()
            self._known[path] = file, touched
            while len(self._known) > HELD:
                self._known.popitem(last=False)[1][0].close()
            return True

    def forget(self) -> None:
        """Begin with none, as a forked process does: to close what it inherited leaves the locks of its parent."""
        for file, _ in self._known.values():
            file.close()
        self._known.clear()
        self._lock = Lock()  # a thread of the parent may have held the other one


def _shared(path: Path) -> IO[bytes] | None:
    """Open a copy with a shared lock; None if it is not there, or was removed meanwhile."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    fcntl.flock(file, fcntl.LOCK_SH)
    if is_named(file, path):
        return file
    file.close()
    return None


uses = Uses()
os.register_at_fork(after_in_child=uses.forget)
