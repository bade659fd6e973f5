"""Bootstrap intervals of figures that are no plain mean over clips: medians, means over folds, macro mAP.

n clips, C queries, K classes, F folds, S bootstrap samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slap.average_precision import average_precision
from slap.results import AT_ONCE, SAMPLES, Result

ENDS = torch.tensor([0.025, 0.975], dtype=torch.float64)

WORK = 2_000_000_000
"""Scores that the bootstrap of a mAP goes through, at most; large sets get fewer samples, see `samples_of`."""

FEWEST = 200


def median_rank(ranks: Tensor, clip: Tensor, chance: float, seed: int = 0) -> Result:
    """The median rank, from 1, with its 95 % percentile interval over clips; neither is in percent.

    Args:
        ranks: (C,) int64, from 0.
        clip: (C,) int64, the clip of each, counted from 0 without gaps; drawn with all its ranks.
        chance: the median that guessing reaches.
        seed: of the bootstrap.
    """
    if not len(ranks):
        raise ValueError("no ranks to take the median of")
    order = ranks.argsort(stable=True)
    ranks, clip = ranks[order].double() + 1, clip[order]
    clips = int(clip.max()) + 1
    generator = torch.Generator().manual_seed(seed)
    medians = []
    for part in torch.arange(SAMPLES).split(max(1, AT_ONCE // max(clips, len(ranks)))):
        drawn = torch.randint(clips, (len(part), clips), generator=generator)
        times = torch.zeros(len(part), clips, dtype=torch.int64).scatter_add_(1, drawn, torch.ones_like(drawn))
        medians.append(_weighted_median(ranks, times[:, clip]))
    low, high = torch.cat(medians).quantile(ENDS).tolist()
    value = float(_weighted_median(ranks, torch.ones(1, len(ranks), dtype=torch.int64)))
    return Result(value, low, high, chance, len(ranks))


def _weighted_median(values: Tensor, times: Tensor) -> Tensor:
    """The median of values, (C,) upwards, each taken so many times, (S, C): (S,)."""
    total = times.cumsum(1)
    size = total[:, -1:]
    middle = torch.cat([(size - 1) // 2, size // 2], 1) + 1
    places = torch.searchsorted(total, middle)
    return values[places].mean(1)


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
