"""Median ranks of retrieval, with confidence intervals and chance.

C captions, Q clips with a caption, S bootstrap samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slap.core.errors import UserError
from slap.metrics.bootstrap import MetricValue, percentile_interval, times_drawn


def median_rank(
    ranks: Tensor, unit: Tensor, chance: float, seed: int = 0, best: Tensor | None = None, over: str = "clips"
) -> MetricValue:
    """Compute the median rank, from 1, with its interval over units; neither is in percent.

    Args:
        ranks: (C,) int64, from 0.
        unit: (C,) int64, the unit of each rank, counted from 0 without gaps; a unit is drawn with all its ranks.
        chance: the median that guessing reaches.
        seed: seed of the bootstrap.
        best: (C,) int64, the least ranks that can be reached, from 0. Default: all 0.
        over: the word for the units, see `slap.metrics.bootstrap.MetricValue`.

    Raises:
        ValueError: there are no ranks.
    """
    if not len(ranks):
        raise UserError("no ranks to take the median of")
    order = ranks.argsort(stable=True)
    values, unit = ranks[order].double() + 1, unit[order]

    def medians(drawn: Tensor) -> Tensor:
        return _weighted_median(values, times_drawn(drawn)[:, unit])

    low, high = percentile_interval(medians, int(unit.max()) + 1, seed, width=len(ranks))
    least = 1.0 if best is None else _median(best)
    return MetricValue(_median(ranks), low, high, chance, len(ranks), least, over)


def _median(ranks: Tensor) -> float:
    """Return the median of ranks, (C,) int64, counted from 1."""
    return float(_weighted_median(ranks.sort().values.double() + 1, torch.ones(1, len(ranks), dtype=torch.int64)))


def _weighted_median(values: Tensor, times: Tensor) -> Tensor:
    """Return the median of values, (C,) ascending, each counted so many times, (S, C): (S,)."""
    total = times.cumsum(1)
    size = total[:, -1:]
    middle = torch.cat([(size - 1) // 2, size // 2], 1) + 1
    places = torch.searchsorted(total, middle)
    return values[places].mean(1)


def chance_best_rank(captions: int, sizes: Tensor) -> float:
    """Compute the median over random orders of the best rank, from 1, of a clip's captions.

    Args:
        captions: C.
        sizes: (Q,) int64, the number of captions of each clip.
    """
    kinds, frequency = sizes.unique(return_counts=True)
    weights = frequency.double() / frequency.sum()
    missed = torch.ones(len(kinds), dtype=torch.float64)  # the probability that none is among the first `rank`
    for rank in range(1, captions + 1):
        missed *= (1 - kinds.double() / (captions - rank + 1)).clamp(min=0)
        if 1 - float((weights * missed).sum()) >= 0.5:
            return float(rank)
    return float(captions)
