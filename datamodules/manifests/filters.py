"""Some of the clips of a manifest, said where the manifest is named: `esc50/all.jsonl.gz#fold=1,2,3`.

    #fold=1,2,3       the clips of these folds, as the manifest says
    #fold=not 1,2     those of all other folds
    #held=0.05        a share of the clips, always the same ones, to validate on where a corpus has no such split
    #rest=0.05        the others

Shares are drawn by the fingerprint of where a clip is from (the YouTube video, the Freesound recording), or else of its
id, so clips of one recording stay together, and a clip stays where it is when others come or go.

n clips.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

import numpy as np

from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.sequence import Clips, ClipSubset

MARK = "#"
NOT = "not "
WAYS = "#fold=1,2,3, #fold=not 1,2, #held=0.05 or #rest=0.05"


def parted(path: Path) -> tuple[Path, str]:
    """The file, or folder, that a path names, and which of its clips; nothing for all of them.

    Example:
        >>> parted(Path("esc50/all.jsonl.gz#fold=1,2")), parted(Path("train.csv"))
        ((PosixPath('esc50/all.jsonl.gz'), 'fold=1,2'), (PosixPath('train.csv'), ''))
    """
    name, mark, chosen = path.name.rpartition(MARK)
    return (path.with_name(name), chosen) if mark and name and not path.exists() else (path, "")


def chosen_clips(clips: Clips, chosen: str, where: Path) -> Clips:
    """Those of a manifest's clips that are asked for.

    Args:
        clips: all of them.
        chosen: from `parted`.
        where: the manifest, for messages.

    Raises:
        ManifestError: it cannot be read, a clip has no fold, or no clip is left.
    """
    how, _, value = chosen.partition("=")
    if how == "fold":
        numbers = np.flatnonzero(_of_folds(clips, value, where))
    elif how in ("held", "rest"):
        numbers = np.flatnonzero(held_out(clips, _share(value, where)) == (how == "held"))
    else:
        raise ManifestError(f"{where}: `{MARK}{chosen}` says which clips are meant; it can be {WAYS}")
    if not len(numbers):
        raise ManifestError(f"{where}: none of the {len(clips)} clips is left by `{MARK}{chosen}`")
    return ClipSubset(clips, numbers)


def held_out(clips: Clips, share: float) -> np.ndarray:
    """(n,) bool: the clips of a share, 0 to 1, that always holds the same ones."""
    groups = clips.keys.copy()
    origins = clips.origins()
    for key, number in origins[::-1]:  # the first origin of a clip decides
        groups[number] = key
    unique, place = np.unique(groups, return_inverse=True)
    drawn = np.array([_uniform(int(key)) for key in unique]) < share
    result: np.ndarray = drawn[place]
    return result


def _uniform(key: int) -> float:
    """A number from 0 to 1 that is fixed for a fingerprint and independent of its other uses."""
    return int.from_bytes(blake2b(f"held out {key}".encode(), digest_size=7).digest(), "little") / 256**7


def folds_of(clips: Clips) -> np.ndarray:
    """(n,) int64, the fold of each clip.

    Raises:
        ManifestError: one has none.
    """
    folds = [(cut.custom or {}).get("fold") for cut in clips]
    if None in folds:
        cut = clips[folds.index(None)]
        raise ManifestError(f"{cut.custom['where']}: clip {cut.id!r} has no `fold`, but folds are asked for")
    return np.array(folds, dtype=np.int64)


def _of_folds(clips: Clips, value: str, where: Path) -> np.ndarray:
    listed = value.removeprefix(NOT).split(",")
    wanted = {int(fold) for fold in listed if fold.strip().isdigit()}
    if len(wanted) < len(listed):
        raise ManifestError(f"{where}: folds are different whole numbers with commas between them, got {value!r}")
    folds = folds_of(clips)
    there = set(folds.tolist())
    if not wanted <= there:
        known = ", ".join(map(str, sorted(there)))
        raise ManifestError(f"{where}: there is no fold {min(wanted - there)}; the folds are {known}")
    return np.isin(folds, sorted(wanted), invert=value.startswith(NOT))


def _share(value: str, where: Path) -> float:
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise ManifestError(f"{where}: a share of the clips is a number between 0 and 1, got {value!r}")
    return share
