"""Bootstrap intervals of figures that are no plain mean over clips: means over folds, macro mAP; medians elsewhere.

n clips, K classes, F folds, S bootstrap samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slap.average_precision import average_precision
from slap.median_rank import median_rank as median_rank
from slap.results import AT_ONCE, SAMPLES, Result

ENDS = torch.tensor([0.025, 0.975], dtype=torch.float64)

WORK = 2_000_000_000
"""Scores that the bootstrap of a mAP goes through, at most; large sets get fewer samples, see `samples_of`."""

FEWEST = 200


def over_folds(values: Tensor, chance: float, count: int, seed: int = 0) -> Result:
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
    return Result(100 * values.mean().item(), 100 * low, 100 * high, chance, count)


def samples_of(clips: int, classes: int) -> int:
    """S for the mAP of a set: 2,000, and fewer where the set is large, whose interval is narrow and needs fewer."""
    return max(FEWEST, min(SAMPLES, WORK // max(clips * classes, 1)))


def mean_average_precision(scores: Tensor, truth: Tensor, seed: int = 0) -> tuple[Result, Tensor]:
    """Macro mAP in percent, with its 95 % percentile interval over clips, and the average precision of each class.

    Classes that no clip has are left out, also of each bootstrap sample.

    Args:
        scores: (n, K).
        truth: (n, K) bool.
        seed: of the bootstrap.

    Returns:
        The figure, and (K,) float64, 0 to 1, NaN for a class that no clip has.

    Raises:
        ValueError: no clip has any class; or as `slap.average_precision`.
    """
    each = average_precision(scores, truth)
    if each.isnan().all():
        raise ValueError("no clip has any of the classes, so there is nothing to average")
    clips, classes = scores.shape
    samples = samples_of(clips, classes)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(clips, (samples, clips), generator=generator)
    times = torch.zeros(samples, clips, dtype=torch.float64).scatter_add_(
        1, drawn, torch.ones(samples, clips, dtype=torch.float64)
    )
    sums = torch.zeros(samples, dtype=torch.float64)
    counts = torch.zeros(samples, dtype=torch.float64)
    for k in (~each.isnan()).nonzero().flatten().tolist():
        for part in torch.arange(samples).split(max(1, AT_ONCE // clips)):
            found = weighted_average_precision(scores[:, k], truth[:, k], times[part])
            sums[part] += found.nan_to_num(0.0)
            counts[part] += ~found.isnan()
    low, high = (sums / counts).quantile(ENDS).tolist()
    value = each.nanmean().item()
    return Result(100 * value, 100 * low, 100 * high, 100 * chance_map(truth), clips), each


def weighted_average_precision(scores: Tensor, truth: Tensor, times: Tensor) -> Tensor:
    """Average precision of one class where each clip counts so many times: (n,), (n,) bool, (S, n) -> (S,).

    Whole numbers of times are the same as repeating the clips; NaN where no clip of the class is drawn.
    """
    scores, order = scores.sort(descending=True, stable=True)
    truth, times = truth[order].double(), times[:, order].double()
    ends = torch.cat([scores[1:] != scores[:-1], torch.ones(1, dtype=torch.bool)])
    hits = (times * truth).cumsum(1)[:, ends]
    places = times.cumsum(1)[:, ends]
    gained = hits.diff(dim=1, prepend=hits.new_zeros(len(hits), 1))
    # Before the first clip that is drawn there is nothing, 0 of 0.
    return (gained * hits / places.clamp(min=1)).sum(1) / hits[:, -1]


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
