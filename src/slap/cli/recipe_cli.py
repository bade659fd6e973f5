"""`slap fit`, `validate`, `test` and `predict`: LightningCLI on the functions of a recipe."""

from __future__ import annotations

import argparse
import json
import logging
import re
import shlex
import sys
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import yaml
from jsonargparse.typing import class_from_function
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from slap.cli.recipe_beside import plain_options
from slap.cli.recipe_checkpoint import HELP, named, to_evaluate
from slap.cli.recipe_source import CONFIG, built_in, module_of
from slap.core.checkpoint_file import provenance
from slap.core.errors import UserError, suggest
from slap.core.files import atomic_write
from slap.core.launched import Launched
from slap.core.own_files import mark_own
from slap.core.registry import found_module
from slap.model.network import Weights
from slap.training.callbacks.test_report import ReportWriter
from slap.training.checkpoint.io import BEST
from slap.training.checkpoint.last import find_last
from slap.training.checkpoint.run_folder import RunFolder
from slap.training.checkpoint.run_record import RunRecord
from slap.training.module import SLAP
from slap.training.outcome import outcome
from slap.training.predict import whole_clips, windows_elsewhere

PARTS = {"model": SLAP, "data": LightningDataModule, "trainer": Trainer}
"""The functions of a recipe, with what they return."""

log = logging.getLogger(__name__)

SEED = 0
"""Of a run that names none: runs are repeatable unless asked otherwise."""

UNKNOWN = re.compile(
    r"unrecognized arguments: (?P<option>[^\s=]+)|Group '(?P<group>[^']+)' does not accept option '(?P<key>[^']+)'"
)
"""How the parser complains of an unknown option on the command line, and in a config file."""


def run(
    command: str,
    about: str,
    recipe: Recipe,
    plugins: Sequence[str],
    arguments: Sequence[str],
    unnamed: Path | None = None,
) -> None:
    """Run one of the commands on a recipe.

    Args:
        command: fit, validate, test or predict.
        about: what the command does, for its help.
        recipe: the run.
        plugins: what `--plugins` named; imported already, kept for the saved config.
        arguments: the other options.
        unnamed: a config of which only plain values are taken.

    Raises:
        ValueError: an option or a checkpoint that does not exist or does not fit.
        FileNotFoundError: a file that does not exist.
    """
    # Lightning's own use of torch, once per run; nothing that its user could mend.
    warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated", module="lightning")
    try:
        RecipeCLI(command, about, recipe, plugins, arguments, unnamed).run()
    except MisconfigurationException as error:
        raise UserError(str(error)) from error


@dataclass(frozen=True)
class Recipe:
    """A run: a module whose functions make its model, its data module and its trainer.

    Attributes:
        name: as the user gave it: of a built-in recipe, of a module, or a path.
        module: the module's name.
        description: the module's docstring.
        model: makes the model.
        data: makes the data module.
        trainer: makes the trainer.
        links: options that another one decides, each by the name of the other: the recipe's constant `LINKS`, e.g.
            `{"trainer.corpus": "data.corpus"}`. The command line then has the other one alone.
        settle: chooses options that were not given by those that were: the recipe's function of that name, from and to
            dotted names, e.g. `{"trainer.max_steps": 1600}`. The saved config has what it chose.
    """

    name: str
    module: str
    description: str
    model: Callable[..., SLAP]
    data: Callable[..., LightningDataModule]
    trainer: Callable[..., Trainer]
    links: Mapping[str, str] = field(default_factory=dict)
    settle: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None


def load(name: str) -> Recipe:
    """Import a recipe by its built-in name, by a module's dotted name, or by the path of a .py file.

    Raises:
        ValueError: there is no such recipe, or it lacks a function or the annotation of what the function returns.
        FileNotFoundError: no such file.
    """
    valid = [*built_in(), "the path of a .py file", "the name of a module"]
    module = found_module(module_of(name), f"recipe {name!r}", valid)
    for part, returns in PARTS.items():
        function = getattr(module, part, None)
        if not callable(function):
            raise UserError(f"the recipe {name!r} has no function `{part}`; it needs {', '.join(PARTS)}")
        annotation = typing.get_type_hints(function).get("return")
        if not (isinstance(annotation, type) and issubclass(annotation, returns)):
            raise UserError(f"`{part}` of the recipe {name!r} must be annotated to return {returns.__name__}")
    functions = module.model, module.data, module.trainer
    links, settle = getattr(module, "LINKS", {}), getattr(module, "settle", None)
    return Recipe(name, module.__name__, module.__doc__ or "", *functions, links, settle)


