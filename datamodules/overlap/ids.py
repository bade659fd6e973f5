"""Search for clips of two sets that are the same by their ids, or by the origins of their audio.

A clip has an id, and origins (`origin` {site: id}: a YouTube video, a Freesound recording). So clips of AudioCaps and
VGGSound match by the video that both are cut from, whatever their files are called. Where a manifest has no origins, a
file that is named after a YouTube id counts as that video, but only against a clip whose manifest names its origin: two
files called `recording_1.wav` need not be the same.

m and k names of clips, as rows of a fingerprint and the number of the clip.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from lhotse.cut import Cut

from slap.datamodules.manifests.safe_cuts import files_of

YOUTUBE = re.compile(r"\[?Y?([\w-]{11})\]?(?:[_-]\[?[\d.]+(?:[_-][\d.]+)?\]?)?", re.ASCII)
"""A file named after a video, with or without the times of a segment, as people download them."""

Names = np.ndarray  # (m, 2) int64


def stated_origins(cut: Cut) -> dict[str, str]:
    """Return the origins of a clip that its manifest states, {site: id}."""
    return (cut.custom or {}).get("origin") or {}


def guessed_origins(cut: Cut) -> dict[str, str]:
    """Return the origin of a clip that the name of its file suggests; nothing if the manifest states it."""
    if stated_origins(cut):
        return {}
    found = [YOUTUBE.fullmatch(Path(file).stem) for file in files_of(cut)]
    return {"youtube": found[0][1]} if len(found) == 1 and found[0] else {}


def by_name(rows: Names | list[tuple[int, int]]) -> Names:
    """Sort fingerprints and numbers of clips, (m, 2), by the fingerprints, as `pairs` needs them."""
    table = np.asarray(rows, dtype=np.int64).reshape(-1, 2)
    return table[np.argsort(table[:, 0], kind="stable")]


def pairs(first: Names, second: Names) -> Iterator[tuple[int, int]]:
    """Yield the numbers of two clips that share a name, for each such pair and name.

    Args:
        first: (m, 2), in any order.
        second: (k, 2), in the order of the fingerprints.
    """
    left = np.searchsorted(second[:, 0], first[:, 0], side="left")
    right = np.searchsorted(second[:, 0], first[:, 0], side="right")
    for row in np.flatnonzero(right > left):
        for other in range(left[row], right[row]):
            yield int(first[row, 1]), int(second[other, 1])
