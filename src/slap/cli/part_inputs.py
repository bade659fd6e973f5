"""The recordings that a command line names, by their places: a part of an array job makes only its own.

n recordings.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import Any

import numpy as np

from slap.audio.sources import Input
from slap.cli.inputs import ManifestInputs, named, nothing_in
from slap.core.errors import UserError
from slap.datamodules.manifests.columns import Columns
from slap.datamodules.manifests.sequence import key_of
from slap.datamodules.stored import Array, joined


class PartInputs(Sequence[Input]):
    """Recordings in the order in which they are named, each once, as `slap.cli.inputs.inputs` returns them.

    Args:
        paths: files, folders, globs and manifests.
        columns: columns of tables whose names are not the known ones.

    Attributes:
        failed: rows of manifests that cannot be used, the clip's id and the reason.
        plan: what identifies the recordings, for the plan of parts, see `slap.core.parts`.

    Raises:
        FileNotFoundError: a path or a glob that names nothing.
        ValueError: nothing is named, or two clips have the same id.
    """

    def __init__(self, paths: Sequence[str], columns: Columns | None = None) -> None:
        self.failed: list[tuple[str, str]] = []
        self._sources = [source for path in paths for source in named(path, self.failed, columns) if len(source)]
        if not self._sources:
            raise UserError(nothing_in(paths, self.failed))
        self._firsts = [0, *accumulate(map(len, self._sources))]
        keys = np.asarray(joined([_keys(source) for source in self._sources], np.int64))
        self._places = np.delete(np.arange(len(keys)), self._repeated(keys))
        ids = blake2b(keys[self._places].tobytes(), digest_size=16).hexdigest()
        self.plan = {"paths": list(paths), "recordings": len(self), "ids": ids}

    def __len__(self) -> int:
        """Return n."""
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._at(place) for place in self._places[index].tolist()]
        return self._at(int(self._places[index]))

    def _at(self, place: int) -> Input:
        source = bisect_right(self._firsts, place) - 1
        found: Input = self._sources[source][place - self._firsts[source]]
        return found

    def _repeated(self, keys: np.ndarray) -> list[int]:
        """Return the places of recordings that were named before."""
        unique, counts = np.unique(keys, return_counts=True)
        seen: dict[str, Input] = {}
        again = []
        for place in np.flatnonzero(np.isin(keys, unique[counts > 1])).tolist():
            item = self._at(place)
            before = seen.setdefault(item.id, item)
            if before != item:
                raise UserError(f"two different clips have the id {item.id!r}, {before.audio} and {item.audio}")
            if before is not item:
                again.append(place)
        return again


def _keys(source: Sequence[Input]) -> Array:
    """Return (n,) int64, fingerprints of ids."""
    if isinstance(source, ManifestInputs):
        return source.clips.keys
    return np.array([key_of(item.id) for item in source], np.int64)
