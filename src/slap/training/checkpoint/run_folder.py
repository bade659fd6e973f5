"""The folder of a run, which is never mixed with another run and can be continued."""

from __future__ import annotations

import csv
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from torch import Tensor

from slap.core.bad_clip import BAD_CLIPS
from slap.core.errors import UserError, suggest
from slap.core.files import atomic_write
from slap.model.finite_weights import has_finite_weights
from slap.training.callbacks.loss_monitor import WATCH_FILES
from slap.training.checkpoint.io import BEST, LAST, PREVIOUS

log = logging.getLogger(__name__)

METRICS = "metrics.csv"

RUN_FILES = (METRICS, BEST, LAST, PREVIOUS, "curves.png")
"""The files that a run leaves in its folder, besides the TensorBoard log."""


class RunFolder(Callback):
    """Keeps a new run out of a folder that holds another one.

    Args:
        out: the run's folder.
        overwrite: remove the other run instead.

    Raises:
        FileExistsError: training starts from its first step in a folder that holds a run.
    """

    def __init__(self, out: str, overwrite: bool = False) -> None:
        self.out = Path(out)
        self.overwrite = overwrite
        self._found: list[Path] = []
        # Now: the logger opens a new one early.
        self._old = [*sorted(self.out.glob("tensorboard/events.*")), self.out / BAD_CLIPS]
        self._old += [self.out / name for name in WATCH_FILES]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """List the files of an earlier run before this one writes anything."""
        if stage == "fit":
            self._found = [self.out / name for name in RUN_FILES if (self.out / name).exists()]

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse the folder before a validation, which no run that is continued begins with."""
        self._refuse(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse or clean the folder: only now is it known that no checkpoint is being continued."""
        if trainer.global_step > 0:
            if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
                forget_after(self.out / METRICS, trainer.global_step)
            return
        self._refuse(trainer)
        if trainer.is_global_zero:
            for path in self._found + self._old:
                path.unlink(missing_ok=True)

    def _refuse(self, trainer: Trainer) -> None:
        present = trainer.strategy.broadcast([path.name for path in self._found])  # so that all processes stop
        if present and not self.overwrite:
            raise FileExistsError(
                f"{self.out} holds a run already ({', '.join(present)}); name another folder as the trainer's `out`, "
                "continue that run with `--ckpt_path last`, or replace it with the trainer's `overwrite`"
            )


def forget_after(path: Path, steps: int) -> None:
    """Remove the rows of a log that come after a checkpoint, which its continuation writes again.

    A row that was being written when its run was killed is removed too.

    Args:
        path: the log, if there is one.
        steps: the number of steps that the checkpoint has seen; rows are numbered from 0.
    """
    if not path.is_file():
        return
    with path.open(newline="") as file:
        header, *rows = file.readlines() or [""]
    step = header.strip().split(",").index("step") if rows else 0
    kept = [row for row in rows if row.endswith("\n") and _whole(row, header) and int(row.split(",")[step]) < steps]
    if len(kept) < len(rows):
        with atomic_write(path) as file:
            file.writelines([header, *kept])


def _whole(row: str, header: str) -> bool:
    return row.count(",") == header.count(",")


class BestCheckpoint(ModelCheckpoint):
    """Saves `best.ckpt` after each validation that beats those before it.

    A metric that is not finite beats nothing, and a model whose weights are not finite is never the best.

    Args:
        out: the run's folder.
        monitor: the metric that decides.
        mode: whether `max` or `min` of it is best.
        save_last: saves the training as it is. It runs before an error of this callback ends the run, so that no step
            is lost by it.
    """

    def __init__(self, out: str, monitor: str, mode: str, save_last: Callable[[Trainer], None]) -> None:
        self._save_last = save_last
        super().__init__(
            Path(out).absolute(),
            "best",
            monitor,
            mode=mode,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set up as the parent does, but allow a folder with files: `RunFolder` keeps other runs out."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
            super().setup(trainer, pl_module, stage)

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Return whether this validation is the best so far."""
        if current is None or not trainer.strategy.reduce_boolean_decision(bool(torch.as_tensor(current).isfinite())):
            if current is not None:
                log.warning("step %d is not the best: %s is %s", trainer.global_step, self.monitor, float(current))
            return False
        if not super().check_monitor_top_k(trainer, current):
            return False
        sound = trainer.strategy.reduce_boolean_decision(has_finite_weights(trainer.lightning_module))
        if not sound:
            log.warning("step %d is not the best: weights of the model are not finite", trainer.global_step)
        return sound

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for the metric among those of the trial validation that comes before the first step.

        Raises:
            ValueError: no validation of this run logs it.
        """
        logged = sorted(trainer.callback_metrics)
        if self.monitor is None or self.monitor in logged or not logged or self._comes_later(trainer, pl_module):
            return
        raise UserError(
            f"monitor is {self.monitor!r}, which no validation of this run logs, so there would be no {BEST}; "
            f"{suggest(self.monitor, logged)}. If a callback of yours logs it later, set num_sanity_val_steps=0 "
            "(--trainer.num_sanity_val_steps 0), which skips this check"
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save as the parent does; if that fails, save the training before the error ends it."""
        try:
            super().on_validation_end(trainer, pl_module)
        except Exception:
            self._save_last(trainer)
            raise

    def _comes_later(self, trainer: Trainer, module: LightningModule) -> bool:
        """Return whether the metric may be of clips that the first batches lack, of training, or of a callback."""
        assert self.monitor is not None
        starts = ["train/"]
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            starts += callback.logs() if isinstance(callback, LogsLater) else []
        tasks = getattr(trainer.datamodule, "prompts", {})  # type: ignore[attr-defined]
        starts += [f"val/zeroshot_{task}" for task in tasks]
        if self.monitor.startswith("val/choice_"):
            starts += [f"val/choice_{task}" for task in getattr(trainer.datamodule, "choice_tasks", ())]  # type: ignore[attr-defined]
        if isinstance(module, HasSources):
            starts += [f"val/{source}/" for source in module.sources("val")]
        return self.monitor.startswith(tuple(starts))


@runtime_checkable
class LogsLater(Protocol):
    """A callback that logs metrics after validations, but not after the trial validation before training."""

    def logs(self) -> list[str]:
        """Return the beginnings of the metrics' names."""


@runtime_checkable
class HasSources(Protocol):
    """A module whose clips come from sources with names, for each of which there are metrics."""

    def sources(self, split: str) -> tuple[str, ...]:
        """Return the names of the sources of a split."""


class AppendingCSVLogger(CSVLogger):
    """Lightning's CSV log, which here adds to the `metrics.csv` of a run instead of deleting it.

    Otherwise testing a model, or continuing its training, would destroy the record of its training.

    Args:
        out: the run's folder.
    """

    def __init__(self, out: str) -> None:
        super().__init__(out, name="", version="")

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer of the file, which does nothing on processes other than the first."""
        if self._experiment is None:
            self._experiment = _AppendingWriter(self.log_dir)
        assert isinstance(self._experiment, ExperimentWriter)
        return self._experiment


class _AppendingWriter(ExperimentWriter):
    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if path.is_file():
            with path.open(newline="") as file:
                self.metrics_keys = next(csv.reader(file), [])
