"""The common stop of all processes of a training, at the end of a step, with one complete checkpoint."""

from __future__ import annotations

import signal
import subprocess
import sys
from time import monotonic
from typing import Any, Protocol, runtime_checkable

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from slap.core.errors import UserError
from slap.training.checkpoint.resume import ExactResume
from slap.training.processes.consensus import Consensus
from slap.training.processes.signals import Signals, TrainingStopped, release_children

PATIENCE = 60.0
"""Seconds for which the process that launched the others waits for their end."""


@runtime_checkable
class Saves(Protocol):
    """A callback that can save when it is asked to."""

    def save(self, trainer: Trainer) -> None:
        """Save, on all processes."""


class GracefulStop(Callback):
    """Ends training when any process has received a signal, and decides when a checkpoint is due by the clock.

    The processes agree on both (`slap.training.processes.consensus`), so all act at the same step, one step later than
    the signal. Training ends after an optimizer step, never within an accumulation. It ends before a validation that is
    due, with which the continuation then begins, but after the validation of the last step.

    Args:
        agreement: the consensus of the processes, about two numbers.
        resume: the callback that knows the position in training.
        save_minutes: minutes between checkpoints; None for no checkpoints by the clock.

    Attributes:
        save_due: whether a checkpoint is due by the clock, after the step that has just been made.
    """

    def __init__(self, agreement: Consensus, resume: ExactResume, save_minutes: float | None = None) -> None:
        if save_minutes is not None and save_minutes <= 0:
            raise UserError(
                f"save_minutes must be above 0, or None for no checkpoints by the clock; got {save_minutes}"
            )
        self.agreement, self.resume, self.save_minutes = agreement, resume, save_minutes
        self.save_due = False
        self._signals: Signals | None = None
        self._stop = 0  # the signal that was agreed on
        self._children: list[Any] = []  # processes that this one launched
        self._step = 0
        self._saved_at = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Replace Lightning's handling of signals."""
        self._signals = Signals(trainer)
        trainer._signal_connector = self._signals
        self._stop = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the group of all processes."""
        self.agreement.open()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._step, self._saved_at = trainer.global_step, monotonic()

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Exchange signals and clocks after a step."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        assert self._signals is not None
        late = self.save_minutes is not None and monotonic() - self._saved_at > 60 * self.save_minutes
        stop, save = self.agreement.exchange([self._signals.received, int(late)])
        self._stop, self.save_due = self._stop or stop, bool(save)
        if self.save_due:
            self._saved_at = monotonic()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Stop, if the processes agreed on it after the step before and no accumulation has begun."""
        boundary = self.resume.boundary
        if self._stop and boundary is not None and not self.resume.within_accumulation:
            self._end(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop, if the processes agreed on it after the step before and a continuation can make the validation."""
        boundary = self.resume.boundary
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if self._stop and fitting and boundary is not None and boundary.repeatable:
            self._end(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Wait for the processes that this one launched after a stop, so that none is killed."""
        if isinstance(exception, TrainingStopped):
            for child in self._children:
                try:
                    child.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    child.kill()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give up the group of all processes."""
        self.agreement.close()

    def _end(self, trainer: Trainer) -> None:
        assert self._signals is not None
        self._signals.received = self._stop
        self._children = release_children(trainer)  # before any of them can end
        self.agreement.collect()  # of this last step, so that no exchange is left open
        name = signal.Signals(self._stop).name
        savers = [callback for callback in trainer.callbacks if isinstance(callback, Saves)]  # type: ignore[attr-defined]
        for saver in savers:
            saver.save(trainer)
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.save()
            more = "; `--ckpt_path last` continues" if savers else ", without a checkpoint"
            print(f"slap: stopped by {name} after step {trainer.global_step}{more}", file=sys.stderr, flush=True)
        if self._signals.wants_requeue:
            self._signals.requeue()
        raise TrainingStopped(self._stop)
