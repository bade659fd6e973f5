"""Sizes of files, and fingerprints of their ends, as parts of `slap prepare` found them.

m files.
"""

from __future__ import annotations

import os
from array import array
from hashlib import blake2b

import numpy as np

from slap.core.data_root import ElsewhereError, open_audio

ENDS = 4096
"""Bytes at the begin and at the end of a file that are compared first."""


def ends_of(path: str) -> int:
    """Return a fingerprint of size, begin and end of a file; 0 if it cannot be read any more."""
    try:
        with open_audio(path) as file:
            start, size = file.read(ENDS), os.fstat(file.fileno()).st_size
            file.seek(max(size - ENDS, 0))
            return _number(size.to_bytes(8, "little") + start + file.read(ENDS))
    except (OSError, ElsewhereError):
        return 0


def key_of_path(path: str) -> int:
    """Return the fingerprint of a path."""
    return _number(os.fsencode(os.path.abspath(path)))  # noqa: PTH100  # links stay as they are written


def _number(content: bytes) -> int:
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little", signed=True)


class KnownFiles:
    """Sizes and ends of files that were read before, by fingerprints of their paths.

    Args:
        rows: for each file the fingerprint of its path, its size and that of its ends.
    """

    def __init__(self, rows: array[int]) -> None:
        table = np.frombuffer(rows, np.int64).reshape(-1, 3)
        self._table = table[np.argsort(table[:, 0], kind="stable")]

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (n,) int64 sizes and ends of files by the fingerprints of their paths; -1 and 0 where not known."""
        found = np.tile(np.array([-1, 0]), (len(keys), 1))
        if len(self._table):
            places = np.searchsorted(self._table[:, 0], keys).clip(max=len(self._table) - 1)
            there = self._table[places, 0] == keys
            found[there] = self._table[places[there], 1:]
        return found[:, 0], found[:, 1]
