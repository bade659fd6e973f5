"""Results of an evaluation in Python: metrics by name, as rows, and as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from slap.core.errors import MissingDependencyError
from slap.core.registry import plugins
from slap.evaluation.report import text
from slap.metrics.bootstrap import MetricValue

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class EvaluationResults(Mapping[str, MetricValue]):
    """The metrics of an evaluation, as a mapping from `<task>/<data>/<metric>` to value, interval, chance and count.

    Attributes:
        record: everything that `slap evaluate` writes as JSON: also settings, counts, warnings, metrics by class.
    """

    record: dict[str, Any]

    @cached_property
    def metrics(self) -> dict[str, MetricValue]:
        """Each metric by its name, e.g. `retrieval/mine/t2a_R@10`."""
        keys = [part.name for part in fields(MetricValue)]
        return {
            f"{row['task']}/{row['data']}/{row['metric']}": MetricValue(**{k: row[k] for k in keys})
            for row in self.rows
        }

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """A row per metric: task, data, metric, value, low, high, chance, count."""
        return [
            {"task": result["task"], "data": result["dataset"], "metric": name, **metric}
            for result in self.record["results"]
            for name, metric in result["metrics"].items()
        ]

    def to_dict(self) -> list[dict[str, Any]]:
        """Return the rows as plain data, e.g. for `pandas.DataFrame`."""
        return [dict(row) for row in self.rows]

    def to_pandas(self) -> DataFrame:
        """Return the rows as a data frame, with a column for each key of `rows`.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        try:
            from pandas import DataFrame  # no dependency of this package
        except ImportError as error:
            raise MissingDependencyError("data frames need pandas: pip install pandas") from error
        return DataFrame(self.to_dict())

    @property
    def failed(self) -> list[dict[str, str]]:
        """The rows that were asked for and did not run, each with its reason."""
        return list(self.record["failed"])

    @property
    def skipped(self) -> list[dict[str, str]]:
        """The rows that no word named by itself and that have no data, each with its reason."""
        return list(self.record["skipped"])

    def __getitem__(self, name: str) -> MetricValue:
        return self.metrics[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.metrics)

    def __len__(self) -> int:
        return len(self.metrics)

    def table(self) -> str:
        """Write the most important metrics of each task as a table for a terminal."""
        tasks: Mapping[str, Any] = plugins("task")
        return text(self.record, lambda task, metric: task not in tasks or tasks[task].shows(metric))

    def __str__(self) -> str:
        return "\n".join([self.table(), *(f"{row['row']}: failed: {row['reason']}" for row in self.failed)])
