"""Warns when a model is judged on clips that it is trained on.

At the start of training this looks at names alone, which the indices of manifests hold: ids, and origins such as a
YouTube video or a Freesound recording. `slap overlap` compares the audio too.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.filters import split_filter
from slap.datamodules.manifests.read import read_manifest
from slap.datamodules.manifests.sequence import Clips

log = logging.getLogger(__name__)


def shared_by_name(train: Clips, evaluation: Clips) -> tuple[int, int]:
    """How many evaluation clips have the id, and how many the origin, of a training clip."""
    ids = np.isin(evaluation.keys, train.keys)
    origins = evaluation.origins()
    from_there = origins[np.isin(origins[:, 0], train.origins()[:, 0]), 1]
    return int(ids.sum()), len(np.unique(from_there))


def indexed(paths: Sequence[Path]) -> list[tuple[Path, Clips]]:
    """The manifests whose index tells names in no time. A CSV would be read with the headers of all its files."""
    found = []
    for path in paths:
        try:
            if split_filter(path)[0].suffix != ".csv":
                found.append((path, read_manifest(path)))
        except ManifestError as error:  # whoever needs the manifest will be told
            log.info("not compared with the training data: %s", error)
    return found


def warn_of_overlap(train: Sequence[tuple[Path, Clips]], evaluation: Sequence[tuple[Path, Clips]]) -> None:
    """Log a warning for each training manifest that shares clips with an evaluation manifest.

    Args:
        train: training manifests with their clips.
        evaluation: evaluation manifests with theirs.
    """
    for path, clips in train:
        for other, judged in evaluation:
            ids, origins = shared_by_name(clips, judged)
            if ids or origins:
                log.warning(
                    "of the %d clips in %s, %d have the id and %d the origin of a training clip in %s: figures from "
                    "them are too good; see `slap overlap %s %s`, and its option --out",
                    len(judged),
                    other,
                    ids,
                    origins,
                    path,
                    path,
                    other,
                )
