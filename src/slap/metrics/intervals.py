"""Bootstrap intervals of figures that are no plain mean over clips: means over folds, macro mAP; medians elsewhere.

n clips, K classes, F folds, S bootstrap samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slap.metrics.average_precision import average_precision
from slap.metrics.bootstrap import SAMPLES, MetricValue
from slap.metrics.median_rank import median_rank as median_rank

ENDS = torch.tensor([0.025, 0.975], dtype=torch.float64)

WORK = 2_000_000_000
"""Scores that the bootstrap of a mAP goes through, at most; large sets get fewer samples, see `samples_of`."""

FEWEST = 200

HELD = 16_000_000
"""Numbers of draws that are held at once, 64 MB."""


def over_folds(values: Tensor, chance: float, count: int, seed: int = 0) -> MetricValue:
    """The mean over folds, in percent, with its 95 % percentile interval over folds.

    Args:
        values: (F,) 0 to 1.
        chance: what guessing reaches, in percent.
        count: clips of all folds.
        seed: of the bootstrap.
    """
    if not len(values):
        raise ValueError("no folds to average over")
    values = values.double()
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(values), (SAMPLES, len(values)), generator=generator)
    low, high = values[drawn].mean(1).quantile(ENDS).tolist()
    return MetricValue(100 * values.mean().item(), 100 * low, 100 * high, chance, count)


def samples_of(clips: int, classes: int) -> int:
    """S for the mAP of a set: 2,000, and fewer where the set is large, whose interval is narrow and needs fewer."""
    return max(FEWEST, min(SAMPLES, WORK // max(clips * classes, 1)))


def mean_average_precision(scores: Tensor, truth: Tensor, seed: int = 0) -> tuple[MetricValue, Tensor]:
    """Macro mAP in percent, with its 95 % percentile interval over clips, and the average precision of each class.

    Classes that no clip has are left out, also of each bootstrap sample.

    Args:
        scores: (n, K).
        truth: (n, K) bool.
        seed: of the bootstrap.

    Returns:
        The figure, and (K,) float64, 0 to 1, NaN for a class that no clip has.

    Raises:
        ValueError: no clip has any class; or as `slap.metrics.average_precision`.
    """
    each = average_precision(scores, truth)
    if each.isnan().all():
        raise ValueError("no clip has any of the classes, so there is nothing to average")
    clips, classes = scores.shape
    samples = samples_of(clips, classes)
    generator = torch.Generator().manual_seed(seed)
    known = (~each.isnan()).nonzero().flatten().tolist()
    sums, counts = torch.zeros(samples, dtype=torch.float64), torch.zeros(samples, dtype=torch.float64)
    for part in torch.arange(samples).split(max(1, HELD // clips)):
        drawn = torch.randint(clips, (len(part), clips), generator=generator)
        times = torch.stack([row.bincount(minlength=clips) for row in drawn], 1).float()
        for k in known:
            found = weighted_average_precision(scores[:, k], truth[:, k], times)
            sums[part] += found.nan_to_num(0.0)
            counts[part] += ~found.isnan()
    low, high = (sums / counts).quantile(ENDS).tolist()
    value = each.nanmean().item()
    return MetricValue(100 * value, 100 * low, 100 * high, 100 * chance_map(truth), clips), each


def weighted_average_precision(scores: Tensor, truth: Tensor, times: Tensor) -> Tensor:
    """Average precision of one class where each clip counts so many times: (n,), (n,) bool, (n, S) -> (S,).

    Whole numbers of times, up to 2^24 together, are the same as repeating the clips; NaN where no clip of the class is
    drawn.
    """
    scores, order = scores.sort(descending=True, stable=True)
    places = times[order].cumsum(0)  # how many are drawn up to each
    right = truth[order].nonzero().squeeze(1)
    gained = times[order[right]].double()
    hits = gained.cumsum(0)
    # Equal scores are one step: what counts is how many there are, and are right, up to the last of them.
    last = torch.searchsorted(-scores, -scores[right], right=True) - 1
    hits_there = hits[torch.searchsorted(right, last, right=True) - 1]
    return (gained * hits_there / places[last].double().clamp(min=1)).sum(0) / hits[-1]


def chance_map(truth: Tensor) -> float:
    """What macro mAP is in the mean over random orders, 0 to 1: exact, from the number of clips of each class."""
    clips = len(truth)
    positives = truth.sum(0).double()
    positives = positives[positives > 0]
    if clips < 2 or not len(positives):
        return 1.0
    harmonic = (1 / torch.arange(1, clips + 1, dtype=torch.float64)).sum()
    share = (positives - 1) / (clips - 1)  # that another clip is of the class, given that one is
    return ((harmonic * (1 - share) + clips * share) / clips).mean().item()
