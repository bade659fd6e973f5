"""`slap evaluate` during training: a callback that evaluates the model as it is, by the same tasks.

In Python `base.trainer(callbacks=[Evaluate(["retrieval/mine"], manifest=["mine=val.csv"])])`; on the command line
`--trainer.callbacks+=slap.evaluation.callback.Evaluate --trainer.callbacks.tasks '[retrieval/mine]'
--trainer.callbacks.manifest '[mine=val.csv]' --trainer.monitor eval/retrieval/mine/t2a_R@10`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn

from slap.core.distributed import world_size
from slap.core.errors import UserError
from slap.core.progress import silent
from slap.core.registry import plugins
from slap.datamodules.datamodule import AudioTextData
from slap.evaluation.evaluated_model import EvaluatedModel
from slap.evaluation.locate import Locator, sources_from_words
from slap.evaluation.monitor import refuse_published, refuse_tested
from slap.evaluation.plan import EvalRow, checked_options, make_task, options_from_words, rows_of
from slap.evaluation.prompts import PromptBook
from slap.evaluation.record import model_record
from slap.evaluation.runner import EvaluationRun, Located, quiet
from slap.evaluation.tasks.base import UnavailableError
from slap.inference.model import Model
from slap.inference.network_backend import NetworkBackend
from slap.training.live import evaluating, used_as
from slap.training.module import SLAP

T = TypeVar("T")

FOLDER = "evaluations"
"""Folder, in that of the run, of the records of each evaluation."""

PATIENCE = timedelta(days=1)
"""Longest time that the other processes wait for the first one's evaluation."""


