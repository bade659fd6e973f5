"""Warning of evaluation clips that the model is trained on.

At the start of training, only names are compared, which manifests and their indices hold: ids, and origins such as a
YouTube video or a Freesound recording. `slap overlap` compares the audio too.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.columns import Columns
from slap.datamodules.manifests.read import read_names
from slap.datamodules.manifests.sequence import ClipNames, Clips
from slap.datamodules.stored import Array, Stored

log = logging.getLogger(__name__)


def shared_by_name(train: Clips | ClipNames, evaluation: Clips | ClipNames) -> tuple[int, int]:
    """Return the number of evaluation clips with the id, and of those with the origin, of a training clip."""
    ids = _among(np.asarray(evaluation.keys), train.keys)
    origins = evaluation.origins()
    from_there = origins[np.isin(origins[:, 0], train.origins()[:, 0]), 1]
    return int(ids.sum()), len(np.unique(from_there))


def _among(wanted: np.ndarray, keys: Array) -> np.ndarray:
    """Return for each of some fingerprints whether it is among others, which may not be in memory."""
    if not isinstance(keys, Stored):
        return np.isin(wanted, keys)
    known = np.unique(wanted)
    found = np.zeros(len(known), dtype=bool)
    for _, some in keys.pieces():
        place = np.minimum(np.searchsorted(known, some), len(known) - 1)
        found[place[known[place] == some]] = True
    return found[np.searchsorted(known, wanted)]


def named(paths: Sequence[Path], columns: Columns | None = None) -> list[tuple[Path, Clips | ClipNames]]:
    """Return manifests with the names of their clips, which are read without opening audio.

    Args:
        paths: paths of the manifests; those that cannot be used are left out.
        columns: columns of tables whose names are not the known ones, see `read_manifest`.
    """
    found: list[tuple[Path, Clips | ClipNames]] = []
    for path in paths:
        try:
            found.append((path, read_names(path, columns)))
        except ManifestError as error:  # evaluation reports it
            log.info("not compared with the training data: %s", error)
    return found


def warn_of_overlap(
    train: Sequence[tuple[Path, Clips | ClipNames]], evaluation: Sequence[tuple[Path, Clips | ClipNames]]
) -> None:
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