class RecipeCLI(LightningCLI):
    """LightningCLI on a recipe's functions, for one command; making it parses, `run` runs.

    Args:
        command: fit, validate, test or predict.
        about: what the command does.
        recipe: the run.
        plugins: what `--plugins` named; imported already, kept for the saved config.
        arguments: the other options.
        unnamed: a config of which only plain values are taken, see `slap.cli.recipe_beside`.
    """

    def __init__(
        self,
        command: str,
        about: str,
        recipe: Recipe,
        plugins: Sequence[str],
        arguments: Sequence[str],
        unnamed: Path | None = None,
    ) -> None:
        self.command, self.recipe, self.unnamed = command, recipe, unnamed
        names = {part: f"{recipe.module}_{part}".replace(".", "_") for part in ("model", "data", "trainer")}
        super().__init__(
            model_class=class_from_function(recipe.model, name=names["model"]),
            datamodule_class=class_from_function(recipe.data, name=names["data"]),
            trainer_class=class_from_function(recipe.trainer, name=names["trainer"]),
            save_config_callback=SaveConfig if command == "fit" else None,
            seed_everything_default=SEED,
            parser_kwargs={
                "prog": f"slap {command}",
                "usage": f"slap {command} --recipe {recipe.name} [options]",
                "description": f"{about}\n\nRecipe {recipe.name}: {recipe.description}",
                "exit_on_error": False,
            },
            args=[*arguments, "--recipe", recipe.name, "--plugins", json.dumps([*plugins])],
            run=False,  # this class runs the one command itself
            auto_configure_optimizers=False,  # the model does
            load_from_checkpoint_support=False,  # the model keeps its own arguments, as plain data
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what is no argument of the recipe's functions."""
        parser.add_argument("--recipe", type=str, help="a built-in recipe, the path of a .py file, or a module")
        parser.add_argument("--plugins", type=list[str], default=[], help="modules or .py files to import before")
        parser.add_argument("--ckpt_path", type=str | None, default=None, help=HELP[self.command == "fit"])
        if self.command != "fit":
            help_ = "weights of the checkpoint: raw as they were trained, or ema, their exponential moving averages"
            parser.add_argument("--weights", type=Weights, default="raw", help=help_)
        for target, source in self.recipe.links.items():
            parser.link_arguments(source, target)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; unlike the parent's, it answers an unknown option with the valid ones."""
        if self.unnamed is not None:
            defaults = yaml.safe_load(parser.dump(parser.get_defaults(), skip_none=False, skip_validation=True))
            args = ["--config", json.dumps(plain_options(self.unnamed, defaults, args)), *args]
        try:
            self.config = parser.parse_args(args)
        except argparse.ArgumentError as error:
            raise UserError(_with_options(str(error), list(parser.get_defaults().keys()))) from error

    def before_instantiate_classes(self) -> None:
        """Fill in the options that the recipe chooses by the others, for the commands that read its training clips."""
        if self.recipe.settle is not None and self.command in ("fit", "validate"):
            options = {f"{part}.{name}": value for part in PARTS for name, value in self.config[part].items()}
            for name, value in self.recipe.settle(options).items():
                self.config[name] = value

    def run(self) -> None:
        """Run the command."""
        launched = Launched.found()
        if launched is not None:
            launched.check(self.trainer.num_devices, self.trainer.num_nodes)
        path = self._checkpoint(self.config["ckpt_path"], Path(self.trainer.default_root_dir))
        step = getattr(self.trainer, self.command)
        self.model.weights_in_use = self.config.get("weights", "raw")
        if any(isinstance(callback, ReportWriter) for callback in self.trainer.callbacks):  # type: ignore[attr-defined]
            step = partial(step, verbose=False) if self.command == "test" else step  # it prints a better table
        try:
            # weights_only: a checkpoint from elsewhere must not be able to run code.
            result = step(self.model, datamodule=self.datamodule, ckpt_path=path, weights_only=True)
        except RuntimeError as error:
            if path is None or "loading state_dict" not in str(error):
                raise
            hint = f"give the options of its run, e.g. by `--config {Path(path).parent / CONFIG}`"
            raise UserError(f"the checkpoint {path} is of another model; {hint}\n{error}") from error
        if self.command == "fit" and self.trainer.is_global_zero:
            self._tell_outcome()
        if self.command == "predict":
            _save_predictions(result, self.trainer, None if path is None else provenance(Path(path)))

    def _tell_outcome(self) -> None:
        """Print the metrics and the files of the run, and the next command."""
        told, out = outcome(self.trainer), Path(self.trainer.default_root_dir)
        if told:
            print(told)
        if (out / BEST).is_file() and getattr(self.datamodule, "test_dataloader", None) is not None:
            unnamed = not getattr(self.datamodule, "manifests", {"test": True}).get("test")
            test = " --data.test '[TEST.csv]'" if unnamed else ""
            print(f"next: slap test --config {shlex.quote(str(out / CONFIG))} --ckpt_path best{test}")

    def _checkpoint(self, asked: str | None, out: Path) -> str | None:
        if self.command != "fit":
            manifests = getattr(self.datamodule, "manifests", {})
            found = to_evaluate(self.command, asked, out, manifests, self._say)
            return None if found is None else str(found)
        if asked == "last" and find_last(out) is None:
            self._begin_anew(out)
            return None
        return None if asked is None else str(named(asked, out))

    def _say(self, line: str) -> None:
        if self.trainer.is_global_zero:
            print(f"slap: {line}", file=sys.stderr)

    def _begin_anew(self, out: Path) -> None:
        """Let `--ckpt_path last` begin a run too: in a folder of a run with logs and no checkpoint, these are replaced.

        Raises:
            UserError: the run of the folder begins with the checkpoint of another one.
        """
        record = RunRecord.of(out)
        if record is not None and record.checkpoint:
            raise UserError(
                f"{out} holds no checkpoint yet, and its run begins with {record.checkpoint}: give --ckpt_path "
                f"{shlex.quote(record.checkpoint)}"
            )
        self._say(f"{out} holds no checkpoint to continue from, so training begins")
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, RunFolder):
                callback.begin_anew = True


