"""`last.ckpt`: where a run that was interrupted goes on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from slap.core.checkpoint_file import is_good, newest_good
from slap.training.checkpoint.io import LAST, files_of
from slap.training.checkpoint.resume import ExactResume
from slap.training.processes.graceful_stop import GracefulStop

log = logging.getLogger(__name__)


class LastCheckpoint(Checkpoint):
    """Saves `last.ckpt` after each validation and at the end of training, and between by steps and by the clock.

    Lightning's own `save_last` writes only along with a new best, so that the last steps of a run could be lost. The
    one before is kept as `previous.ckpt`.

    Args:
        out: the folder.
        resume: knows where training is.
        stop: knows when a checkpoint is due by the clock.
        save_every: optimizer steps between checkpoints; None for none by steps.
    """

    def __init__(self, out: str, resume: ExactResume, stop: GracefulStop, save_every: int | None = None) -> None:
        if save_every is not None and save_every < 1:
            raise ValueError(f"save_every is a number of steps from 1 on, or None; got {save_every}")
        self.path = Path(out).absolute() / LAST
        self.save_every = save_every
        self._resume, self._stop = resume, stop
        self._saved: tuple[int, bool] | None = None  # the step, and whether its validation was included
        self._step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing is saved yet of this run."""
        self._saved, self._step = None, trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """After a step, save if it is time; raise the error of what was being written beside it."""
        files = files_of(trainer)
        if files is not None:
            files.check()
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        boundary = self._resume.boundary
        by_steps = self.save_every is not None and self._step % self.save_every == 0
        if (by_steps or self._stop.save_due) and boundary is not None and boundary.complete:
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, unless nothing is being trained."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what came after the last validation, and wait until it is on the disk."""
        self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Save if anything is new, and wait until it is on the disk."""
        self._save(trainer)
        files = files_of(trainer)
        if files is not None:
            files.wait()

    def _save(self, trainer: Trainer) -> None:
        boundary = self._resume.boundary
        now = trainer.global_step, boundary is not None and boundary.validated
        if now != self._saved:
            for logger in trainer.loggers:
                logger.save()  # what the checkpoint continues from
            trainer.save_checkpoint(self.path, weights_only=False)  # with the optimizer, to continue from
            self._saved = now


def find_last(out: Path) -> Path | None:
    """The checkpoint from which the run of a folder goes on: `last.ckpt`, or the newest one that is undamaged.

    Args:
        out: the folder.

    Returns:
        None if there is no checkpoint.

    Raises:
        ValueError: there are some, but all are damaged.
    """
    last = out / LAST
    if is_good(last):
        return last
    found = newest_good(out)
    there = sorted(out.glob("*.ckpt"))
    if there and found is None:
        raise ValueError(f"all checkpoints in {out} are damaged: {', '.join(path.name for path in there)}")
    if found is not None:
        what = "is cut off or damaged" if last.exists() else "is not there"
        log.warning("%s %s; taken instead is %s, the newest that is undamaged", last, what, found)
    return found
