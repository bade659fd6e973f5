"""The folder of a run, which is never mixed with another run and can be continued."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from slap.core.errors import UserError, printable, suggest
from slap.core.files import remove_stale_parts
from slap.model.finite_weights import has_finite_weights
from slap.training.checkpoint.connector import asked_checkpoint
from slap.training.checkpoint.io import BEST
from slap.training.checkpoint.loop_state import Boundary
from slap.training.checkpoint.metrics_log import METRICS, AppendingCSVLogger, forget_after
from slap.training.checkpoint.resume import KEY as RESUME
from slap.training.checkpoint.run_lock import RunLock, job
from slap.training.checkpoint.run_record import FILE, OWN_FILES, RUN_FILES, RunRecord, events_in, own_files

log = logging.getLogger(__name__)

KEY = "slap_run"
"""The key in a checkpoint of the id of its run."""

PLACES = ("best_model_path", "kth_best_model_path", "last_model_path")
"""The paths in the state of Lightning's callback for checkpoints."""

OTHERWISE = "name another folder as the trainer's `out` (--trainer.out)"


class RunFolder(Callback):
    """Keeps a run and a folder together: only the run that a folder holds is written to it, by one training at a time.

    A run has an id, which its folder (`run.json`) and its checkpoints hold. A run that begins, or that continues in a
    new folder, gets a new id. No file is removed or replaced that the run of the folder has not written.

    Args:
        out: the run's folder.
        overwrite: remove the run that the folder holds, if training is not the continuation of that run.

    Attributes:
        begin_anew: the same, but only for a run without a checkpoint.

    Raises:
        FileExistsError: training begins in a folder that holds a run.
        UserError: it continues a run in the folder of another one, the folder holds files that no run has recorded, or
            another training is writing to it.
    """

    def __init__(self, out: str, overwrite: bool = False) -> None:
        self.out = Path(out)
        self.overwrite, self.begin_anew = overwrite, False
        self._lock = RunLock(self.out)
        self._old_events = events_in(self.out)  # now: the logger opens a new file early
        self._before: RunRecord | None = None  # in the folder, before this training
        self._files: list[str] = []
        self._record: RunRecord | None = None  # of this training
        self._validated = True  # whether the checkpoint has seen the validation after its last step

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lock the folder, and look at what it holds before anything is written to it."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._on_first_process(trainer, lambda: self._look(trainer, stage))
        self._before, self._files = trainer.strategy.broadcast((self._before, self._files))
        if stage != "fit":
            if self._before is None and not self._files:
                self._begin(trainer, RunRecord.new())
            elif self._before is None and not any(self.out.glob("*.ckpt")):
                raise self._withdrawn(self._not_recorded("an evaluation"))
        elif asked_checkpoint(trainer) is None:
            self._refuse_to_begin(trainer)
            self._begin(trainer, RunRecord.new())

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another run than the folder's, before anything of that run is lost."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        boundary = checkpoint.get(RESUME, {}).get("boundary")
        self._validated = boundary is None or not Boundary(**boundary).validation_pending
        path, run = str(trainer.ckpt_path), str(checkpoint.get(KEY, ""))
        known = self._before
        mine = known is not None and run != "" and run == known.run
        anew = known is not None and run != "" and run == known.parent and not any(self.out.glob("*.ckpt"))
        if known is not None and (mine or anew):
            self._record = known
        elif known is None and not self._files:
            self._begin(trainer, RunRecord.new(run, path))
        elif known is None or not self.overwrite or Path(path).resolve().is_relative_to(self.out.resolve()):
            raise self._withdrawn(self._of_another_run(path, known))
        else:
            self._begin(trainer, RunRecord.new(run, path))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the run that is replaced, or the rows of the log that a continued run writes again."""
        if not trainer.is_global_zero or self._record is None:
            return
        if self._before is not None and self._record.run != self._before.run:
            self._before.remove_files(self.out)
        elif trainer.global_step > 0:
            forget_after(self.out / METRICS, trainer.global_step, self._validated)
        self._write()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the id of the run."""
        if self._record is not None:
            checkpoint[KEY] = self._record.run

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Unlock the folder."""
        self._lock.release()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Unlock the folder."""
        self._lock.release()

    def _look(self, trainer: Trainer, stage: str) -> None:
        """Lock the folder for training, and read what it holds; parts of files that killed processes left go."""
        if stage == "fit":
            self._lock.acquire()
        else:
            self._spare_log(trainer)
        self._before, self._files = RunRecord.of(self.out), own_files(self.out)
        if stage == "fit" and self._before is not None:
            for name in (*OWN_FILES, FILE, self._lock.path.name):
                remove_stale_parts(self.out / name, everywhere=True)  # since this training holds the lock

    def _on_first_process(self, trainer: Trainer, act: Callable[[], None]) -> None:
        """Do something on the first process; an error of it is raised on all, so that all stop."""
        error: Exception | None = None
        if trainer.is_global_zero:
            try:
                act()
            except (UserError, OSError) as found:
                error = found
        error = trainer.strategy.broadcast(error)
        if error is not None:
            raise self._withdrawn(error)

    def _refuse_to_begin(self, trainer: Trainer) -> None:
        results = [name for name in self._files if name in RUN_FILES or name.endswith(".ckpt")]
        if self._before is not None and self._before.run == getattr(self._record, "run", ""):
            return  # the same trainer trains on
        if self._before is None and self._files:
            raise self._withdrawn(self._not_recorded("a run"))
        begun = self.begin_anew and not any(name.endswith(".ckpt") for name in results)
        if results and not self.overwrite and not begun:
            raise self._withdrawn(
                FileExistsError(
                    f"{self.out} holds a run already ({', '.join(results)}); {OTHERWISE}, "
                    "continue that run with `--ckpt_path last`, or replace it with the trainer's `overwrite`"
                )
            )

    def _begin(self, trainer: Trainer, record: RunRecord) -> None:
        """Take the record of a new run; it is written at once unless the folder still has another run."""
        self._record = trainer.strategy.broadcast(record)
        if trainer.is_global_zero and self._before is None:
            self._write()

    def _write(self) -> None:
        assert self._record is not None
        own = job()
        self._record.write(self.out, own[0] if own else "", sorted(events_in(self.out) - self._old_events))

    def _not_recorded(self, what: str) -> Exception:
        return FileExistsError(
            f"{self.out} holds {', '.join(self._files)}, which no run has recorded ({FILE}), and {what} would write "
            f"under these names; {OTHERWISE}, or move them"
        )

    def _of_another_run(self, path: str, known: RunRecord | None) -> Exception:
        if known is None:
            return self._not_recorded(f"the run of {path}")
        return UserError(
            f"{path} is a checkpoint of another run than the one that {self.out} holds, which would be lost. To "
            f"continue the run of the checkpoint in its own folder, give --trainer.out {Path(path).parent}; to let it "
            f"branch off, name a new folder as --trainer.out; to continue the run in {self.out}, give --ckpt_path last"
        )

    def _withdrawn(self, error: Exception) -> Exception:
        """Remove the files of TensorBoard that this process has opened, and return the error."""
        for name in events_in(self.out) - self._old_events:
            (self.out / name).unlink(missing_ok=True)
        return error

    def _spare_log(self, trainer: Trainer) -> None:
        """Leave `metrics.csv` to a training that may write to it; an evaluation has its own report."""
        holder = self._lock.holder()
        if holder is not None and holder.state() != "ended":
            log.warning(
                "%s is left to the training of process %d on %s", self.out / METRICS, holder.pid, printable(holder.host)
            )
            for logger in trainer.loggers:
                if isinstance(logger, AppendingCSVLogger):
                    logger.paused = True


