"""The log `metrics.csv` of a run, which its continuations and its tests add to."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from torch import Tensor

from slap.core.files import atomic_write, refuse_link

METRICS = "metrics.csv"

VALIDATION = "val/"
"""The beginning of the names of metrics of validation."""


def forget_after(path: Path, steps: int, validated: bool = True) -> None:
    """Remove the rows of a log that come after a checkpoint, which its continuation writes again.

    A row that was being written when its run was killed is removed too.

    Args:
        path: the log, if there is one.
        steps: the number of steps that the checkpoint has seen; rows are numbered from 0.
        validated: whether the checkpoint has seen the validation after its last step, if there is one. Otherwise that
            validation is made again, so its rows, and those behind them, are removed.
    """
    if not path.is_file():
        return
    with path.open(newline="") as file:
        lines = file.readlines() or [""]
    names = next(csv.reader(lines[:1]), [])
    kept, again = [], False
    for line in lines[1:]:
        row = dict(zip(names, next(csv.reader([line]), []), strict=False))
        if not line.endswith("\n") or len(row) < len(names) or int(row["step"]) >= steps:
            continue
        if not validated and int(row["step"]) == steps - 1:
            again = again or any(value and name.startswith(VALIDATION) for name, value in row.items())
            if again:
                continue
        kept.append(line)
    if len(kept) < len(lines) - 1:
        with atomic_write(path) as file:
            file.writelines([*lines[:1], *kept])


class AppendingCSVLogger(CSVLogger):
    """Lightning's CSV log, which here adds to the `metrics.csv` of a run instead of deleting it.

    Otherwise testing a model, or continuing its training, would destroy the record of its training.

    Args:
        out: the run's folder.

    Attributes:
        paused: whether another process writes to the file, so that nothing is logged here.
    """

    def __init__(self, out: str) -> None:
        super().__init__(out, name="", version="")
        self.paused = False

    def log_metrics(self, metrics: Mapping[str, Tensor | float], step: int | None = None) -> None:
        """Log as the parent does, unless the file is left to another process."""
        if not self.paused:
            super().log_metrics(dict(metrics), step)

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer of the file, which does nothing on processes other than the first."""
        if self._experiment is None:
            self._experiment = _AppendingWriter(self.log_dir)
        assert isinstance(self._experiment, ExperimentWriter)
        return self._experiment


class _AppendingWriter(ExperimentWriter):
    def save(self) -> None:
        """Write as the parent does, but through no link.

        Raises:
            UserError: the file is a link, which may lead anywhere.
        """
        refuse_link(Path(self.metrics_file_path))
        super().save()

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if path.is_file():
            with path.open(newline="") as file:
                self.metrics_keys = next(csv.reader(file), [])

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        """Write as the parent does, but whole or not at all."""
        with Path(self.metrics_file_path).open(newline="") as file:
            rows = list(csv.DictReader(file))
        with atomic_write(self.metrics_file_path) as file:
            writer = csv.DictWriter(file, fieldnames=fieldnames)
            writer.writeheader()
            writer.writerows(rows)
