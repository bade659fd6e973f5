"""The validation metrics of a model before its first step, as training finds it."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

BEFORE = -1
"""Step of these metrics in the logs, whose steps count from 0."""


class FirstValidation(Callback):
    """Logs the metrics of Lightning's validation before training, which is to be a whole one.

    A run that is continued has them in its log already, and Lightning validates nothing before it.
    """

    def __init__(self) -> None:
        self._metrics: dict[str, float] = {}

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the metrics."""
        self._metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log them, now that the run's folder holds no other run any more."""
        if self._metrics:
            for logger in trainer.loggers:
                logger.log_metrics(self._metrics, step=BEFORE)
                logger.save()
        self._metrics = {}