class BestCheckpoint(ModelCheckpoint):
    """Saves `best.ckpt` after each validation that beats those before it.

    A metric that is not finite beats nothing, and a model whose weights are not finite is never the best.

    Args:
        out: the run's folder.
        monitor: the metric that decides.
        mode: whether `max` or `min` of it is best.
        save_last: saves the training as it is. It runs before an error of this callback ends the run, so that no step
            is lost by it.
    """

    def __init__(self, out: str, monitor: str, mode: str, save_last: Callable[[Trainer], None]) -> None:
        self._save_last = save_last
        self._same_run = False
        super().__init__(
            Path(out).absolute(),
            "best",
            monitor,
            mode=mode,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set up as the parent does, but allow a folder with files: `RunFolder` keeps other runs out."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
            super().setup(trainer, pl_module, stage)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note whether the checkpoint is of the folder's run, whose best one lies in the folder then."""
        record = RunRecord.of(Path(str(self.dirpath)))
        self._same_run = record is not None and record.run == checkpoint.get(KEY)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the best so far, also in a folder that was moved; a run in a new folder has none yet."""
        if self._same_run:
            here = Path(str(self.dirpath))
            places = {name: str(here / Path(state_dict[name]).name) for name in PLACES if state_dict.get(name)}
            best = {str(here / Path(path).name): score for path, score in state_dict["best_k_models"].items()}
            super().load_state_dict({**state_dict, **places, "best_k_models": best, "dirpath": self.dirpath})

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Return whether this validation is the best so far."""
        if current is None or not trainer.strategy.reduce_boolean_decision(bool(torch.as_tensor(current).isfinite())):
            if current is not None:
                log.warning("step %d is not the best: %s is %s", trainer.global_step, self.monitor, float(current))
            return False
        if not super().check_monitor_top_k(trainer, current):
            return False
        sound = trainer.strategy.reduce_boolean_decision(has_finite_weights(trainer.lightning_module))
        if not sound:
            log.warning("step %d is not the best: weights of the model are not finite", trainer.global_step)
        return sound

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for the metric among those of the trial validation that comes before the first step.

        Raises:
            ValueError: no validation of this run logs it.
        """
        logged = sorted(trainer.callback_metrics)
        if self.monitor is None or self.monitor in logged or not logged or self._comes_later(trainer, pl_module):
            return
        raise UserError(
            f"monitor is {self.monitor!r}, which no validation of this run logs, so there would be no {BEST}; "
            f"{suggest(self.monitor, logged)}. If a callback of yours logs it later, set num_sanity_val_steps=0 "
            "(--trainer.num_sanity_val_steps 0), which skips this check"
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save as the parent does; if that fails, save the training before the error ends it."""
        try:
            super().on_validation_end(trainer, pl_module)
        except Exception:
            self._save_last(trainer)
            raise

    def _comes_later(self, trainer: Trainer, module: LightningModule) -> bool:
        """Return whether the metric may be of clips that the first batches lack, of training, or of a callback."""
        assert self.monitor is not None
        starts = ["train/"]
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            starts += callback.logs() if isinstance(callback, LogsLater) else []
        tasks = getattr(trainer.datamodule, "prompts", {})  # type: ignore[attr-defined]
        starts += [f"val/zeroshot_{task}" for task in tasks]
        if self.monitor.startswith("val/choice_"):
            starts += [f"val/choice_{task}" for task in getattr(trainer.datamodule, "choice_tasks", ())]  # type: ignore[attr-defined]
        if isinstance(module, HasSources):
            starts += [f"val/{source}/" for source in module.sources("val")]
        return self.monitor.startswith(tuple(starts))


@runtime_checkable
class LogsLater(Protocol):
    """A callback that logs metrics after validations, but not after the trial validation before training."""

    def logs(self) -> list[str]:
        """Return the beginnings of the metrics' names."""


@runtime_checkable
class HasSources(Protocol):
    """A module whose clips come from sources with names, for each of which there are metrics."""

    def sources(self, split: str) -> tuple[str, ...]:
        """Return the names of the sources of a split."""
