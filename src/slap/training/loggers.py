"""Loggers of a run by name: `metrics.csv` always, and any of Lightning's beside it.

--trainer.logger wandb
--trainer.logger '{wandb: {project: sounds, offline: true}}'
--trainer.logger '[tensorboard, {mlflow: {experiment_name: sounds}}]'
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from slap.core.errors import MissingDependencyError, UserError, suggest
from slap.training.checkpoint.metrics_log import AppendingCSVLogger

LoggerSpec = bool | str | dict[str, Any] | list[Any] | Logger | None
"""The loggers of a run, see `loggers`. The command line reads `false` as the first type that takes it."""


@dataclass(frozen=True)
class Kind:
    """A logger of Lightning's.

    Attributes:
        make: its class.
        package: the package that it needs.
        defaults: gives its arguments for a run's folder, from those that are given, which win.
    """

    make: Callable[..., Logger]
    package: str
    defaults: Callable[[Path, Mapping[str, Any]], dict[str, Any]]


def _mlflow(out: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of MLflow's logger: a database in the run's folder, since MLflow 3 refuses plain folders."""
    named = {"run_name": out.name}
    if options.get("tracking_uri") or options.get("save_dir") or os.environ.get("MLFLOW_TRACKING_URI"):
        return named
    if find_spec("sqlalchemy") is None:
        raise MissingDependencyError(
            "the logger mlflow keeps a run in a database, which mlflow-skinny cannot: pip install mlflow, or name a "
            "server: {mlflow: {tracking_uri: http://...}}"
        )
    out.mkdir(parents=True, exist_ok=True)
    place = out.resolve()
    return {**named, "tracking_uri": f"sqlite:///{place / 'mlflow.db'}", "artifact_location": str(place / "mlruns")}


KINDS = {
    "csv": Kind(CSVLogger, "lightning", lambda out, _: {"save_dir": str(out), "name": "csv"}),
    "mlflow": Kind(MLFlowLogger, "mlflow", _mlflow),
    "tensorboard": Kind(
        TensorBoardLogger,
        "tensorboard",
        lambda out, _: {"save_dir": str(out / "tensorboard"), "name": "", "version": ""},
    ),
    "wandb": Kind(WandbLogger, "wandb", lambda out, _: {"save_dir": str(out), "name": out.name}),
}


def loggers(out: str, chosen: LoggerSpec = None) -> list[Logger]:
    """Make the loggers of a run: first `metrics.csv`, from which a run continues and its curves are drawn.

    Args:
        out: the run's folder, into which they write unless their arguments say otherwise.
        chosen: a name of `KINDS`, names with arguments (`{wandb: {project: sounds}}`), Lightning loggers, or a list of
            these. None is TensorBoard, and False is none beside `metrics.csv`.

    Raises:
        ValueError: an unknown name or argument.
        MissingDependencyError: the package of a logger is not installed.
    """
    if chosen is None or chosen is True:
        chosen = "tensorboard"
    listed = [] if chosen is False else chosen if isinstance(chosen, list) else [chosen]
    found: list[Logger] = [AppendingCSVLogger(out)]
    for item in listed:
        if isinstance(item, Logger):
            found.append(item)
        else:
            found += [_made(name, options, Path(out)) for name, options in _named(item)]
    return found


def _named(item: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """Return names with arguments."""
    pairs: Any = {item: {}} if isinstance(item, str) else item
    if not isinstance(pairs, Mapping) or not all(isinstance(options, Mapping | None) for options in pairs.values()):
        raise UserError(
            f"a logger is a name ({', '.join(KINDS)}), a name with arguments such as "
            f"{{wandb: {{project: sounds}}}}, or a Lightning logger; got {item!r}"
        )
    return [(name, options or {}) for name, options in pairs.items()]


def _made(name: str, options: Mapping[str, Any], out: Path) -> Logger:
    if name not in KINDS:
        raise UserError(f"there is no logger {name!r}; {suggest(name, KINDS)}")
    kind = KINDS[name]
    if find_spec(kind.package) is None:
        raise MissingDependencyError(f"the logger {name} needs {kind.package}: pip install {kind.package}")
    known = inspect.signature(kind.make).parameters
    for option in options:
        if option not in known and not any(value.kind is value.VAR_KEYWORD for value in known.values()):
            raise UserError(f"the logger {name} has no argument {option!r}; {suggest(option, known)}")
    return kind.make(**{**kind.defaults(out, options), **options})
