"""Which clips of two sets are the same by what they are called, or by where their audio is from.

A clip is known by its id, and by its origins (`origin` {site: id}: a YouTube video, a Freesound recording). So clips
of AudioCaps and VGGSound meet in the video that both are cut from, whatever their files are called. Where a manifest
says nothing of origins, a file that is named after a YouTube id counts as that video, but only against a clip that
does say so: of two files called `recording_1.wav` nothing is known.

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


def said_origins(cut: Cut) -> dict[str, str]:
    """What a manifest says of where a clip is from, {site: id}."""
    return (cut.custom or {}).get("origin") or {}


def guessed_origins(cut: Cut) -> dict[str, str]:
    """Where a clip seems to be from, by the name of its file; nothing where the manifest says it."""
    if said_origins(cut):
        return {}
    found = [YOUTUBE.fullmatch(Path(file).stem) for file in files_of(cut)]
    return {"youtube": found[0][1]} if len(found) == 1 and found[0] else {}


def by_name(rows: Names | list[tuple[int, int]]) -> Names:
    """Fingerprints and numbers of clips, (m, 2), in the order of the fingerprints, as `pairs` wants them."""
    table = np.asarray(rows, dtype=np.int64).reshape(-1, 2)
    return table[np.argsort(table[:, 0], kind="stable")]


def pairs(first: Names, second: Names) -> Iterator[tuple[int, int]]:
    """The numbers of two clips that share a name, for each such pair and name.

    Args:
        first: (m, 2), in any order.
        second: (k, 2), in the order of the fingerprints.
    """
    left = np.searchsorted(second[:, 0], first[:, 0], side="left")
    right = np.searchsorted(second[:, 0], first[:, 0], side="right")
    for row in np.flatnonzero(right > left):
        for other in range(left[row], right[row]):
            yield int(first[row, 1]), int(second[other, 1])
