"""Exact resuming: an interrupted training continues with the same clips, losses and weights as if it had not been.

A checkpoint holds for that, besides what Lightning saves (weights, teacher, optimizer, schedules, best scores):

- the position in the data, as the data module gives it: (epoch, batches), committed when an optimizer step is complete.
  Batches that workers have loaded ahead do not count;
- the random numbers of every process, and the sums of each since the last row of the logs;
- Lightning's counters as they are between two batches (`slap.training.checkpoint.loop_state`);
- the options of the run, which its continuation is compared with (`slap.training.checkpoint.options`).

docs/howto/resume.md says what is promised.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from slap.core.errors import UserError
from slap.training.checkpoint.loop_state import Boundary
from slap.training.checkpoint.options import KEY as OPTIONS
from slap.training.checkpoint.options import ChangedOptions, compare, options_of, renew
from slap.training.checkpoint.rank_state import RandomNumbers, RankState, gather
from slap.training.epoch_loop import is_scheduled
from slap.training.processes.consensus import Consensus

KEY = "slap_resume"
"""The key in a checkpoint of what is saved here."""

VERSION = 3
"""Of the state. Version 3: with the id of the run and its options."""

ChangedData = Literal["refuse", "restart_epoch"]
CompareAudio = Literal["size", "hash"]

log = logging.getLogger(__name__)


@runtime_checkable
class Positioned(Protocol):
    """A data module that can continue in the middle of an epoch; its `state_dict` says where."""

    restart_changed: bool
    hash_audio: bool

    @property
    def place(self) -> tuple[int, int]:
        """The epoch, and the number of its batches that training has seen."""

    def commit(self, epoch: int, batches: int) -> None:
        """Record that training has come so far."""


class ExactResume(Callback):
    """Commits the position in training at each optimizer step; saves and restores what its continuation depends on.

    Args:
        agreement: the consensus of the processes, whose group is used.
        changed_data: `refuse` to continue a run with other data, or `restart_epoch`, which begins the interrupted epoch
            anew.
        changed_options: `refuse` to continue a run with other options, or `accept` them.
        compare_audio: what is compared of audio files: the `size` of them, or also a `hash` of their content.

    Attributes:
        boundary: the end of the last optimizer step; None before the first.
    """

    def __init__(
        self,
        agreement: Consensus,
        changed_data: ChangedData = "refuse",
        changed_options: ChangedOptions = "refuse",
        compare_audio: CompareAudio = "size",
    ) -> None:
        for name, given, valid in (
            ("changed_data", changed_data, get_args(ChangedData)),
            ("changed_options", changed_options, get_args(ChangedOptions)),
            ("compare_audio", compare_audio, get_args(CompareAudio)),
        ):
            if given not in valid:
                raise UserError(f"{name} is {' or '.join(map(repr, valid))}, got {given!r}")
        self.agreement, self.changed_data, self.changed_options = agreement, changed_data, changed_options
        self.compare_audio = compare_audio
        self._renew = False  # whether changed options go into the state of the optimizer
        self.boundary: Boundary | None = None
        self._loaded: dict[str, Any] | None = None
        self._at_boundary: dict[str, Any] | None = None  # the states of this process
        self._step = self._batches = 0
        self._owed = False  # whether the epoch before still lacks a validation

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Pass `changed_data` on to the data module."""
        self.boundary, self._loaded, self._at_boundary, self._owed = None, None, None, False
        data = trainer.datamodule  # type: ignore[attr-defined]
        if stage == "fit" and isinstance(data, Positioned):
            data.restart_changed = self.changed_data == "restart_epoch"
            data.hash_audio = self.compare_audio == "hash"

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the states until training starts, since random numbers may be drawn before."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        self._loaded = checkpoint.get(KEY)
        if self._loaded is None:
            self._begin_epoch(trainer, checkpoint)
        elif self._loaded["version"] != VERSION:
            raise UserError(
                f"the checkpoint cannot be continued: another version of slap-audio wrote it, the state of its run has "
                f"version {self._loaded['version']}, and this one reads version {VERSION}. Continue with the version "
                "that wrote it, or begin a new run from its weights with a recipe that has the option --model.start"
            )
        self._renew = compare(checkpoint.get(OPTIONS, {}), options_of(trainer, pl_module), self.changed_options)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the states."""
        self._step, self._batches = trainer.global_step, 0
        if self._renew:
            renew(trainer, pl_module)
            self._renew = False
        if self._loaded is not None:
            self.boundary = Boundary(**self._loaded["boundary"])
            self._owed = self.boundary.validation_pending and self.boundary.batches == 0
            # Loading counts a step whose validation is scheduled now; the checkpoint counted one whose was not.
            now = is_scheduled(trainer, trainer.fit_loop._data_fetcher)
            trainer.fit_loop.epoch_loop._batches_that_stepped += self.boundary.scheduled - now
            states = self._loaded["ranks"]
            mine = states[trainer.global_rank] if trainer.global_rank < len(states) else {}
            for name, owner in _owners(trainer, pl_module):
                # With another number of processes, sums belong to none of them; random numbers continue where known.
                if name in mine and (len(states) == trainer.world_size or isinstance(owner, RandomNumbers)):
                    owner.load_rank_state(mine[name])
            self._loaded = None
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, Positioned) and data.place[1] == 0:
            _count_from_zero(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keep the states at the beginning of an accumulation, within which random numbers are drawn."""
        if trainer.accumulate_grad_batches > 1 and self._at_boundary is None:
            self._at_boundary = _states(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Commit after the batch that completes an optimizer step."""
        self._batches += 1
        if trainer.global_step == self._step:
            return
        self._step, self._batches = trainer.global_step, 0
        self.boundary, self._at_boundary = Boundary.of(trainer), None
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, Positioned):
            data.commit(self.boundary.epoch, self.boundary.batches)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log a validation that the interrupted run lacked under its own epoch, the one before."""
        if self._owed:
            trainer.fit_loop.epoch_progress.current.completed -= 1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record that the validation after the last step has been made."""
        if self._owed:
            trainer.fit_loop.epoch_progress.current.completed += 1
            self._owed = False
        if self.boundary is not None and trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self.boundary.validated = True

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save everything as it was at the last boundary, since which the weights have not changed."""
        checkpoint[OPTIONS] = options_of(trainer, pl_module)
        if self.boundary is None:
            return
        mine = self._at_boundary or _states(trainer, pl_module)
        checkpoint["loops"]["fit_loop"] = self.boundary.state()
        ranks = gather(mine, self.agreement.group)
        checkpoint[KEY] = {"version": VERSION, "boundary": vars(self.boundary), "ranks": ranks}

    @property
    def within_accumulation(self) -> bool:
        """True if batches have been accumulated since the last optimizer step."""
        return self._batches > 0

    def _begin_epoch(self, trainer: Trainer, checkpoint: dict[str, Any]) -> None:
        """Continue from a checkpoint that does not say where in its epoch it was."""
        epoch = int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
        log.warning("the checkpoint does not say where in its epoch it was: epoch %d begins anew", epoch)
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, Positioned):
            data.commit(epoch, 0)


def _count_from_zero(trainer: Trainer) -> None:
    """Set the counters of an epoch that begins anew, whatever its checkpoint counted."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    progress.current.reset()
    progress.is_last_batch = False


def _owners(trainer: Trainer, module: LightningModule) -> Iterator[tuple[str, RankState]]:
    """Yield the objects that have a state of their own on each process, by name."""
    yield "random", RandomNumbers(module.device)
    parts = {**{type(callback).__name__: callback for callback in trainer.callbacks}, **vars(module)}  # type: ignore[attr-defined]
    yield from ((name, part) for name, part in parts.items() if isinstance(part, RankState))


def _states(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    return {name: owner.rank_state() for name, owner in _owners(trainer, module)}