class Evaluate(Callback):
    """Evaluates the model after validations, and logs each metric as `eval/<task>/<data set>/<metric>`.

    These metrics can be the trainer's `monitor`, but for those of a published benchmark or of clips that the run is
    tested on, which may select nothing. The words are those of `slap evaluate`, and the record that it would
    write for a checkpoint of that step stands in the folder `evaluations` of the run, a file per step. Training goes on
    as if nothing had happened: modes and random numbers are restored.

    The first validation is evaluated, then every `every_n_validations`-th, and that at the last step. With several
    processes the first evaluates and the others wait for its metrics, so any number of processes will do, but none
    makes it faster; where a strategy splits one copy of the model over processes, evaluate checkpoints by
    `slap evaluate` instead.

    Args:
        tasks: rows to run, as `--tasks`.
        data: folders of corpora, or NAME=FOLDER, as `--data`.
        manifest: NAME=PATH, as `--manifest`.
        options: options of tasks, TASK.OPTION=VALUE, as `--set`.
        every_n_validations: validations from one evaluation to the next.
        prompt_set: prompt set of zero-shot tasks, as `--prompt-set`.
        prompts: files with prompt sets, as `--prompts`.
        batch_seconds: seconds of audio per batch.
        workers: processes that read headers of corpora that `slap prepare` did not prepare.
        plots: whether to draw plots too.

    Raises:
        ValueError: no task, or an unknown one; `every_n_validations` is not positive.
    """

    def __init__(
        self,
        tasks: list[str],
        data: list[str] | None = None,
        manifest: list[str] | None = None,
        options: list[str] | None = None,
        every_n_validations: int = 1,
        prompt_set: str = "default",
        prompts: list[str] | None = None,
        batch_seconds: float = 120.0,
        workers: int = 0,
        plots: bool = False,
    ) -> None:
        if not tasks:
            raise UserError("Evaluate needs tasks, e.g. ['retrieval/clotho']; `slap evaluate --list` shows them")
        if every_n_validations < 1:
            raise UserError(f"every_n_validations must be at least 1, got {every_n_validations}")
        self.data, self.manifest, self.workers = data or [], manifest or [], workers
        self.every_n_validations, self.batch_seconds, self.plots = every_n_validations, batch_seconds, plots
        known = plugins("task")
        self._sources = sources_from_words(self.data, self.manifest)
        self.rows = rows_of(tasks, known, list(self._sources.manifests))
        self.options = checked_options(options_from_words(options or []), known)
        self.prompts = PromptBook.built_in(prompt_set, [Path(path) for path in prompts or []])
        self._validations = 0
        self._located: dict[EvalRow, Located] = {}
        self._group: Any = None

    def logs(self) -> list[str]:
        """Return the beginnings of the names of its metrics, see `slap.training.checkpoint.run_folder`."""
        return [f"eval/{row.task}/{row.dataset}/" for row in self.rows]

    @property
    def state_key(self) -> str:
        """Key that distinguishes several such callbacks in a checkpoint."""
        return self._generate_state_key(rows=[str(row) for row in self.rows], manifest=self.manifest)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of validations so far."""
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._validations = state_dict["validations"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the data of all rows, so that what is missing is known before training.

        Raises:
            ValueError: there is no data for a row that was named, or for any; the model is sharded; or clips that the
                run is tested on would select a checkpoint.
        """
        del pl_module
        if isinstance(trainer.strategy, DeepSpeedStrategy | FSDPStrategy | ModelParallelStrategy):
            raise UserError(
                "Evaluate needs a whole copy of the model on each process, which "
                f"{type(trainer.strategy).__name__} does not keep; evaluate checkpoints by `slap evaluate` instead"
            )
        if world_size() > 1 and self._group is None:
            self._group = dist.new_group(backend="gloo", timeout=PATIENCE)
        data = trainer.datamodule  # type: ignore[attr-defined]
        train = [Path(path) for path in data.manifests["train"]] if isinstance(data, AudioTextData) else []
        self._first_only(lambda: self._find_data(Path(trainer.default_root_dir), train))
        monitors = [str(monitor) for part in trainer.callbacks if (monitor := getattr(part, "monitor", None))]  # type: ignore[attr-defined]
        self._first_only(lambda: self._check(monitors, data))

    def _check(self, monitors: Sequence[str], data: Any) -> None:
        """Refuse to select by what is reported."""
        own = {f"{row.task}/{located.clips.name}": located for row, located in self._located.items()}
        for monitor in monitors:
            located = own.get(monitor.removeprefix("eval/").rpartition("/")[0])
            if located is None or not monitor.startswith("eval/"):
                continue
            refuse_published(monitor, located.clips.name)
            if isinstance(data, AudioTextData):
                refuse_tested(monitor, located.clips.part("test").clips, data)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate, if it is time, and log the metrics on all processes.

        Raises:
            ValueError: a row failed.
        """
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._validations += 1
        last = trainer.max_steps > 0 and trainer.global_step >= trainer.max_steps
        if (self._validations - 1) % self.every_n_validations and not last:
            return
        assert isinstance(pl_module, SLAP)
        out = Path(trainer.default_root_dir) / FOLDER / f"step{trainer.global_step}.json"
        values = self._first_only(lambda: self._evaluate(pl_module, out))
        # All processes have the same values; saying so spares a warning for each.
        pl_module.log_dict({f"eval/{name}": value for name, value in values.items()}, sync_dist=True)

    def _find_data(self, out: Path, train: Sequence[Path]) -> None:
        locator = Locator(self._sources, plugins("task"), out / FOLDER, train, workers=self.workers)
        reasons = []
        for row in self.rows:
            try:
                self._located |= {part: locator.locate(part) for part in locator.rows(row)}
            except UnavailableError as error:
                if row.asked:
                    raise UserError(f"Evaluate: {row}: {error}") from error
                reasons.append(f"{row}: {error}")
        if not self._located:
            raise UserError(f"Evaluate has no data for any of its tasks: {'; '.join(reasons)}")

    def _evaluate(self, module: SLAP, out: Path) -> dict[str, float]:
        """Return the metrics of all rows, by `<task>/<data set>/<metric>`; the record is written to `out`."""
        # Outside of validation's inference mode: tasks that learn something need gradients of their own.
        with torch.inference_mode(False), torch.enable_grad(), as_model(module) as model:
            evaluation = EvaluationRun(
                subject=EvaluatedModel(model, self.prompts, self.batch_seconds),
                model=model_record(model, f"{out.parent.parent}, {out.stem}"),
                out=out,
                locate=self._located.__getitem__,
                task=lambda name: make_task(name, self.options),
                progress=silent,
                options=self.options,
                draw=self.plots,
                say=quiet,
            )
            record = evaluation.run(list(self._located), {})
        if record["failed"]:
            raise UserError(f"Evaluate failed: {_reasons(record['failed'])}")
        if not record["results"]:
            raise UserError(f"Evaluate ran nothing: {_reasons(record['skipped'])}")
        return {
            f"{result['task']}/{result['dataset']}/{name}": metric["value"]
            for result in record["results"]
            for name, metric in result["metrics"].items()
        }

    def _first_only(self, work: Callable[[], T]) -> T:
        """Do something on the first process, and give its result to all; where it fails, all fail.

        Raises:
            RuntimeError: it failed on the first process, which raises its own error.
        """
        if world_size() == 1:
            return work()
        answer: list[Any] = [None]
        failure: Exception | None = None
        if dist.get_rank() == 0:
            try:
                answer = [(work(), None)]
            except Exception as error:  # the others must hear of it, or they would wait in vain
                failure = error
                answer = [(None, f"{type(error).__name__}: {error}")]
        dist.broadcast_object_list(answer, src=0, group=self._group)
        if failure is not None:
            raise failure
        value, complaint = answer[0]
        if complaint is not None:
            raise RuntimeError(f"the first process failed to evaluate: {complaint}")
        result: T = value
        return result


def _reasons(rows: Sequence[dict[str, str]]) -> str:
    return "; ".join(f"{row['row']}: {row['reason']}" for row in rows)


@contextmanager
def as_model(module: SLAP) -> Iterator[Model]:
    """Lend the model that `slap.load` would give for a checkpoint of this moment, on the same weights, without a copy.

    Within, nothing is trained: modules are in evaluation mode. Afterwards their modes and all random number generators
    (Python, NumPy, torch, CUDA) are as before, so that training goes on as if nothing had happened.

    Args:
        module: one whole copy of the model, not sharded over processes.

    Raises:
        ValueError: a model whose encoders read files, see `slap.inference.rebuild.for_use`.
    """
    arguments, seconds, absent = used_as(module)
    with evaluating(module):
        yield Model(NetworkBackend(module, arguments, seconds, absent, lent=True))
