"""`last.ckpt`, from which an interrupted run continues."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from slap.core.checkpoint_file import is_good, newest_good
from slap.core.errors import UserError
from slap.training.checkpoint.io import LAST, files_of
from slap.training.checkpoint.resume import ExactResume
from slap.training.processes.graceful_stop import GracefulStop

log = logging.getLogger(__name__)


class LastCheckpoint(Checkpoint):
    """Saves `last.ckpt` after each validation and at the end of training, and in between by steps and by the clock.

    Lightning's own `save_last` writes only along with a new best, so that the last steps of a run could be lost. The
    checkpoint before it is kept as `previous.ckpt`.

    Args:
        out: the run's folder.
        resume: the callback that knows the position in training.
        stop: the callback that knows when a checkpoint is due by the clock.
        save_every: optimizer steps between checkpoints; None for no checkpoints by steps.
    """

    def __init__(self, out: str, resume: ExactResume, stop: GracefulStop, save_every: int | None = None) -> None:
        if save_every is not None and save_every < 1:
            raise UserError(f"save_every is a number of steps from 1 on, or None; got {save_every}")
        self.path = Path(out).absolute() / LAST
        self.save_every = save_every
        self._resume, self._stop = resume, stop
        self._saved: tuple[int, bool] | None = None  # the step, and whether its validation was included
        self._step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the saves of an earlier training."""
        self._saved, self._step = None, trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Save after a step if it is time, and raise the error of a write that goes on beside training."""
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
        """Save during training, but for the validation batches before it."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the steps after the last validation, and wait until they are on the disk."""
        self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Save if anything is new, and wait until the file is on the disk."""
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
    """Return the checkpoint from which the run of a folder continues: `last.ckpt`, or the newest undamaged one.

    Args:
        out: the run's folder.

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
        raise UserError(f"all checkpoints in {out} are damaged: {', '.join(path.name for path in there)}")
    if found is not None:
        what = "is cut off or damaged" if last.exists() else "is not there"
        log.warning("%s %s; taken instead is %s, the newest that is undamaged", last, what, found)
    return found
