"""Lightning's counters, as a checkpoint must hold them so that training continues exactly.

Lightning saves its counters as they are in the hook that saves, and guesses on loading which hook that was. With
loaders that have no length it guesses wrong at the end of an epoch, and skips a validation that was due. The state that
is saved here is always that between two batches, for which Lightning has a rule, whichever hook saves.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer

from slap.training.epoch_loop import is_final, is_scheduled

State = dict[str, Any]


@dataclass
class Boundary:
    """The end of an optimizer step.

    Attributes:
        epoch: the epoch of the next batch.
        batches: the number of batches of that epoch before this point.
        due: whether a validation follows this step.
        scheduled: whether it does so by Lightning's rules, and not only because this step is the last one.
        repeatable: whether a training that continues from before that validation makes it.
        loops: the state of Lightning's loops.
        validated: whether that validation has been made.
    """

    epoch: int
    batches: int
    due: bool
    scheduled: bool
    repeatable: bool
    loops: State
    validated: bool = False

    @classmethod
    def of(cls, trainer: Trainer) -> Boundary:
        """Return the position of a trainer, in `on_train_batch_end` of a batch after which there was a step."""
        loop = trainer.fit_loop
        progress = loop.epoch_loop.batch_progress
        fetcher = loop._data_fetcher
        assert fetcher is not None
        epoch, batches = trainer.current_epoch, progress.current.ready
        if progress.is_last_batch:
            epoch, batches = epoch + 1, 0
        counted = trainer.check_val_every_n_epoch is None and isinstance(trainer.val_check_batch, int)
        return cls(
            epoch,
            batches,
            due=loop.epoch_loop._should_check_val_fx(fetcher),
            scheduled=is_scheduled(trainer, fetcher),
            repeatable=counted and not is_final(trainer),
            loops=deepcopy(loop.state_dict()),
        )

    @property
    def complete(self) -> bool:
        """True if a training that continues from here lacks no validation."""
        return self.validated or self.repeatable or not self.due

    @property
    def validation_pending(self) -> bool:
        """True if a training that continues from here begins with the validation."""
        return self.due and self.repeatable and not self.validated

    def state(self) -> State:
        """Return the state of the fit loop for a checkpoint, between this step's last batch and the next one."""
        loops = deepcopy(self.loops)
        for name in ("epoch_loop.batch_progress", "epoch_progress"):
            for tracker in (loops[name]["total"], loops[name]["current"]):
                tracker["completed"] = tracker["processed"]
        if not self.batches:
            _into_next_epoch(loops)
        # A step is counted for the logs after its validation; where one is scheduled, loading counts it.
        loops["epoch_loop.state_dict"]["_batches_that_stepped"] += not self.scheduled
        # Lightning's sign of an interrupted validation: it is run from its beginning, before the next batch.
        begun = int(self.validation_pending)
        loops["epoch_loop.val_loop.batch_progress"] = {
            "total": {"ready": begun, "started": begun, "processed": 0, "completed": 0},
            "current": {"ready": 0, "started": 0, "processed": 0, "completed": 0},
            "is_last_batch": False,
        }
        return loops


def _into_next_epoch(loops: State) -> None:
    """Move the counters from behind the last batch of an epoch to before the first batch of the next."""
    for counts in loops["epoch_progress"].values():
        counts["processed"] = counts["completed"] = counts["started"]
        counts["ready"] = counts["started"] = counts["started"] + 1
    for name in ("batch_progress", "scheduler_progress"):
        loops[f"epoch_loop.{name}"]["current"] = dict.fromkeys(loops[f"epoch_loop.{name}"]["current"], 0)
    loops["epoch_loop.batch_progress"]["is_last_batch"] = False
    steps = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    for counts in steps.values():
        counts["current"] = dict.fromkeys(counts["current"], 0)
