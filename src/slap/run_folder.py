"""One folder a run: it is never mixed with another run, and can be continued."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.trainer.states import TrainerFn

from slap.bad_clip import BAD_CLIPS
from slap.step_watch import WATCH_FILES

RUN_FILES = ("metrics.csv", "best.ckpt", "last.ckpt", "curves.png")
"""What a run leaves in its folder, besides the TensorBoard log."""


class RunFolder(Callback):
    """Keeps a new run out of a folder that holds another one.

    Args:
        out: the folder.
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
        """Look what is there before this run writes anything."""
        del trainer, pl_module
        if stage == "fit":
            self._found = [self.out / name for name in RUN_FILES if (self.out / name).exists()]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse or clean the folder: only now it is known that no checkpoint is being continued."""
        del pl_module
        if trainer.global_step > 0:
            return
        present = trainer.strategy.broadcast([path.name for path in self._found])  # so that all processes stop
        if present and not self.overwrite:
            raise FileExistsError(
                f"{self.out} holds a run already ({', '.join(present)}); name another folder as the trainer's `out`, "
                "continue that run with `--ckpt_path last`, or replace it with the trainer's `overwrite`"
            )
        if trainer.is_global_zero:
            for path in self._found + self._old:
                path.unlink(missing_ok=True)


class BestCheckpoint(ModelCheckpoint):
    """Saves `best.ckpt` after each validation that beats those before it.

    Args:
        out: the folder.
        monitor: the metric that decides.
        mode: whether `max` or `min` of it is best.
    """

    def __init__(self, out: str, monitor: str, mode: str) -> None:
        super().__init__(
            Path(out).absolute(),
            "best",
            monitor,
            mode=mode,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """As the parent, but it may share the folder: `RunFolder` keeps other runs out."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
            super().setup(trainer, pl_module, stage)


class LastCheckpoint(Checkpoint):
    """Saves `last.ckpt` after each validation and at the end of training.

    Lightning's own `save_last` writes only along with a new best, so that the last steps of a run could be lost.

    Args:
        out: the folder.
    """

    def __init__(self, out: str) -> None:
        self.path = Path(out).absolute() / "last.ckpt"
        self._saved = -1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, unless nothing is being trained."""
        del pl_module
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what came after the last validation."""
        del pl_module
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if trainer.global_step != self._saved:
            trainer.save_checkpoint(self.path, weights_only=False)  # with the optimiser, to continue from
            self._saved = trainer.global_step


class AppendingCSVLogger(CSVLogger):
    """Lightning's CSV log, but it adds to the `metrics.csv` of a run instead of deleting it.

    Otherwise testing a model, or continuing its training, would destroy the record of how it was trained.

    Args:
        out: the folder.
    """

    def __init__(self, out: str) -> None:
        super().__init__(out, name="", version="")

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """What writes the file; does nothing on processes other than the first."""
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
