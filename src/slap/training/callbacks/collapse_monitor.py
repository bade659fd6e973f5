"""Warnings of trainings that go wrong although their numbers are finite, above all by features that collapse."""

from __future__ import annotations

import logging
from collections import Counter
from math import isfinite
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from slap.core.errors import UserError
from slap.model.contracts import Objective
from slap.training.device_scalars import AsyncScalars
from slap.training.step import StepOutput, last_step_of

PATIENCE = 10
"""Rows of the logs in which an objective complains before the complaint is reported (our choice)."""

log = logging.getLogger(__name__)


class CollapseError(UserError):
    """A training that has collapsed, and is to stop when it does."""


class CollapseMonitor(Callback):
    """A check of the objectives at each row of the logs, by their `health_check`.

    A complaint that lasts for `patience` rows is logged as a warning. When it ends, that is logged too.

    Args:
        stop: end the run with an error instead.
        patience: rows of the logs for which a complaint must last.

    Raises:
        CollapseError: an objective complained for that long, and `stop` is set.
    """

    def __init__(self, stop: bool = False, patience: int = PATIENCE) -> None:
        if patience < 1:
            raise UserError(f"patience must be at least 1, got {patience}")
        self.stop, self.patience = stop, patience
        self.rows: Counter[str] = Counter()  # by objective, the rows in a row with a complaint
        self._deferred: AsyncScalars[tuple[int, list[tuple[str, str]]]] = AsyncScalars()
        self._last: StepOutput | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the numbers of a step that is logged."""
        seen = last_step_of(pl_module)
        if seen is None or seen is self._last or not trainer._logger_connector.should_update_logs:
            return
        self._last = seen
        names = [(objective, extra) for objective, extras in seen.extras.items() for extra in extras]
        if names:
            values = torch.stack([seen.extras[objective][extra].detach().double() for objective, extra in names])
            for arrived, (step, which) in self._deferred.put(values, (trainer.global_step - 1, names)):
                self._ask(pl_module, step, dict(zip(which, arrived, strict=True)))

    def state_dict(self) -> dict[str, Any]:
        """Return the number of rows for which each objective has complained."""
        return {"rows": dict(self.rows)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from these numbers."""
        self.rows = Counter(state_dict["rows"])

    def _ask(self, module: LightningModule, step: int, logged: dict[tuple[str, str], float]) -> None:
        for name in dict.fromkeys(name for name, _ in logged):
            values = {extra: value for (owner, extra), value in logged.items() if owner == name}
            if not all(isfinite(value) for value in values.values()):
                continue  # slap.training.callbacks.loss_monitor reports these
            objective = cast("Objective", module.objectives[name])  # type: ignore[index]
            self._hear(name, step, objective.health_check(values))

    def _hear(self, name: str, step: int, complaint: str | None) -> None:
        before = self.rows[name]
        self.rows[name] = before + 1 if complaint else 0
        if not complaint and before >= self.patience:
            log.warning("%s recovered at step %d", name, step)
        if self.rows[name] != self.patience:
            return
        message = f"{name} has collapsed, as of step {step}, for {self.patience} rows of the logs: {complaint}"
        if self.stop:
            raise CollapseError(f"{message}. The trainer's `stop_on_collapse` ended the run")
        log.warning("%s", message)
