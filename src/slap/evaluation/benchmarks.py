"""The data sets that are known by name: where their layouts are read, and by which protocol they are judged."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from slap.evaluation.eval_set import Part
from slap.evaluation.tasks.base import Use


@dataclass(frozen=True)
class Dataset:
    """A data set by its protocol; see `benchmarks.toml` for the attributes."""

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

    def splits(self, part: Part) -> tuple[str, ...]:
        """The published splits that are a part."""
        return {"train": self.train, "val": self.val, "test": self.test}[part]

    @property
    def can_be_learnt(self) -> bool:
        """Whether there is something to train on that is not judged."""
        return bool(self.folds or self.train)


@cache
def datasets() -> dict[str, Dataset]:
    """All data sets, by name."""
    content = tomllib.loads(files("slap.evaluation").joinpath("benchmarks.toml").read_text(encoding="utf-8"))
    return {name: _dataset(name, table) for name, table in content.items()}


def _dataset(name: str, table: Mapping[str, Any]) -> Dataset:
    lists = {key: tuple(value) for key, value in table.items() if isinstance(value, list)}
    return Dataset(name=name, **{**table, **lists})
