"""The text that ends a training: its validation metrics before, at best and at last, and the files it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path

from lightning.pytorch import Trainer

from slap.training.callbacks.first_validation import BEFORE
from slap.training.callbacks.learning_curves import Series, read_metrics
from slap.training.checkpoint.metrics_log import METRICS, VALIDATION
from slap.training.checkpoint.run_folder import BestCheckpoint
from slap.training.checkpoint.run_record import RUN_FILES


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
    """Return lines with the validation metrics at the best step and at the last one, and before the first, if known.

    Args:
        series: by metric its values by step, the steps numbered from 0; -1 is before training.
        monitor: the metric that decides which step is best.
        mode: whether `max` or `min` of it is best.
    """
    found = {name: values for name, values in series.items() if name.startswith(VALIDATION)}
    # The metrics of single sources stay in the log, unless one of them decides.
    names = [name for name in sorted(found) if name.count("/") == 1 or name == monitor]
    decisive = {step: value for step, value in found.get(monitor, {}).items() if isfinite(value)}
    before = decisive.pop(BEFORE, None)
    if not decisive:
        return []
    best = (max if mode == "max" else min)(sorted(decisive), key=lambda step: decisive[step])
    last = max(decisive)
    width = max(len(name) for name in names)
    columns = {f"best, step {best + 1}": best, f"last, step {last + 1}": last}
    if any(BEFORE in values for values in found.values()):
        columns = {"before training": BEFORE, **columns}
    lines = [f"{'validation':<{width}}" + "".join(f"  {head:>18}" for head in columns)]
    lines += [
        f"{name:<{width}}" + "".join(f"  {_at(found[name], at):>18}" for at in columns.values()) for name in names
    ]
    lines.append(f"the best step has the {'highest' if mode == 'max' else 'lowest'} {monitor}")
    if before is not None and not (decisive[best] > before if mode == "max" else decisive[best] < before):
        lines.append(f"no step has a better {monitor} than the model before training: use that one, or train otherwise")
    return lines


def _at(values: Series, step: int) -> str:
    return f"{values[step]:.4g}" if step in values else "-"
