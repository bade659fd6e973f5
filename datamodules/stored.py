"""Arrays that are read piece by piece: properties of clips that are too many to hold in every process.

They take numbers, slices and arrays of numbers as arrays do, and `np.asarray` reads them as a whole. Nothing stays in
memory, so an array of 10^8 clips costs a process what it looks at.

n values.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from slap.core.files import open_plain

PIECE = 1 << 20
"""Number of values that are read at a time where all are looked at."""


class Stored(ABC):
    """Array of one dimension that is read piece by piece.

    Attributes:
        dtype: type of the values.
    """

    dtype: np.dtype[Any]
    ndim = 1

    @property
    def nbytes(self) -> int:
        """Size of the values in bytes."""
        return len(self) * self.dtype.itemsize

    @abstractmethod
    def __len__(self) -> int:
        """Return n."""

    @abstractmethod
    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the values from `start` on, before `stop`; 0 <= start <= stop <= n."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """Fingerprint of the values."""

    def __getitem__(self, places: Any) -> Any:
        if isinstance(places, slice):
            start, stop, step = places.indices(len(self))
            if step == 1:
                return SliceArray(self, start, max(start, stop))
            places = np.arange(start, stop, step)
        if isinstance(places, int | np.integer):
            place = int(places)
            if not -len(self) <= place < len(self):
                raise IndexError(f"there are {len(self)} values, none has the number {place}")
            return self.read(place % len(self), place % len(self) + 1)[0]
        places = np.asarray(places)
        return self._at(np.flatnonzero(places) if places.dtype == bool else places)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy
        return self.read(0, len(self)).astype(dtype or self.dtype, copy=False)

    def pieces(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield all values in order, some at a time, each time with the number of the first."""
        for start in range(0, len(self), PIECE):
            yield start, self.read(start, min(start + PIECE, len(self)))

    def _at(self, places: np.ndarray) -> np.ndarray:
        """Return the values at some places; neighbors, as clips of a shard are, are read at once."""
        if not len(places):
            return np.empty(0, self.dtype)
        bounds = np.flatnonzero(np.diff(places) != 1) + 1
        starts = np.concatenate([[0], bounds]).tolist()
        runs = zip(places[starts].tolist(), places[[*(bounds - 1).tolist(), -1]].tolist(), strict=True)
        return np.concatenate([self.read(first, last + 1) for first, last in runs])


Array = np.ndarray | Stored
"""Values in memory, or read piece by piece."""


class StoredArray(Stored):
    """Array in a file.

    Args:
        path: path of the file, which is opened for each read, so that any process may read.
        offset: bytes before the first value.
        count: n.
        dtype: type of the values.
        check: called with the values that are read; raises what it finds wrong.
        digest: their fingerprint, if it is known.
    """

    def __init__(
        self,
        path: Path,
        offset: int,
        count: int,
        dtype: np.dtype[Any],
        check: Callable[[np.ndarray], None] | None = None,
        digest: str | None = None,
    ) -> None:
        self.path, self.offset, self.count, self.dtype, self.check = path, offset, count, np.dtype(dtype), check
        self.known = digest

    def __len__(self) -> int:
        return self.count

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the values from `start` on, before `stop`."""
        with open_plain(self.path) as file:
            file.seek(self.offset + start * self.dtype.itemsize)
            raw = file.read((stop - start) * self.dtype.itemsize)
        values = np.frombuffer(raw, self.dtype)
        if len(values) != stop - start:
            raise OSError(f"{self.path} has become shorter since it was opened")
        if self.check is not None:
            self.check(values)
        return values

    @property
    def digest(self) -> str:
        """Fingerprint of the values; unless it is known, all are read once."""
        if self.known is None:
            self.known = _hash_of(values for _, values in self.pieces())
        return self.known


class JoinedArray(Stored):
    """Several arrays, one after the other.

    Args:
        arrays: arrays of one type.
    """

    def __init__(self, arrays: Sequence[Array]) -> None:
        self.arrays, self.dtype = tuple(arrays), arrays[0].dtype
        self.firsts = list(accumulate(map(len, arrays), initial=0))

    def __len__(self) -> int:
        return self.firsts[-1]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the values from `start` on, before `stop`."""
        found = [np.empty(0, self.dtype)]
        for number in range(bisect_right(self.firsts, start) - 1, len(self.arrays)):
            first = self.firsts[number]
            if first >= stop:
                break
            found.append(_read(self.arrays[number], max(start - first, 0), min(stop - first, len(self.arrays[number]))))
        return np.concatenate(found)

    @cached_property
    def digest(self) -> str:
        """Fingerprint of the values."""
        return _hash_of(np.frombuffer(digest(array).encode(), np.uint8) for array in self.arrays)


