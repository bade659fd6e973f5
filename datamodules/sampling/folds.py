"""Folds of a manifest: one to test on, one for validation, the others to train on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from slap.core.errors import UserError
from slap.datamodules.manifests.columns import Columns
from slap.datamodules.manifests.filters import folds_of
from slap.datamodules.manifests.read import read_manifest
from slap.datamodules.prepared_path import Role


def folds(
    manifest: Path, fold: int, val_fold: int | None = None, columns: Columns | None = None
) -> Mapping[Role, Sequence[str]]:
    """Split a manifest by folds into one to test on, one for validation, and the others to train on.

    Most papers train on all other folds and report the best metric that the test fold ever has, which selects the
    checkpoint on the test. Here a fold of its own selects it (by default the next one), or none does: 0 trains on all
    others, and the last checkpoint is to be tested.

    Args:
        manifest: the manifest, whose clips have folds.
        fold: the fold to test on.
        val_fold: the fold for validation. Default: the next one, or the first after the last; 0 is none.
        columns: columns of a table whose names are not the known ones, see `read_manifest`.

    Raises:
        ManifestError: the clips have no folds, or only two, or not these.
        ValueError: the validation fold is the one to test on.
    """
    there = sorted(set(folds_of(read_manifest(manifest, columns=columns)).tolist()))
    if val_fold is None:
        val_fold = there[(there.index(fold) + 1) % len(there)] if fold in there else fold
    if val_fold == fold and fold in there:
        raise UserError(f"fold {fold} is tested on, so it may not choose: val_fold can be {_others(there, fold)} or 0")
    named: dict[Role, list[str]] = {"test": [f"{manifest}#fold={fold}"], "val": [], "train": []}
    if not val_fold:
        named["train"] = [f"{manifest}#fold=not {fold}"]
        return named
    named["val"] = [f"{manifest}#fold={val_fold}"]
    named["train"] = [f"{manifest}#fold=not {fold},{val_fold}"]
    return named


def _others(there: Sequence[int], fold: int) -> str:
    return ", ".join(str(other) for other in there if other != fold)
