"""The rows of the paper's tables, to run and to set beside one's own figures."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class PaperRow:
    """A published figure, in percent; see `published.toml`."""

    task: str
    dataset: str
    metric: str
    pretrained: float | None = None
    finetuned: float | None = None
    reported: float | None = None


@cache
def paper_rows() -> tuple[PaperRow, ...]:
    """All published figures that this package has the protocol of."""
    content = tomllib.loads(files("slap.evaluation").joinpath("published.toml").read_text(encoding="utf-8"))
    return tuple(PaperRow(**row) for row in content["row"])


def published(task: str, dataset: str) -> dict[str, dict[str, float]]:
    """The published figures of a task on a data set: by metric `pretrained`, `finetuned`, `reported`, if there are."""
    found: dict[str, dict[str, float]] = {}
    for row in paper_rows():
        if (row.task, row.dataset) == (task, dataset):
            figures = {"pretrained": row.pretrained, "finetuned": row.finetuned, "reported": row.reported}
            found[row.metric] = {name: value for name, value in figures.items() if value is not None}
    return found
