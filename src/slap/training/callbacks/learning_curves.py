"""Learning curves of a run as one picture, drawn from its CSV log."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch import Callback, LightningModule, Trainer

from slap.metrics.tables import readable
from slap.training.module import SLAP

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Series = dict[int, float]
"""A metric's value by step."""

COLUMNS = 3
SMOOTHING = 1 / 30
"""Share of a curve over which the exponential average that is drawn over its noise reaches."""


@dataclass(frozen=True)
class Panel:
    """One set of axes.

    Args:
        title: above it.
        unit: of the vertical axis.
        curves: by the names that the legend shows.
        smooth: draw an average over each curve.
        log: use a logarithmic vertical axis.
        chance: by the names in the legend, the value that guessing reaches; drawn dashed.
    """

    title: str
    unit: str
    curves: Mapping[str, Series]
    smooth: bool = False
    log: bool = False
    chance: Mapping[str, float] = field(default_factory=dict)


class LearningCurves(Callback):
    """Draws `curves.png` when training ends.

    Args:
        out: the run's folder, which holds `metrics.csv`.
    """

    def __init__(self, out: str) -> None:
        self.out = Path(out)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, on the first process."""
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            logger.save()
        if (self.out / "metrics.csv").is_file():
            assert isinstance(pl_module, SLAP)
            chance = {f"val/{name}": result.chance for name, result in pl_module.evaluation.results.items()}
            draw(read_metrics(self.out / "metrics.csv"), self.out / "curves.png", chance)


SCORES = {
    "t2a_R": "text to audio",
    "a2t_R": "audio to text",
    "zeroshot_": "zero-shot accuracy",
    "choice_": "accuracy of choices",
}
"""Titles of the panels of validation, by the beginning of their metrics' names."""


def read_metrics(path: Path) -> dict[str, Series]:
    """Read a CSV log as a series per metric; where a step was logged twice, as after a restart, the later counts."""
    series: dict[str, Series] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name not in ("step", "epoch"):
                    series.setdefault(name, {})[int(row["step"])] = float(value)
    return series


def panels(series: Mapping[str, Series], chance: Mapping[str, float]) -> list[Panel]:
    """Choose the panels of a log: each objective's loss by itself, as their scales differ, then the rest."""
    objectives = sorted(name.removeprefix("train/weight/") for name in series if name.startswith("train/weight/"))
    losses = {"train/loss": "weighted sum of losses", **{f"train/{name}": name for name in objectives}}
    losses = {name: title for name, title in losses.items() if name in series}
    found = [Panel(title, "loss", {title: series[name]}, smooth=True) for name, title in losses.items()]
    for name, title in (("train/lr", "learning rate"), ("train/grad_norm", "gradient norm before clipping")):
        if name in series:
            found.append(Panel(title, title.split(" before")[0], {title: series[name]}, log=name == "train/grad_norm"))
    for prefix, title in SCORES.items():
        names = sorted(
            (name for name in series if name.startswith(f"val/{prefix}")), key=lambda name: (len(name), name)
        )
        if names:
            start = len("val/") + prefix.index("_") + 1
            curves = {name[start:]: series[name] for name in names}
            guesses = {name[start:]: chance[name] for name in names if name in chance}
            found.append(Panel(f"{title}, validation", "%", curves, chance=guesses))
    heads = sorted(name for name in series if name.startswith("val/") and name.endswith(("_accuracy", "_mAP")))
    for name in heads:
        guess = {name[4:]: chance[name]} if name in chance else {}
        found.append(Panel(f"{readable(name[4:])}, validation", "%", {name[4:]: series[name]}, chance=guess))
    return found


def draw(series: Mapping[str, Series], path: Path, chance: Mapping[str, float]) -> None:
    """Draw the panels of a log into a PNG.

    Args:
        series: each metric by step, from `read_metrics`.
        path: path of the picture.
        chance: by metric, the value that guessing reaches, in percent; drawn as a dashed line of the same color.
    """
    from matplotlib.figure import Figure  # here: it is slow to import, and needed once a run

    drawn = panels(series, chance)
    if not drawn:
        return
    rows = -(-len(drawn) // COLUMNS)
    figure = Figure(figsize=(5 * COLUMNS, 3.4 * rows), layout="constrained")
    for i, panel in enumerate(drawn):
        _draw_panel(figure.add_subplot(rows, COLUMNS, i + 1), panel)
    figure.savefig(path, dpi=110)


def _draw_panel(axes: Axes, panel: Panel) -> None:
    for i, (name, curve) in enumerate(panel.curves.items()):
        color = f"C{i}"
        steps, values = list(curve), list(curve.values())
        few = len(steps) < 30
        if panel.smooth and not few:
            axes.plot(steps, values, color=color, alpha=0.3, linewidth=0.8)
            values = smoothed(values)
        axes.plot(steps, values, color=color, label=name, linewidth=1.6, marker="o" if few else None, markersize=3)
        if name in panel.chance:
            axes.axhline(panel.chance[name], color=color, linestyle="--", linewidth=1)
    if panel.chance:
        axes.plot([], [], color="gray", linestyle="--", linewidth=1, label="chance")
    if panel.log:
        axes.set_yscale("log")
    if panel.unit == "%":
        axes.set_ylim(0, 102)
    axes.set(title=panel.title, xlabel="step", ylabel=panel.unit)
    axes.grid(alpha=0.25)
    if len(panel.curves) > 1 or panel.chance:
        axes.legend(fontsize="small", loc="upper left")


def smoothed(values: Sequence[float]) -> list[float]:
    """Compute the exponential average of the values so far, without a bias towards the start.

    Example:
        >>> [round(value, 2) for value in smoothed([1.0] * 30 + [2.0] * 30)[29:33]]
        [1.0, 1.39, 1.63, 1.78]
    """
    keep = exp(-1 / max(SMOOTHING * len(values), 0.1))
    total = weight = 0.0
    result = []
    for value in values:
        total = keep * total + (1 - keep) * value
        weight = keep * weight + (1 - keep)
        result.append(total / weight)
    return result
