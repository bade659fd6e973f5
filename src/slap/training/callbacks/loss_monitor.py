"""Monitoring of losses: counts skipped steps, ends the run after too many, and lists the clips of spikes.

B clips of this process.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from slap.core.errors import UserError
from slap.core.files import append_line
from slap.training.device_scalars import AsyncScalars
from slap.training.step import StepOutput, last_step_of

SKIPPED = "skipped_steps.jsonl"
"""The file in a run's folder that lists the clips of skipped steps, whose loss or gradient was not finite."""

SPIKES = "loss_spikes.jsonl"
"""The file in a run's folder that lists the clips of steps whose loss was much above those before."""

WATCH_FILES = (SKIPPED, SPIKES)

WINDOW = 100
"""Steps before a step, with whose losses its loss is compared."""

FIRST = 20
"""Steps that there must be before a loss is compared."""

SIGMA = 1.4826
"""The standard deviation of a normal distribution whose median absolute deviation is 1."""

log = logging.getLogger(__name__)


class NotFiniteError(UserError):
    """A training that cannot go on: step after step, a loss or a gradient was not finite."""


class LossMonitor(Callback):
    """Counts skipped steps, as `train/skipped`, and lists the clips of skipped steps and of spikes of the loss.

    Every process appends a line with its own clips to the files in the run's folder. All processes see the same losses,
    so they stop at the same step. On a GPU the numbers of a step are looked at one step later. A gradient scaler
    (precision `16-mixed`) finds its scale by infinite gradients, so only losses count with one.

    Args:
        out: the run's folder.
        limit: the number of skipped steps in a row that ends the run.
        spike: the distance from the median of the last steps at which a loss is a spike, in standard deviations, which
            are estimated from the median absolute deviation; at least a fifth of the median (our choice).

    Raises:
        NotFiniteError: `limit` steps in a row were skipped.
    """

    def __init__(self, out: str | Path, limit: int = 3, spike: float = 8.0) -> None:
        if limit < 1 or spike <= 0:
            raise UserError(f"limit must be at least 1 and spike above 0, got limit={limit}, spike={spike}")
        self.out = Path(out)
        self.limit, self.spike = limit, spike
        self.skipped = self.in_a_row = 0
        self.recent: deque[float] = deque(maxlen=WINDOW)
        self._deferred: AsyncScalars[tuple[int, StepOutput]] = AsyncScalars()
        self._last: StepOutput | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the optimizer step, if there was one."""
        seen = last_step_of(pl_module)
        if seen is None or seen.nonfinite is None or seen is self._last:
            return
        self._last = seen
        skipped = seen.nonfinite & ~seen.loss.isfinite() if _scales(trainer) else seen.nonfinite
        values = torch.stack([skipped.double(), seen.loss.double()])
        for (bad, loss), (step, what) in self._deferred.put(values, (trainer.global_step - 1, seen)):
            self._look(trainer, step, bool(bad), loss, what)
        pl_module.log("train/skipped", float(self.skipped), batch_size=1)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the last step."""
        for (bad, loss), (step, what) in self._deferred.flush():
            self._look(trainer, step, bool(bad), loss, what)

    def state_dict(self) -> dict[str, Any]:
        """Return the state from which a continued run counts and compares as if it had not been interrupted."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row, "recent": list(self.recent)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from this state."""
        self.skipped, self.in_a_row = state_dict["skipped"], state_dict["in_a_row"]
        self.recent = deque(state_dict["recent"], maxlen=WINDOW)

    def _look(self, trainer: Trainer, step: int, bad: bool, loss: float, seen: StepOutput) -> None:
        if bad:
            self.skipped += 1
            self.in_a_row += 1
            self._write(trainer, SKIPPED, {"step": step, **_entry(trainer.global_rank, loss, seen)})
            if trainer.is_global_zero:
                log.warning("step %d left out: loss or gradient not finite (loss %g); see %s", step, loss, SKIPPED)
            if self.in_a_row >= self.limit:
                raise NotFiniteError(self._complaint(step, seen))
            return
        self.in_a_row = 0
        typical = spiked(loss, self.recent, self.spike)
        if typical is not None:
            self._write(trainer, SPIKES, {"step": step, "typical": typical, **_entry(trainer.global_rank, loss, seen)})
        self.recent.append(loss)

    def _write(self, trainer: Trainer, name: str, entry: dict[str, Any]) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            append_line(self.out / name, json.dumps(entry))

    def _complaint(self, step: int, seen: StepOutput) -> str:
        losses = ", ".join(f"{name} {value.item():g}" for name, value in seen.losses.items())
        return (
            f"training stopped at step {step}: {self.in_a_row} steps in a row had a loss or a gradient that is not "
            f"finite, and were left out (losses of the last: {losses}). The clips are listed in {self.out / SKIPPED}. "
            "If they are sound, lower the learning rate, or raise the precision; `max_skipped` of the trainer says "
            "how many steps in a row may be left out."
        )


def _scales(trainer: Trainer) -> bool:
    return getattr(trainer.precision_plugin, "scaler", None) is not None


def spiked(loss: float, recent: Sequence[float], spike: float) -> float | None:
    """Return the loss that was to be expected if this one is far above it, otherwise None.

    Example:
        >>> calm = [1.0, 1.1, 0.9, 1.05, 0.95] * 4
        >>> spiked(1.3, calm, spike=8.0), spiked(5.0, calm, spike=8.0)
        (None, 1.0)
    """
    if len(recent) < FIRST:
        return None
    middle = median(recent)
    deviation = SIGMA * median(abs(value - middle) for value in recent)
    return middle if loss - middle > max(spike * deviation, abs(middle) / 5) else None


def _entry(rank: int, loss: float, seen: StepOutput) -> dict[str, Any]:
    """Return a line for a file: the losses, and this process's clips, those with the highest losses first."""
    losses = {name: _number(value.item()) for name, value in seen.losses.items()}
    by_clip = {name: values.tolist() for name, values in seen.by_clip.items()}
    clips = [
        {"id": clip, **{name: _number(values[i]) for name, values in by_clip.items()}}
        for i, clip in enumerate(seen.ids)
    ]
    clips.sort(key=lambda clip: [_rank(clip.get(name)) for name in by_clip], reverse=True)
    return {"rank": rank, "loss": _number(loss), "losses": losses, "clips": clips}


def _rank(value: Any) -> float:
    return value if isinstance(value, float) else float("inf")


def _number(value: float) -> float | str:
    """Return a number as JSON can hold it, which has no NaN and no infinity."""
    return value if isfinite(value) else str(value)