class SliceArray(Stored):
    """Neighboring values of another array.

    Args:
        array: the other array.
        start: number of the first value.
        stop: number after the last one.
    """

    def __init__(self, array: Stored, start: int, stop: int) -> None:
        self.array, self.start, self.stop, self.dtype = array, start, stop, array.dtype

    def __len__(self) -> int:
        return self.stop - self.start

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the values from `start` on, before `stop`."""
        return self.array.read(self.start + start, self.start + stop)

    @cached_property
    def digest(self) -> str:
        """Fingerprint of the values."""
        if (self.start, self.stop) == (0, len(self.array)):
            return self.array.digest
        return _hash_of(values for _, values in self.pieces())


class MappedArray(Stored):
    """Values of a function of another array's.

    Args:
        array: the other array.
        function: function of any values of it, one by one.
        name: name of the function with its parameters, for the fingerprint.
        dtype: type of the values.
    """

    def __init__(self, array: Stored, function: Callable[[np.ndarray], np.ndarray], name: str, dtype: Any) -> None:
        self.array, self.function, self.name, self.dtype = array, function, name, np.dtype(dtype)

    def __len__(self) -> int:
        return len(self.array)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the values from `start` on, before `stop`."""
        return self.function(self.array.read(start, stop))

    @property
    def digest(self) -> str:
        """Fingerprint of the values: that of the other array, with the function."""
        return f"{self.array.digest} {self.name}"


def digest(values: Array) -> str:
    """Return a fingerprint of an array."""
    return values.digest if isinstance(values, Stored) else _hash_of([values])


def pieces(values: Array) -> Iterator[tuple[int, np.ndarray]]:
    """Yield all values of an array in order, each time with the number of the first; at once if they are in memory."""
    return values.pieces() if isinstance(values, Stored) else iter([(0, values)])


def joined(arrays: Sequence[Array], kind: type) -> Array:
    """Concatenate any number of arrays of one kind; a single one is not copied, nor is one that is not in memory."""
    if len(arrays) == 1:
        return arrays[0]
    if any(isinstance(array, Stored) for array in arrays):
        return JoinedArray(arrays)
    return np.concatenate([np.empty(0, kind), *arrays])


def places_where(values: Array, condition: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the numbers of the values for which a condition holds, (m,) int64."""
    found = [np.flatnonzero(condition(some)) + first for first, some in pieces(values)]
    return np.concatenate([np.empty(0, np.int64), *found])


def sample_of(values: Array, count: int) -> np.ndarray:
    """Return all values of an array in memory; of another one about so many, from runs at equal distances."""
    if not isinstance(values, Stored) or len(values) <= count:
        return np.asarray(values)
    run = 1024
    firsts = np.linspace(0, len(values) - run, max(count // run, 1)).astype(np.int64).tolist()
    return np.concatenate([values.read(first, first + run) for first in firsts])


def _read(array: Array, start: int, stop: int) -> np.ndarray:
    return array.read(start, stop) if isinstance(array, Stored) else array[start:stop]


def _hash_of(arrays: Iterable[np.ndarray]) -> str:
    total = blake2b(digest_size=8)
    for values in arrays:
        total.update(np.ascontiguousarray(values).data)
    return total.hexdigest()
