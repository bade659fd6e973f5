"""The trainer that recipes build on: logs, checkpoints, curves, and validation by steps, all in one folder.

The command line is made of a recipe's functions, which look like this:

    OBJECTIVES = {"contrastive": 1.0}

    def model(objectives: Mapping[str, ObjectiveSpec] = OBJECTIVES, lr: float = 1e-4, **options: Any) -> SLAP:
        "One sentence; then a section `Args`, which becomes the help of the options."
        return SLAP(objectives=objectives, lr=lr, **options)

    def trainer(out: str = "runs/mine", max_steps: int = 1000, **options: Any) -> Trainer:
        "Likewise."
        return training.trainer(out=out, max_steps=max_steps, **options)

Every argument has a type and a default, so that `slap fit --help` can show it; a default that is a dict is a constant
of the module. `**options` goes straight into one call of `SLAP`, `AudioTextData` or `training.trainer`, or of the same
function of another recipe: the command line reads that call, offers each option of the called function with its type
and help, and leaves out those that the call sets itself. Unknown options are refused, from Python too.

An option on which two functions must agree stands in the constant `LINKS = {"trainer.corpus": "data.corpus"}`: the
command line then has `--data.corpus` alone, and gives its value to both functions.

A function `settle(options)` may choose options that are not given by those that are, by dotted names such as
`trainer.max_steps`. The command line calls it before the three functions, for `fit` and `validate`, and the saved
config has what it chose. `slap.recipes.own_data` is an example.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelSummary

import slap.training.fsdp  # noqa: F401 - registers the strategy `fsdp2`
from slap.core.errors import UserError, suggest
from slap.core.launched import Launched
from slap.training.callbacks.collapse_monitor import CollapseMonitor
from slap.training.callbacks.first_validation import FirstValidation
from slap.training.callbacks.learning_curves import LearningCurves
from slap.training.callbacks.loss_monitor import LossMonitor
from slap.training.callbacks.model_summary import ParameterSummary
from slap.training.callbacks.pictures import Pictures
from slap.training.callbacks.progress_bar import ProgressBar
from slap.training.callbacks.test_report import ReportWriter
from slap.training.callbacks.throughput import Throughput
from slap.training.checkpoint.connector import CheckpointConnector
from slap.training.checkpoint.io import AsyncCheckpointFiles, CheckpointFiles
from slap.training.checkpoint.last import LastCheckpoint
from slap.training.checkpoint.options import ChangedOptions
from slap.training.checkpoint.resume import ChangedData, CompareAudio, ExactResume
from slap.training.checkpoint.run_folder import BestCheckpoint, RunFolder
from slap.training.epoch_loop import EpochLoop
from slap.training.half_precision import precision_plugin
from slap.training.loggers import LoggerSpec, loggers
from slap.training.processes.consensus import Consensus
from slap.training.processes.fail_fast import FailFast
from slap.training.processes.graceful_stop import GracefulStop
from slap.training.processes.restart import meet_anew


def trainer(
    out: str = "runs/slap",
    max_steps: int = 10_000,
    val_check_interval: int = 500,
    monitor: str = "val/t2a_R@10",
    mode: Literal["max", "min"] = "max",
    gradient_clip_val: float | None = 1.0,
    log_every_n_steps: int = 10,
    accumulate_grad_batches: int = 1,
    enable_checkpointing: bool = True,
    enable_progress_bar: bool = True,
    enable_model_summary: bool = True,
    fast_dev_run: int | bool = False,
    overwrite: bool = False,
    max_skipped: int = 3,
    stop_on_collapse: bool = False,
    validate_first: bool = False,
    save_every: int | None = None,
    save_minutes: float | None = 30.0,
    async_save: bool = False,
    changed_data: ChangedData = "refuse",
    changed_options: ChangedOptions = "refuse",
    compare_audio: CompareAudio = "size",
    logger: LoggerSpec = None,
    callbacks: list[Callback] | None = None,
    **options: Any,
) -> Trainer:
    """Make a Lightning Trainer that writes to the folder `out` and nowhere else.

    The folder gets `metrics.csv`, `tensorboard/`, `best.ckpt`, `last.ckpt` and the one before, `previous.ckpt`, at the
    end `curves.png`, from the command line `config.yaml`, and `skipped_steps.jsonl` and `loss_spikes.jsonl` if there
    are such steps.

    Started by torchrun or srun, it has as many devices and nodes as processes were started, unless these are given.

    SIGTERM and Ctrl-C end training at the end of a step, with `last.ckpt`. An interrupted run, also one that was
    killed, continues exactly from a checkpoint (docs/howto/resume.md).

    Args:
        out: the run's folder. A run that it holds is not touched, unless it is continued or `overwrite` is set.
        max_steps: optimizer steps; the schedules of the learning rate and of the teacher end here.
        val_check_interval: batches between validations. The last step is validated in any case.
        monitor: the metric by which `best.ckpt` is selected (our choice: recall at 10 from text to audio).
        mode: whether a higher or a lower value of `monitor` is better.
        gradient_clip_val: the largest norm of the gradient (not in the paper; our choice).
        log_every_n_steps: optimizer steps between the rows of the logs.
        accumulate_grad_batches: batches per optimizer step.
        enable_checkpointing: write `best.ckpt` and `last.ckpt`.
        enable_progress_bar: show a bar that counts optimizer steps.
        enable_model_summary: print the model's parts and their numbers of parameters before the first step.
        fast_dev_run: the number of batches of training, validation and test in a trial that finds bugs and writes
            nothing.
        overwrite: replace the run that the folder `out` holds.
        max_skipped: the number of skipped steps in a row that ends the run; a step is skipped when its loss or gradient
            is not finite.
        stop_on_collapse: end the run when features collapse, see `slap.training.callbacks.collapse_monitor`; without
            it there is a warning.
        validate_first: validate before the first step too, on all validation clips: the model as training finds it. The
            table at the end then shows the metrics before and after. Where Lightning's num_sanity_val_steps is given,
            that decides instead.
        save_every: optimizer steps between writes of `last.ckpt`, besides those after validations.
        save_minutes: minutes between writes of `last.ckpt`; None for no writes by the clock.
        async_save: write checkpoints in a thread while training goes on, from a copy in the host's memory.
        changed_data: `refuse` to continue a run with other data or another number of processes, or `restart_epoch`,
            which begins the interrupted epoch anew with the data as they are.
        changed_options: `refuse` to continue a run with other options of model, data or training (learning rate,
            augmentation, accumulation, ...), or `accept` them: they take effect from the next step on.
        compare_audio: what is compared of the training clips' audio files when a run is continued: their `size`, or
            also a `hash` of their content, for which all of them are read at each start.
        logger: loggers beside `metrics.csv`, which is always written: `tensorboard`, `wandb`, `mlflow` or `csv`, with
            arguments as in `{wandb: {project: sounds, offline: true}}`, or a list of these; `false` for none. Loggers
            that are named get recall curves, confusion matrices and example captions too, if they take pictures.
            Default: TensorBoard, with numbers alone.
        callbacks: further callbacks of Lightning.
        **options: any other option of Lightning's Trainer (precision, devices, strategy, max_time, ...). The strategy
            `fsdp2` spreads parameters over processes, see `slap.training.fsdp`.

    Raises:
        ValueError: an unknown option, or `devices` and `num_nodes` of another number of processes than were started.
    """
    _check(options)
    launched = Launched.found()
    if launched is not None:
        launched.adopt(options)
    agreement = Consensus(2)
    resume = ExactResume(agreement, changed_data, changed_options, compare_audio)
    stop = GracefulStop(agreement, resume, save_minutes)
    report, fail_fast = ReportWriter(), FailFast()
    own: list[Callback] = [fail_fast, RunFolder(out, overwrite), Throughput(), LearningCurves(out), report]
    own += [resume, stop]
    if logger:
        own.append(Pictures(report))
    own += [LossMonitor(out, max_skipped), CollapseMonitor(stop_on_collapse)]
    if validate_first and options.get("num_sanity_val_steps") in (None, -1):
        options["num_sanity_val_steps"] = -1  # all batches, which leave the random numbers of training as they are
        own.append(FirstValidation())
    if enable_progress_bar:
        own.append(ProgressBar())  # Lightning would draw another one wherever `rich` happens to be installed
    if enable_model_summary and not any(isinstance(callback, ModelSummary) for callback in callbacks or []):
        own.append(ParameterSummary())
    if enable_checkpointing and not fast_dev_run:
        last = LastCheckpoint(out, resume, stop, save_every)
        own += [BestCheckpoint(out, monitor, mode, last.save), last]
    with _without_advertisements():
        made = Trainer(
            default_root_dir=out,
            logger=loggers(out, logger),
            callbacks=[*own, *(callbacks or [])],
            max_steps=max_steps,
            val_check_interval=val_check_interval,
            check_val_every_n_epoch=None,  # by steps, also across epochs
            gradient_clip_val=gradient_clip_val,
            log_every_n_steps=log_every_n_steps,
            accumulate_grad_batches=accumulate_grad_batches,
            enable_checkpointing=enable_checkpointing,
            enable_progress_bar=enable_progress_bar,
            enable_model_summary=False,  # for Lightning's own
            fast_dev_run=fast_dev_run,
            use_distributed_sampler=False,  # the data module's sampler splits the work itself
            plugins=_with_files(options.pop("plugins", None), async_save) + _of_weights(options),
            **options,
        )
    EpochLoop.put_into(made)
    CheckpointConnector.put_into(made)
    meet_anew(made)
    fail_fast.watch_launcher(made)
    return made


@contextmanager
def _without_advertisements() -> Iterator[None]:
    """Keep Lightning from recommending its maker's services."""
    messages = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    messages.addFilter(_is_no_advertisement)
    try:
        yield
    finally:
        messages.removeFilter(_is_no_advertisement)


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()


def _with_files(plugins: Any, async_save: bool) -> list[Any]:
    """Return the user's plug-ins and, unless one of them keeps checkpoints, ours that does."""
    given = list(plugins) if isinstance(plugins, list | tuple) else [plugins] * (plugins is not None)
    if any(isinstance(plugin, CheckpointIO) for plugin in given):
        return given
    return [*given, AsyncCheckpointFiles() if async_save else CheckpointFiles()]


def _of_weights(options: dict[str, Any]) -> list[Any]:
    """Return the plug-in of a precision of the weights, which then is no option of Lightning's any more."""
    plugin = precision_plugin(options.get("precision"))
    if plugin is None:
        return []
    del options["precision"]
    return [plugin]


def _check(options: dict[str, Any]) -> None:
    ours = {"default_root_dir", "check_val_every_n_epoch", "use_distributed_sampler"}
    known = {*inspect.signature(trainer).parameters, *inspect.signature(Trainer).parameters} - {"options"}
    valid = sorted(known - ours)
    for option in options:
        if option not in valid:
            raise UserError(f"the trainer has no option {option!r}; {suggest(option, valid)}")
