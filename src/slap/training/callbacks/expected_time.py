"""A line that says how long a training will take, printed as soon as some steps were timed."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

WARM, TIMED = 5, 25
"""Steps that are not timed, since caches and loading processes begin with them, and the step after which it is said."""


class ExpectedTime(Callback):
    """Prints the expected time of a training, its validations included, after the first steps.

    A validation is taken to last as long as the one before training, if that was a whole one.

    Args:
        validations: number of validations to come.
    """

    def __init__(self, validations: int) -> None:
        self.validations = validations
        self._since = self._validating = self._validation = 0.0
        self._first = 0

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the validation."""
        self._validating = perf_counter()

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop it."""
        self._validation = perf_counter() - self._validating

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the first step."""
        self._first, self._since = trainer.global_step, 0.0

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Time the steps, and print."""
        done = trainer.global_step - self._first
        if done == WARM and not self._since:
            self._since = perf_counter()
        elif done == TIMED and self._since:
            each = (perf_counter() - self._since) / (TIMED - WARM)
            self._since = 0.0
            if trainer.is_global_zero:
                seconds = each * (trainer.max_steps - trainer.global_step) + self.validations * self._validation
                print(f"slap: {_each(each)}; this training takes about {_words(seconds)}", flush=True)


def _each(seconds: float) -> str:
    return f"a step takes {seconds:.1f} s" if seconds >= 1 else f"a step takes {1000 * seconds:.0f} ms"


def _words(seconds: float) -> str:
    """Write a time in words.

    Example:
        >>> _words(50), _words(1500), _words(20_000)
        ('1 minute', '25 minutes', '5.6 hours')
    """
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:.1f} hours"
    minutes = max(round(seconds / 60), 1)
    return f"{minutes} minute{'s' * (minutes > 1)}"
