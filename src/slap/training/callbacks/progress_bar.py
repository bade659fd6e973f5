"""A progress bar that shows the loss without making the host wait for a GPU at every step."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

LOSS = "train/loss"


class ProgressBar(TQDMProgressBar):
    """Lightning's bar. On a GPU it shows the loss of the last step at which a row of the logs was due.

    Lightning reads numbers that are logged with `prog_bar=True` back at every step, whether the bar is drawn or not,
    so on a GPU `SLAP` logs none that way. Where it does, on a CPU, the bar shows the loss of the last step.
    """

    def __init__(self) -> None:
        super().__init__()
        self._loss: float | None = None

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What stands behind the bar: as Lightning has it, and the loss."""
        shown = super().get_metrics(trainer, pl_module)
        if LOSS in shown:
            return shown
        if trainer.global_step % max(trainer.log_every_n_steps, 1) == 0:  # type: ignore[attr-defined]
            loss = trainer.callback_metrics.get(LOSS)
            self._loss = None if loss is None else float(loss)
        return shown if self._loss is None else {**shown, LOSS: self._loss}
