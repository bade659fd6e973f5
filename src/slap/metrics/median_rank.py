"""Median ranks of retrieval, with confidence intervals and chance.

B clips, C captions, Q clips with a caption, S bootstrap samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slap.core.errors import UserError
from slap.metrics.bootstrap import MetricValue, percentile_interval, times_drawn


def median_ranks(text_ranks: Tensor, audio_ranks: Tensor, clip: Tensor, clips: int) -> dict[str, MetricValue]:
    """Compute `t2a_median_rank`, over captions, and `a2t_median_rank`, over clips; ranks from 1, not in percent.

    Args:
        text_ranks: (C,) int64, for each caption the rank of its clip, from 0.
        audio_ranks: (Q,) int64, for each clip with a caption the best rank of its captions, from 0.
        clip: (C,) int64, the clip of each caption; clips are numbered in the order of their ids.
        clips: B.
    """
    _, place = clip.unique(return_inverse=True)
    best = chance_best_rank(len(clip), place.bincount())
    return {
        "t2a_median_rank": median_rank(text_ranks, place, (clips + 1) / 2),
        "a2t_median_rank": median_rank(audio_ranks, torch.arange(len(audio_ranks)), best),
    }


def median_rank(ranks: Tensor, clip: Tensor, chance: float, seed: int = 0) -> MetricValue:
    """Compute the median rank, from 1, with its interval over clips; neither is in percent.

    Args:
        ranks: (C,) int64, from 0.
        clip: (C,) int64, the clip of each rank, counted from 0 without gaps; a clip is drawn with all its ranks.
        chance: the median that guessing reaches.
        seed: seed of the bootstrap.

    Raises:
        ValueError: there are no ranks.
    """
    if not len(ranks):
        raise UserError("no ranks to take the median of")
    order = ranks.argsort(stable=True)
    ranks, clip = ranks[order].double() + 1, clip[order]

    def medians(drawn: Tensor) -> Tensor:
        return _weighted_median(ranks, times_drawn(drawn)[:, clip])

    low, high = percentile_interval(medians, int(clip.max()) + 1, seed, width=len(ranks))
    value = float(_weighted_median(ranks, torch.ones(1, len(ranks), dtype=torch.int64)))
    return MetricValue(value, low, high, chance, len(ranks))


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
