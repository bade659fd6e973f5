"""A progress bar that counts optimizer steps over the whole run, and costs a GPU no wait."""

from __future__ import annotations

import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.trainer.states import TrainerFn

LOSS = "train/loss"

TERMINAL_SECONDS, LOG_SECONDS = 0.1, 10.0
"""Seconds between two refreshes of the bar of a run, on a terminal and in the log of a job."""


class ProgressBar(TQDMProgressBar):
    """Lightning's bar, but one for all epochs of a run: it counts optimizer steps from 0 to the trainer's `max_steps`.

    The bar of a run that is continued begins at the step of its checkpoint. Validations have bars of their own on a
    terminal, and none in a log. Behind the bar stand the epoch and the loss.

    Lightning reads numbers that are logged with `prog_bar=True` back at every step, whether the bar is drawn or not,
    so on a GPU `SLAP` logs none that way, and the bar shows the loss of the last step at which a row of the logs was
    due. On a CPU it shows the loss of the last step.
    """

    def __init__(self) -> None:
        super().__init__()
        self._loss: float | None = None
        self._terminal = sys.stdout.isatty()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the bar where training begins."""
        self.train_progress_bar = Tqdm(
            desc="Training",
            total=trainer.max_steps if trainer.max_steps > 0 else None,
            initial=trainer.global_step,
            position=2 * self.process_position,
            disable=self.is_disabled,
            leave=True,
            dynamic_ncols=True,
            file=sys.stdout,
            smoothing=0,
            miniters=self.refresh_rate,
            mininterval=TERMINAL_SECONDS if self._terminal else LOG_SECONDS,
            bar_format=self.BAR_FORMAT,
        )

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        """Keep the bar as it is."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Count the batch's optimizer step, if there was one."""
        bar = self.train_progress_bar
        if not bar.disable and trainer.global_step > bar.n:
            bar.set_postfix({"epoch": trainer.current_epoch, **self.get_metrics(trainer, pl_module)}, refresh=False)
            bar.update(trainer.global_step - bar.n)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the bar as it is."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar of the validation."""
        self.val_progress_bar.close()
        self.reset_dataloader_idx_tracker()

    def init_sanity_tqdm(self) -> Tqdm:
        """Return the bar of the validation batches before training."""
        return super().init_sanity_tqdm() if self._terminal else Tqdm(disable=True)

    def init_validation_tqdm(self) -> Tqdm:
        """Return the bar of a validation."""
        fitting = self.trainer.state.fn == TrainerFn.FITTING
        return super().init_validation_tqdm() if self._terminal or not fitting else Tqdm(disable=True)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return the numbers behind the bar: Lightning's, and the loss."""
        shown = super().get_metrics(trainer, pl_module)
        if LOSS in shown:
            return shown
        if trainer.global_step % max(trainer.log_every_n_steps, 1) == 0:  # type: ignore[attr-defined]
            loss = trainer.callback_metrics.get(LOSS)
            self._loss = None if loss is None else float(loss)
        return shown if self._loss is None else {**shown, LOSS: self._loss}
