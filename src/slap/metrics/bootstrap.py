"""Bootstrap confidence intervals: the one resampling behind every metric.

n clips, C queries, F folds, S bootstrap samples.

Clips are drawn by number, and their numbers follow the order of their ids. So the same clips have the same interval
whatever the order they came in, whatever their number of processes, and whichever command computes the metric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from slap.core.errors import UserError

SAMPLES = 2000
"""S, bootstrap samples per interval."""

DRAWS_IN_MEMORY = 1_000_000
"""Drawn clips, over all bootstrap samples, that are held in memory at a time: 8 MB."""

QUANTILES = torch.tensor([0.025, 0.975], dtype=torch.float64)


@dataclass(frozen=True)
class MetricValue:
    """One metric over a set of clips, in percent unless it is a rank.

    Attributes:
        value: the metric, 0 to 100.
        low: lower end of its 95 % confidence interval.
        high: upper end of its 95 % confidence interval.
        chance: the value that guessing reaches.
        count: queries or clips behind the value.
    """

    value: float
    low: float
    high: float
    chance: float
    count: int


def order_of(ids: Sequence[str]) -> Tensor:
    """Return the rows of clips in the order of their ids, (n,) int64.

    Example:
        >>> order_of(["b", "c", "a"]).tolist()
        [2, 0, 1]
    """
    return torch.tensor(sorted(range(len(ids)), key=lambda row: (ids[row], row)), dtype=torch.int64)


def percentile_interval(
    statistic: Callable[[Tensor], Tensor], clips: int, seed: int = 0, samples: int | None = None, width: int = 1
) -> tuple[float, float]:
    """Compute the 95 % percentile bootstrap interval of a statistic of clips.

    Args:
        statistic: takes the drawn clips, (s, n) int64, for some of the samples, and returns the statistic of each
            sample, (s,). Samples in which it is NaN are left out.
        clips: n; the clips are numbered in the order of their ids, see `order_of`.
        seed: seed of the bootstrap.
        samples: S. Default: `SAMPLES`.
        width: numbers that the statistic holds per sample, where they are more than n.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for part in torch.arange(samples or SAMPLES).split(max(1, DRAWS_IN_MEMORY // max(clips, width))):
        found.append(statistic(torch.randint(clips, (len(part), clips), generator=generator)))
    low, high = torch.cat(found).double().nanquantile(QUANTILES).tolist()
    return low, high


def times_drawn(drawn: Tensor, dtype: torch.dtype = torch.int64) -> Tensor:
    """Count the times that each clip is in each sample: (s, n) int64 to (s, n)."""
    ones = torch.ones_like(drawn, dtype=dtype)
    return torch.zeros_like(ones).scatter_add_(1, drawn, ones)


def mean_over_clips(values: Tensor, clip: Tensor, chance: float, seed: int = 0) -> MetricValue:
    """Compute the mean over queries, in percent, with its interval over clips.

    Clips are drawn with all their queries: five captions of one clip are not five independent observations.

    Args:
        values: (C,) hits as bool, or numbers from 0 to 1, one per query.
        clip: (C,) int64, the clip of each query; clips are numbered from 0 without gaps, in the order of their ids.
        chance: the value that guessing reaches, in percent.
        seed: seed of the bootstrap.

    Raises:
        ValueError: there are no queries.
    """
    if not len(values):
        raise UserError("no queries to average over")
    clips = int(clip.max()) + 1
    sums = torch.zeros(clips, dtype=torch.float64).index_add_(0, clip, values.double())
    counts = torch.zeros(clips, dtype=torch.float64).index_add_(0, clip, torch.ones(len(values), dtype=torch.float64))
    low, high = percentile_interval(lambda drawn: sums[drawn].sum(1) / counts[drawn].sum(1), clips, seed)
    return MetricValue(100 * values.double().mean().item(), 100 * low, 100 * high, chance, len(values))


def mean_over_folds(values: Tensor, chance: float, count: int, seed: int = 0) -> MetricValue:
    """Compute the mean over folds, in percent, with its interval over folds.

    Args:
        values: (F,) values from 0 to 1, in the order of the folds' numbers.
        chance: the value that guessing reaches, in percent.
        count: clips of all folds.
        seed: seed of the bootstrap.

    Raises:
        ValueError: there are no folds.
    """
    if not len(values):
        raise UserError("no folds to average over")
    values = values.double()
    low, high = percentile_interval(lambda drawn: values[drawn].mean(1), len(values), seed)
    return MetricValue(100 * values.mean().item(), 100 * low, 100 * high, chance, count)
