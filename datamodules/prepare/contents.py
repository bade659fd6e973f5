"""Search for files of prepared manifests that hold the same bytes under different names.

The size of a file comes first, then a hash of its begin and its end, and the whole file only where these agree. Only
numbers are kept of files whose size no other has.

n files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from slap.audio.scan import content_hash
from slap.core.data_root import ElsewhereError, open_audio
from slap.datamodules.manifests.lines import raw_lines, record_of
from slap.datamodules.manifests.safe_cuts import recordings
from slap.datamodules.manifests.sequence import key_of
from slap.datamodules.prepare.report import NAMED

Record = dict[str, Any]

ENDS = 4096
"""Bytes at the begin and at the end of a file that are compared first."""


class Named(NamedTuple):
    """A file of a manifest."""

    split: str
    id: str
    path: str


def identical(manifests: Mapping[str, Path]) -> Record:
    """Count the files that hold the content of an earlier one.

    Args:
        manifests: manifests of cuts, by split.

    Returns:
        Their number, `count`; the number of those whose earlier one is in another split, `across_splits`; and words
        about the first few of each, those of other splits before, `first`.
    """
    apart, within, count, across = list[str](), list[str](), 0, 0
    for earlier, later in _pairs(manifests):
        count += 1
        across += later.split != earlier.split
        line = f"{later.id} ({later.split}) = {earlier.id} ({earlier.split})"
        (within if later.split == earlier.split else apart).append(line)
        del apart[NAMED:], within[NAMED:]
    return {"count": count, "across_splits": across, "first": [*apart, *within][:NAMED]}


def _pairs(manifests: Mapping[str, Path]) -> Iterator[tuple[Named, Named]]:
    """Yield each file whose content an earlier one has, after that one."""
    keys = np.array([(key_of(file.path), _size(file.path)) for file in _files(manifests)], np.int64).reshape(-1, 2)
    maybe = np.zeros(len(keys), dtype=bool)
    maybe[np.unique(keys[:, 0], return_index=True)[1]] = True  # segments of one file are no copies of it
    maybe &= keys[:, 1] > 0
    maybe = _shared(keys[:, 1], maybe)
    ends = np.zeros(len(keys), np.int64)
    for number, file in enumerate(tqdm(_files(manifests), "compare", len(keys), unit=" files", disable=None)):
        if maybe[number]:
            ends[number] = _ends(file.path)
    maybe = _shared(ends, maybe & (ends != 0))
    known: dict[str, Named] = {}
    for number, file in enumerate(_files(manifests)):
        if maybe[number]:
            earlier = known.setdefault(content_hash(Path(file.path)), file)
            if earlier is not file:
                yield earlier, file


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


def _ends(path: str) -> int:
    """Return a fingerprint of size, begin and end of a file; 0 if it cannot be read any more."""
    try:
        with open_audio(path) as file:
            start, size = file.read(ENDS), os.fstat(file.fileno()).st_size
            file.seek(max(size - ENDS, 0))
            digest = blake2b(size.to_bytes(8, "little") + start + file.read(ENDS), digest_size=8)
    except (OSError, ElsewhereError):
        return 0
    return int.from_bytes(digest.digest(), "little", signed=True)
