"""The plots of an evaluation: those of a test run, and scores by class and by duration.

What draws is imported when something is drawn, so that tasks can be listed without it.

n clips, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from torch import Tensor

from slap.core.units import Seconds
from slap.metrics.bootstrap import MetricValue
from slap.metrics.confusion import Confusion

if TYPE_CHECKING:
    from matplotlib.figure import Figure


SHOWN = 60
"""Classes that a plot of scores names; of more, the best and the worst."""


def recall(results: Mapping[str, MetricValue], dataset: str) -> Figure:
    """Recall in both directions."""
    from slap.metrics.plots import draw_recall

    return draw_recall(results, f"{dataset}: retrieval")


def recall_by_duration(seconds: Sequence[Seconds], ranks: Tensor, dataset: str) -> Figure:
    """R@10 from audio to text for clips of similar duration: (n,) and (n,) int64."""
    from slap.metrics.plots import draw_recall_by_duration

    return draw_recall_by_duration(seconds, ranks, 10, f"{dataset}: audio to text R@10 by duration")


def score_by_duration(seconds: Sequence[Seconds], hits: Tensor, dataset: str) -> Figure:
    """Accuracy for clips of similar duration: (n,) and (n,) bool."""
    from slap.metrics.plots import draw_shares_by_duration

    return draw_shares_by_duration(seconds, hits, f"{dataset}: accuracy by duration")


def confusion_matrix(confusion: Confusion, title: str) -> Figure:
    """Which class was taken for which."""
    from slap.metrics.plots import draw_confusion

    return draw_confusion(confusion, title)


def score_by_class(scores: Sequence[tuple[str, float, int]], title: str) -> Figure:
    """A bar for each class, the best on top.

    Args:
        scores: name, percent and number of clips of each of K classes.
        title: over the plot.
    """
    from matplotlib.figure import Figure

    from slap.metrics.plots import COLOURS, GREY

    ordered = sorted(scores, key=lambda row: (-row[1], row[0]))
    gap = len(ordered) > SHOWN
    rows = [*ordered[: SHOWN // 2], *ordered[-(SHOWN // 2) :]] if gap else ordered
    longest = max(len(name) for name, *_ in rows)
    figure = Figure(figsize=(4.2 + 0.075 * longest, 1.3 + 0.19 * len(rows)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    places = [i + (1 if gap and i >= SHOWN // 2 else 0) for i in range(len(rows))]
    values = [value for _, value, _ in rows]
    axes.barh(places, values, 0.72, color=COLOURS["t2a"])
    for place, (_, value, count) in zip(places, rows, strict=True):
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # the line of the mean goes behind
        axes.text(value + 1, place, f"{value:.0f}  ({count})", va="center", fontsize=7, color=GREY, bbox=box)
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
