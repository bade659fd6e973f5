"""Benchmarks that are known by name: their layouts, and the protocols by which they are trained and tested."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from slap.core.errors import UserError, suggest
from slap.datamodules.prepared_path import Role, prepared
from slap.datamodules.sampling.folds import folds as split_folds
from slap.evaluation.eval_set import Part
from slap.evaluation.tasks.base import Use

HELD_OUT = 0.05
"""Share of the training clips that is held out where a benchmark has no validation split (our choice)."""


@dataclass(frozen=True)
class Dataset:
    """A benchmark by its protocol; see `benchmarks.toml` for the attributes."""

    name: str
    corpus: str
    use: Use
    test: tuple[str, ...]
    val: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    label: str = ""
    folds: int = 0
    classes: int | None = None
    prompts: str = ""
    about: str = ""
    balanced: bool = False
    training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def splits(self, part: Part) -> tuple[str, ...]:
        """Return the published splits of a part."""
        return {"train": self.train, "val": self.val, "test": self.test}[part]

    @property
    def has_training(self) -> bool:
        """True if there is something to train on that is not evaluated."""
        return bool(self.folds or self.train)

    @property
    def task(self) -> str:
        """The task whose labels its clips have, as manifests name it."""
        return self.label

    @property
    def multi_label(self) -> bool:
        """True if a clip may have several labels."""
        return self.use == "tags"

    @property
    def prepare(self) -> str:
        """The arguments of `slap prepare` that write its manifests."""
        return " ".join([self.corpus, *(f"--{name} {value}" for name, value in self.options.items())])


@cache
def datasets() -> dict[str, Dataset]:
    """Return all benchmarks, by name."""
    content = tomllib.loads(files("slap.evaluation").joinpath("benchmarks.toml").read_text(encoding="utf-8"))
    return {name: _dataset(name, table) for name, table in content.items()}


def _trainable() -> dict[str, Dataset]:
    """Return the benchmarks with something to train on, by the names of their training sets."""
    found: dict[str, Dataset] = {}
    for name, dataset in datasets().items():
        for variant, table in dataset.training.items():
            found[variant] = replace(dataset, name=variant, **_tuples(table))
        if dataset.has_training and not dataset.training:
            found[name] = dataset
    return found


def manifests_of(
    name: str, folder: str | None = None, fold: int = 1, val_fold: int | None = None
) -> Mapping[Role, Sequence[str]]:
    """Return the manifests of a benchmark's published splits, by what they are used for.

    Args:
        name: one of `TRAINABLE`.
        folder: the folder that `slap prepare` wrote. Default: `manifests/` and the name without what follows a hyphen,
            e.g. `manifests/audioset` for `audioset-20k`.
        fold: the fold to test on, where there are folds.
        val_fold: the fold for validation, see `slap.datamodules.sampling.folds`.

    Raises:
        ValueError: there is no such benchmark, or it has nothing to train on.
        FileNotFoundError: the corpus was not prepared.
        ManifestError: there is no such fold.
    """
    if name not in TRAINABLE:
        if name not in datasets():
            raise UserError(f"there is no benchmark {name!r}; {suggest(name, TRAINABLE)}")
        others = [other for other, found in TRAINABLE.items() if found.corpus == datasets()[name].corpus]
        raise UserError(f"{name} has no training split; {', '.join(others) or 'no variant of it'} has one")
    dataset = TRAINABLE[name]
    place = Path(folder or f"manifests/{name.partition('-')[0]}")
    if dataset.folds:
        return split_folds(prepared(place, dataset.test[0], dataset.prepare), fold, val_fold)
    roles: tuple[Role, ...] = ("train", "val", "test")
    found = {role: [str(prepared(place, split, dataset.prepare)) for split in dataset.splits(role)] for role in roles}
    if not dataset.val:
        first = found["train"][0]
        found["train"][0], found["val"] = f"{first}#train={HELD_OUT}", [f"{first}#heldout={HELD_OUT}"]
    return found


def _dataset(name: str, table: Mapping[str, Any]) -> Dataset:
    return Dataset(name=name, **_tuples(table))


def _tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


TRAINABLE: Mapping[str, Dataset] = _trainable()
"""The benchmarks that have something to train on, by the names of their training sets."""

PROTOCOLS: Mapping[str, Dataset] = {name: dataset for name, dataset in TRAINABLE.items() if dataset.use != "captions"}
"""Those with labels, on which classifiers are trained."""
