"""Search for files of prepared manifests that hold the same bytes under different names.

The size of a file comes first, then a hash of its begin and its end, and the whole file only where these agree. Only
numbers are kept of files whose size no other has.

n files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from slap.audio.scan import content_hash
from slap.datamodules.manifests.lines import raw_lines, record_of
from slap.datamodules.manifests.safe_cuts import recordings
from slap.datamodules.prepare.known_files import KnownFiles, ends_of, key_of_path
from slap.datamodules.prepare.report import NAMED

Record = dict[str, Any]


class Named(NamedTuple):
    """A file of a manifest."""

    split: str
    id: str
    path: str


def identical(manifests: Mapping[str, Path], known: Sequence[KnownFiles] = ()) -> Record:
    """Count the files that hold the content of an earlier one.

    Args:
        manifests: manifests of cuts, by split.
        known: files whose sizes and ends are known; the others are looked at.

    Returns:
        Their number, `count`; the number of those whose earlier one is in another split, `across_splits`; and words
        about the first few of each, those of other splits before, `first`.
    """
    apart, within, count, across = list[str](), list[str](), 0, 0
    for earlier, later in _pairs(manifests, known):
        count += 1
        across += later.split != earlier.split
        line = f"{later.id} ({later.split}) = {earlier.id} ({earlier.split})"
        (within if later.split == earlier.split else apart).append(line)
        del apart[NAMED:], within[NAMED:]
    return {"count": count, "across_splits": across, "first": [*apart, *within][:NAMED]}


def _pairs(manifests: Mapping[str, Path], known: Sequence[KnownFiles]) -> Iterator[tuple[Named, Named]]:
    """Yield each file whose content an earlier one has, after that one."""
    keys = np.fromiter((key_of_path(file.path) for file in _files(manifests)), np.int64)
    sizes, ends = np.full(len(keys), -1), np.zeros(len(keys), np.int64)
    for some in known:
        found = some.find(keys)
        there = found[0] >= 0
        sizes[there], ends[there] = found[0][there], found[1][there]
    for number, file in _at(manifests, sizes < 0):
        sizes[number] = _size(file.path)
    maybe = np.zeros(len(keys), dtype=bool)
    maybe[np.unique(keys, return_index=True)[1]] = True  # segments of one file are no copies of it
    maybe = _shared(sizes, maybe & (sizes > 0))
    for number, file in _at(manifests, maybe & (ends == 0)):
        ends[number] = ends_of(file.path)
    maybe = _shared(ends, maybe & (ends != 0))
    contents: dict[str, Named] = {}
    for _, file in _at(manifests, maybe):
        earlier = contents.setdefault(content_hash(Path(file.path)), file)
        if earlier is not file:
            yield earlier, file


def _at(manifests: Mapping[str, Path], wanted: np.ndarray) -> Iterator[tuple[int, Named]]:
    """Yield the files that are marked, with their numbers."""
    if wanted.any():
        for number, file in enumerate(tqdm(_files(manifests), "compare", len(wanted), unit=" files", disable=None)):
            if wanted[number]:
                yield number, file


def _files(manifests: Mapping[str, Path]) -> Iterator[Named]:
    for split, manifest in manifests.items():
        for number, raw in raw_lines(manifest):
            record = record_of(raw, manifest, number)
            sources = chain.from_iterable(recording["sources"] for recording in recordings(record))
            for source in sources:
                yield Named(split, record["id"], os.path.join(manifest.parent, source["source"]))  # noqa: PTH118


def _shared(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return (n,) bool: the values that come more than once among those that are marked."""
    unique, counts = np.unique(values[among], return_counts=True)
    return among & np.isin(values, unique[counts > 1])


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:  # removed since
        return 0
