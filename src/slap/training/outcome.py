"""The text that ends a training: validation metrics of its best and its last step, and the files it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path

from lightning.pytorch import Trainer

from slap.training.callbacks.learning_curves import Series, read_metrics
from slap.training.checkpoint.run_folder import METRICS, RUN_FILES, BestCheckpoint

VALIDATION = "val/"


def outcome(trainer: Trainer) -> str:
    """Return the validation metrics and the files of a run that has ended; empty where it has left no log."""
    out = Path(trainer.default_root_dir)
    log = out / METRICS
    if not log.is_file():
        return ""
    best = next((callback for callback in trainer.checkpoint_callbacks if isinstance(callback, BestCheckpoint)), None)
    lines = []
    if best is not None and best.monitor is not None:
        lines = metrics_table(read_metrics(log), best.monitor, best.mode)
    files = [name for name in RUN_FILES if (out / name).is_file()]
    return "\n".join([*lines, f"{out} holds {', '.join(files)}"])


def metrics_table(series: Mapping[str, Series], monitor: str, mode: str) -> list[str]:
    """Return lines with the validation metrics at the best step and at the last one.

    Args:
        series: by metric its values by step, the steps numbered from 0.
        monitor: the metric that decides which step is best.
        mode: whether `max` or `min` of it is best.
    """
    found = {name: values for name, values in series.items() if name.startswith(VALIDATION)}
    # The metrics of single sources stay in the log, unless one of them decides.
    names = [name for name in sorted(found) if name.count("/") == 1 or name == monitor]
    decisive = {step: value for step, value in found.get(monitor, {}).items() if isfinite(value)}
    if not decisive:
        return []
    best = (max if mode == "max" else min)(sorted(decisive), key=lambda step: decisive[step])
    last = max(decisive)
    width = max(len(name) for name in names)
    heads = f"best, step {best + 1}", f"last, step {last + 1}"
    lines = [f"{'validation':<{width}}  {heads[0]:>18}  {heads[1]:>18}"]
    lines += [f"{name:<{width}}  {_at(found[name], best):>18}  {_at(found[name], last):>18}" for name in names]
    return [*lines, f"the best step has the {'highest' if mode == 'max' else 'lowest'} {monitor}"]


def _at(values: Series, step: int) -> str:
    return f"{values[step]:.4g}" if step in values else "-"
