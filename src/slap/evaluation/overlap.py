"""Overlap of evaluated clips with training data, for the warnings of `slap evaluate`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slap.core.own_files import is_own
from slap.datamodules.manifests.columns import Columns
from slap.datamodules.manifests.filters import split_filter
from slap.datamodules.manifests.read import read_manifest, read_names
from slap.datamodules.overlap.warn import shared_by_name

log = logging.getLogger(__name__)

BY_NAME = {"id", "origin"}


def overlap_warnings(
    train: Sequence[Path],
    evaluated: Sequence[Path],
    ways: set[str],
    workers: int,
    columns: Columns | None = None,
) -> list[str]:
    """Write a line for each training manifest that shares clips with those that are evaluated.

    Args:
        train: manifests of the training data.
        evaluated: manifests of the clips that are evaluated.
        ways: ways to compare, of `slap.datamodules.overlap.WAYS`; "id" and "origin" take no time, the others decode
            all audio.
        workers: processes that decode.
        columns: columns of tables whose names are not the known ones, see `read_manifest`.
    """
    found = []
    for path in train:
        for other in evaluated:
            clips = len(read_manifest(other, max_bad=1.0, columns=columns))
            by_name = ways <= BY_NAME
            shared = _by_name(path, other, ways, columns) if by_name else _by_audio(path, other, ways, workers, columns)
            if shared:
                listed = " and ".join(f"{count} by {way}" for way, count in shared.items())
                found.append(
                    f"the training manifest {path} holds evaluated clips: {listed}, of {clips}; the metrics are too "
                    f"high, see `slap overlap {path} {other}`"
                )
    return found


def _by_name(train: Path, test: Path, ways: set[str], columns: Columns | None) -> dict[str, int]:
    counts = shared_by_name(read_names(train, columns), read_names(test, columns))
    named = dict(zip(("id", "origin"), counts, strict=True))
    return {way: count for way, count in named.items() if count and way in ways}


def _by_audio(train: Path, test: Path, ways: set[str], workers: int, columns: Columns | None) -> dict[str, int]:
    from slap.datamodules.overlap.search import search

    pairs = search(train, [test], ways, workers, True, columns).pairs
    clips: dict[str, set[int]] = {}
    for (_, evaluated), pair in pairs.items():
        for way in pair.by:
            clips.setdefault(way, set()).add(evaluated)
    return {way: len(numbers) for way, numbers in sorted(clips.items())}


def training_manifests(model: Path) -> list[Path]:
    """Return the training manifests that the configuration of a checkpoint's run names, and that are there.

    Args:
        model: a checkpoint beside the `config.yaml` of a run that the user trained at that place; of anything else
            nothing is known.
    """
    config = model.parent / "config.yaml"
    if model.suffix == ".ckpt" and config.is_file() and not is_own(config):
        log.warning("%s is not what your own `slap fit` wrote: name the training manifests with --train", config)
    named = _data_options(model).get("train")
    values = [*named.values()] if isinstance(named, dict) else [named]
    paths = [path for value in values for path in (value if isinstance(value, list) else [value])]
    found = [Path(path) for path in paths if isinstance(path, str)]
    return [path for path in found if split_filter(path)[0].exists()]


def training_columns(model: Path) -> Columns | None:
    """Return the columns of tables that the configuration of a checkpoint's run names, see `training_manifests`."""
    named = _data_options(model).get("columns")
    return named if isinstance(named, dict) else None


def _data_options(model: Path) -> dict[str, Any]:
    config = model.parent / "config.yaml"
    if model.suffix != ".ckpt" or not config.is_file():
        return {}
    if not is_own(config):  # it could name any file
        return {}
    import yaml

    content: Any = yaml.safe_load(config.read_text(encoding="utf-8"))
    data = content.get("data") if isinstance(content, dict) else None
    return data if isinstance(data, dict) else {}