def _with_options(message: str, options: list[str]) -> str:
    """Return a parser's message; for an unknown option, add the valid ones of its group, or the outermost ones."""
    unknown = UNKNOWN.search(message)
    if unknown is None:
        return message
    wrong = unknown["option"] or f"--{unknown['group']}.{unknown['key']}"
    names = [f"--{option}" for option in options]
    alike = [name for name in names if name.startswith(wrong.split(".")[0] + ".")]
    return f"{message}; {suggest(wrong, alike or [name for name in names if '.' not in name])}"


def _save_predictions(batches: list[dict[str, Any]], trainer: Trainer, checkpoint: dict[str, Any] | None) -> None:
    """Write ids and embeddings, (B, E), of all clips whose first window this process saw, and their checkpoint."""
    process = f"-{trainer.global_rank}" if trainer.world_size > 1 else ""
    path = Path(trainer.default_root_dir) / f"predictions{process}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not _are_predictions(path):
        raise UserError(f"{path} exists and holds no predictions of slap; name another folder by --trainer.out")
    ids, embeddings = whole_clips(batches, windows_elsewhere(batches))
    with atomic_write(path, "wb") as file:
        torch.save({"ids": ids, "embeddings": embeddings, "checkpoint": checkpoint}, file)
    print(f"wrote {path}")


def _are_predictions(path: Path) -> bool:
    try:
        found = torch.load(path, weights_only=True, mmap=True)
    except (RuntimeError, ValueError, EOFError, KeyError, UnpicklingError):  # of a file of another kind
        return False
    return isinstance(found, dict) and {"ids", "embeddings", "checkpoint"} <= set(found)


class SaveConfig(SaveConfigCallback):
    """Saves what was run as `config.yaml` in the run's folder, so that `--config` repeats it."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write nothing yet: the folder may hold another run."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write, on the first process; the run's folder has been looked at."""
        del pl_module
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            config = self.config.clone()
            config["ckpt_path"] = None  # to repeat a run is to start anew, ...
            config["trainer.overwrite"] = False  # ... but not to destroy it, nor to accept what changes later
            config["trainer.changed_options"] = config["trainer.changed_data"] = "refuse"
            path = Path(trainer.default_root_dir) / CONFIG
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                file.write(self.parser.dump(config, skip_none=False))
            _remember(path)


def _remember(config: Path) -> None:
    """Mark a config as the user's own, so that `--ckpt_path` alone repeats its options."""
    try:
        mark_own(config)
    except OSError as error:
        log.warning("%s cannot be remembered as yours, so commands need `--config %s`: %s", config, config, error)
