"""Warning of evaluation clips that the model is trained on.

At the start of training, only names are compared, which the indices of manifests hold: ids, and origins such as a
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
    """Return the number of evaluation clips with the id, and of those with the origin, of a training clip."""
    ids = np.isin(evaluation.keys, train.keys)
    origins = evaluation.origins()
    from_there = origins[np.isin(origins[:, 0], train.origins()[:, 0]), 1]
    return int(ids.sum()), len(np.unique(from_there))


def indexed(paths: Sequence[Path]) -> list[tuple[Path, Clips]]:
    """Return the manifests with an index, which holds names. For a CSV, the headers of all its files would be read."""
    found = []
    for path in paths:
        try:
            if split_filter(path)[0].suffix != ".csv":
                found.append((path, read_manifest(path)))
        except ManifestError as error:  # evaluation reports it
            log.info("not compared with the training data: %s", error)
    return found


def warn_of_overlap(train: Sequence[tuple[Path, Clips]], evaluation: Sequence[tuple[Path, Clips]]) -> None:
    """Log a warning for each training manifest that shares clips with an evaluation manifest.

    Args:
        train: training manifests with their clips.
        evaluation: evaluation manifests with their clips.
    """
    for path, clips in train:
        for other, evaluated in evaluation:
            ids, origins = shared_by_name(clips, evaluated)
            if ids or origins:
                log.warning(
                    "of the %d clips in %s, %d have the id and %d the origin of a training clip in %s: metrics on "
                    "them are too good; see `slap overlap %s %s`, and its option --out",
                    len(evaluated),
                    other,
                    ids,
                    origins,
                    path,
                    path,
                    other,
                )
