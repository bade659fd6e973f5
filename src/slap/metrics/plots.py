"""Plots of reports, as pure functions from metrics to drawings.

matplotlib is imported when something is drawn, so that what can draw loads without it.

n clips, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.metrics.bootstrap import MetricValue, mean_over_clips
from slap.metrics.confusion import Confusion

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"t2a": "#2a6f97", "a2t": "#e07a2f"}
DIRECTIONS = {"t2a": "text to audio", "a2t": "audio to text"}
GRAY = "#444444"

NUMBERED = 20
"""Confusion matrices with more classes go without numbers in their cells, ..."""

NAMED = 100
"""... and those with more than this without the names of classes."""

SHOWN = 60
"""Classes that a plot of scores by class shows; of more classes it shows the best and the worst."""


def draw_recall(results: Mapping[str, MetricValue], title: str = "Retrieval of held-out clips") -> Figure:
    """Draw recall in both directions as bars, with 95 % intervals and, as dashes, chance.

    Args:
        results: metrics with `t2a_R@k` and `a2t_R@k` for some k; the others are left out.
        title: title of the plot.

    Raises:
        ValueError: no recall among the results.
    """
    cutoffs = sorted({int(name.rpartition("@")[2]) for name in results if name.startswith(("t2a_R@", "a2t_R@"))})
    if not cutoffs:
        raise UserError(f"there is no recall to draw among {[*results]}")
    figure, axes = _canvas(1.6 + 1.6 * len(cutoffs), 3.8, title)
    width = 0.38
    for shift, (short, direction) in zip((-width / 2, width / 2), DIRECTIONS.items(), strict=True):
        bars = [results[f"{short}_R@{k}"] for k in cutoffs]
        places = [i + shift for i in range(len(bars))]
        _bars(axes, places, bars, width * 0.94, COLORS[short], direction)
        for place, bar in zip(places, bars, strict=True):
            axes.hlines(bar.chance, place - width / 2, place + width / 2, "black", linestyles="dashed", linewidth=1.2)
    axes.hlines([], 0, 0, "black", linestyles="dashed", linewidth=1.2, label="chance")
    axes.set_xticks(range(len(cutoffs)), [f"R@{k}" for k in cutoffs])
    axes.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1), fontsize=9)
    return figure


def draw_recall_by_duration(
    durations: Sequence[Seconds], ranks: Tensor, k: int = 1, title: str | None = None
) -> Figure:
    """Draw audio-to-text recall for clips of similar duration, each range twice as long as the one before.

    Args:
        durations: seconds of each clip, n of them, in the order of ids.
        ranks: (n,) for each clip the best rank of its captions, from 0.
        k: cutoff of R@k.
        title: title of the plot. Default: the name of the metric.
    """
    return draw_shares_by_duration(durations, ranks < k, title or f"Audio to text R@{k} by duration")


def draw_shares_by_duration(durations: Sequence[Seconds], hits: Tensor, title: str) -> Figure:
    """Draw the share of hits among clips of similar duration, each range twice as long as the one before.

    Args:
        durations: seconds of each clip, n of them, in the order of ids.
        hits: (n,) bool.
        title: title of the plot.
    """
    bins = _by_duration(durations)
    names = [f"{_number(2.0**i)} to {_number(2.0 ** (i + 1))}" for i in bins]
    bars = [mean_over_clips(hits[rows], torch.arange(len(rows)), 0.0) for rows in bins.values()]
    figure, axes = _canvas(max(1.8 + 0.95 * len(bars), 4.2), 3.8, title)
    _bars(axes, list(range(len(bars))), bars, 0.7, COLORS["a2t"], None)
    ticks = [f"{name}\n{bar.count} clip{'s' * (bar.count > 1)}" for name, bar in zip(names, bars, strict=True)]
    axes.set_xticks(range(len(bars)), ticks, fontsize=9)
    axes.set_xlabel("seconds")
    return figure


def draw_confusion(confusion: Confusion, title: str) -> Figure:
    """Draw a confusion matrix, each row in percent of the class's clips.

    Args:
        confusion: the confusion matrix of K classes.
        title: title of the plot.
    """
    classes, counts = confusion.classes, confusion.counts
    shares = 100 * counts.double() / confusion.clips[:, None].clamp(min=1)
    named = len(classes) <= NAMED
    longest = max(len(name) for name in classes) if named else 0
    side = max((0.42 if len(classes) <= NUMBERED else 0.2) * len(classes), 1.6) if named else 10  # inches of the matrix
    figure, axes = _canvas(side + 0.085 * longest + 1.0, side + 0.065 * longest + 1.1, title)
    axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=100)
    if named:
        axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
        axes.set_yticks(range(len(classes)), classes, fontsize=8)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    axes.set_xlabel("predicted" if named else f"predicted, {len(classes)} classes in alphabetical order")
    axes.set_ylabel("true")
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.grid(visible=False)
    for row, column in shares.nonzero().tolist() if len(classes) <= NUMBERED else []:
        share = shares[row, column].item()
        color = "white" if share > 55 else "black"
        axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=7.5, color=color)
    return figure


def draw_score_by_class(scores: Sequence[tuple[str, float, int]], title: str) -> Figure:
    """Draw a bar for each class, the best on top.

    Args:
        scores: name, percent and number of clips of each of K classes.
        title: title of the plot.
    """
    from matplotlib.figure import Figure

    ordered = sorted(scores, key=lambda row: (-row[1], row[0]))
    gap = len(ordered) > SHOWN
    rows = [*ordered[: SHOWN // 2], *ordered[-(SHOWN // 2) :]] if gap else ordered
    longest = max(len(name) for name, *_ in rows)
    figure = Figure(figsize=(4.2 + 0.075 * longest, 1.3 + 0.19 * len(rows)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    places = [i + (1 if gap and i >= SHOWN // 2 else 0) for i in range(len(rows))]
    values = [value for _, value, _ in rows]
    axes.barh(places, values, 0.72, color=COLORS["t2a"])
    for place, (_, value, count) in zip(places, rows, strict=True):
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # the line of the mean goes behind
        axes.text(value + 1, place, f"{value:.0f}  ({count})", va="center", fontsize=7, color=GRAY, bbox=box)
    mean = fmean(value for _, value, _ in ordered)
    axes.axvline(mean, color="black", linestyle="dashed", linewidth=1.0)
    axes.set_yticks(places, [name for name, *_ in rows], fontsize=8)
    axes.set_ylim(max(places) + 0.8, -0.8)
    axes.set_xlim(0, 116)
    axes.set_xticks(range(0, 101, 20))
    which = f"\nthe {SHOWN // 2} best and the {SHOWN // 2} worst of {len(ordered)} classes" if gap else ""
    axes.set_xlabel(f"% (clips); dashed: mean of classes, {mean:.1f}{which}", fontsize=9)
    axes.set_title(title, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure


def _canvas(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """Make axes of width x height inches with a percent scale; no global state of matplotlib is touched."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11)
    axes.set_ylim(0, 109)
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel("%")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _bars(
    axes: Axes, places: Sequence[float], results: Sequence[MetricValue], width: float, color: str, label: str | None
) -> None:
    values = [result.value for result in results]
    # Of a skewed sample the interval may lie to one side of the value by a rounding error.
    below = [max(result.value - result.low, 0) for result in results]
    above = [max(result.high - result.value, 0) for result in results]
    axes.bar(places, values, width, color=color, label=label)
    axes.errorbar(places, values, yerr=[below, above], fmt="none", ecolor=GRAY, elinewidth=1.2, capsize=3)
    for place, value, more in zip(places, values, above, strict=True):
        axes.text(place, value + more + 1.5, f"{value:.0f}", ha="center", va="bottom", fontsize=9)


def _by_duration(durations: Sequence[Seconds]) -> dict[int, Tensor]:
    """Number the clips of 2^i up to 2^(i + 1) seconds under i, in order; ranges without clips are left out."""
    exponents = torch.tensor(durations, dtype=torch.float64).log2().floor().long()
    return {int(i): (exponents == i).nonzero().flatten() for i in exponents.unique()}


def _number(seconds: Seconds) -> str:
    return f"{seconds:.2f}".rstrip("0").rstrip(".")
