"""Filters of a manifest, written after its path: `esc50/all.jsonl.gz#fold=1,2,3`.

    #fold=1,2,3       the clips of these folds, by the manifest's field `fold`
    #fold=not 1,2     the clips of all other folds
    #heldout=0.05     a fixed share of the clips, for validation where a corpus has no validation split
    #train=0.05       all clips but that share

Shares are drawn by the fingerprint of where a clip is from (the YouTube video, the Freesound recording), or else of its
id, so clips of one recording stay together, as do segments of one file, and a clip keeps its side when others are added
or removed.

n clips.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path

import numpy as np
from lhotse.cut import Cut

from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.sequence import Clips, ClipSubset, key_of

MARK = "#"
NOT = "not "
FILTERS = "#fold=1,2,3, #fold=not 1,2, #heldout=0.05 or #train=0.05"
RENAMED = {"held": "heldout", "rest": "train"}
"""Former names of filters, which are refused with a message that says the new ones."""


def split_filter(path: Path) -> tuple[Path, str]:
    """Split a path into that of a file, or folder, and the filter after it, empty if there is none.

    Example:
        >>> split_filter(Path("esc50/all.jsonl.gz#fold=1,2")), split_filter(Path("train.csv"))
        ((PosixPath('esc50/all.jsonl.gz'), 'fold=1,2'), (PosixPath('train.csv'), ''))
    """
    name, mark, wanted = path.name.rpartition(MARK)
    return (path.with_name(name), wanted) if mark and name and not path.exists() else (path, "")


def filtered(clips: Clips, wanted: str, where: Path) -> Clips:
    """Return the clips of a manifest that a filter selects.

    Args:
        clips: all clips of the manifest.
        wanted: the filter, as `split_filter` returns it.
        where: path of the manifest, for messages.

    Raises:
        ManifestError: the filter is malformed, a clip has no fold, or no clip is selected.
    """
    how, _, value = wanted.partition("=")
    if how == "fold":
        numbers = np.flatnonzero(_in_folds(clips, value, where))
    elif how in ("heldout", "train"):
        numbers = np.flatnonzero(held_out(clips, _share(value, where), where.parent) == (how == "heldout"))
    elif how in RENAMED:
        raise ManifestError(f"{where}: the filter `{MARK}{how}=` is called `{MARK}{RENAMED[how]}={value}`")
    else:
        raise ManifestError(f"{where}: there is no filter `{MARK}{wanted}`; it can be {FILTERS}")
    if not len(numbers):
        raise ManifestError(f"{where}: the filter `{MARK}{wanted}` selects none of the {len(clips)} clips")
    return ClipSubset(clips, numbers)


def held_out(clips: Clips, share: float, folder: Path) -> np.ndarray:
    """Return (n,) bool: the clips of a share, 0 to 1, of a manifest in a folder; always the same ones."""
    unique, place = np.unique(groups_of(clips, folder), return_inverse=True)
    drawn = np.array([_uniform(int(key)) for key in unique]) < share
    result: np.ndarray = drawn[place]
    return result


def groups_of(clips: Clips, folder: Path) -> np.ndarray:
    """Return (n,) int64, a key of the source of each clip: its first origin, else its file, else its id.

    Args:
        clips: the clips of a manifest.
        folder: of the manifest, with which the files may move.
    """
    groups = np.array(clips.lasting)
    origins = clips.origins()
    known = np.zeros(len(clips), dtype=bool)
    known[origins[:, 1]] = True
    here = os.path.realpath(folder) + os.sep
    for number in np.flatnonzero(~known).tolist():
        if (file := _file_of(clips.cut(number))) is not None:
            groups[number] = key_of(file.removeprefix(here))
    for key, number in origins[::-1]:  # the first origin of a clip decides
        groups[number] = key
    return groups


def _file_of(cut: Cut) -> str | None:
    """Return the path of the one file that a cut is read from."""
    sources = cut.recording.sources if cut.has_recording else []
    return str(sources[0].source) if len(sources) == 1 and sources[0].type == "file" else None


def _uniform(key: int) -> float:
    """Return a number from 0 to 1 that is fixed for a fingerprint and independent of its other uses."""
    return int.from_bytes(blake2b(f"held out {key}".encode(), digest_size=7).digest(), "little") / 256**7


def folds_of(clips: Clips) -> np.ndarray:
    """Return (n,) int64, the fold of each clip.

    Raises:
        ManifestError: a clip has no fold.
    """
    folds = [(cut.custom or {}).get("fold") for cut in clips]
    if None in folds:
        cut = clips[folds.index(None)]
        raise ManifestError(f"{cut.custom['where']}: clip {cut.id!r} has no `fold`, which `{MARK}fold=` needs")
    return np.array(folds, dtype=np.int64)


def _in_folds(clips: Clips, value: str, where: Path) -> np.ndarray:
    listed = value.removeprefix(NOT).split(",")
    wanted = {int(fold) for fold in listed if fold.strip().isdigit()}
    if len(wanted) < len(listed):
        raise ManifestError(f"{where}: folds are different whole numbers with commas between them, got {value!r}")
    folds = folds_of(clips)
    present = set(folds.tolist())
    if not wanted <= present:
        known = ", ".join(map(str, sorted(present)))
        raise ManifestError(f"{where}: there is no fold {min(wanted - present)}; the folds are {known}")
    return np.isin(folds, sorted(wanted), invert=value.startswith(NOT))


def _share(value: str, where: Path) -> float:
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise ManifestError(f"{where}: a share of the clips is a number between 0 and 1, got {value!r}")
    return share
