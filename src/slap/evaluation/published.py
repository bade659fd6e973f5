"""Rows of the paper's tables, to run and to compare with."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class PaperRow:
    """A published value, in percent; see `published.toml`."""

    task: str
    dataset: str
    metric: str
    pretrained: float | None = None
    finetuned: float | None = None
    reported: float | None = None


@cache
def paper_rows() -> tuple[PaperRow, ...]:
    """Return all published values whose protocol this package has."""
    content = tomllib.loads(files("slap.evaluation").joinpath("published.toml").read_text(encoding="utf-8"))
    return tuple(PaperRow(**row) for row in content["row"])


def published(task: str, dataset: str) -> dict[str, dict[str, float]]:
    """Return the published values of a task on a data set: by metric those of `pretrained`, `finetuned`, `reported`."""
    found: dict[str, dict[str, float]] = {}
    for row in paper_rows():
        if (row.task, row.dataset) == (task, dataset):
            values = {"pretrained": row.pretrained, "finetuned": row.finetuned, "reported": row.reported}
            found[row.metric] = {name: value for name, value in values.items() if value is not None}
    return found
