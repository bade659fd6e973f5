"""Lightning's loop over batches, which also validates the last step of a training."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop


class EpochLoop(_TrainingEpochLoop):
    """A loop that validates when Lightning's does, and after the last step, once."""

    @classmethod
    def put_into(cls, trainer: Trainer) -> None:
        """Replace a trainer's loop before training."""
        own = trainer.fit_loop.epoch_loop
        trainer.fit_loop.epoch_loop = cls(trainer, own.min_steps, own.max_steps)

    def _should_check_val_fx(self, data_fetcher: Any) -> bool:
        return is_scheduled(self.trainer, data_fetcher) or (self._should_check_val_epoch() and is_final(self.trainer))


def is_scheduled(trainer: Trainer, data_fetcher: Any) -> bool:
    """Return whether a validation follows the present batch by Lightning's rules alone."""
    return _TrainingEpochLoop._should_check_val_fx(trainer.fit_loop.epoch_loop, data_fetcher)


def is_final(trainer: Trainer) -> bool:
    """Return whether training ends with the present batch, by the number of steps or of epochs."""
    last_epoch = trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch + 1
    ends_by_epochs = last_epoch and trainer.fit_loop.epoch_loop._num_ready_batches_reached()
    return 0 <= trainer.max_steps <= trainer.global_step or ends_by_epochs
