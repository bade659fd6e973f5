"""A figure with what it takes to trust it.

N clips, S bootstrap samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SAMPLES = 2000
"""S: bootstrap samples behind an interval."""

AT_ONCE = 1_000_000
"""Draws of all samples that are held in memory together."""


@dataclass(frozen=True)
class MetricValue:
    """One metric over a set of clips, in percent.

    Attributes:
        value: the metric, 0 to 100.
        low: lower end of the 95 % bootstrap interval over clips.
        high: its upper end.
        chance: what guessing reaches.
        count: the queries or clips behind the value.
    """

    value: float
    low: float
    high: float
    chance: float
    count: int


def bootstrapped(hits: Tensor, clip: Tensor, chance: float, seed: int = 0) -> MetricValue:
    """The mean over queries, of hits their share, with its 95 % percentile interval over clips.

    Clips are drawn with all their hits: five captions of one clip are not five independent observations.

    Args:
        hits: (C,) bool, or numbers from 0 to 1, one a query.
        clip: (C,) int64, the clip of each query, counted from 0 without gaps.
        chance: what guessing reaches, in percent.
        seed: of the bootstrap.
    """
    if not len(hits):
        raise ValueError("no queries to average over")
    clips = int(clip.max()) + 1
    sums = torch.zeros(clips, dtype=torch.float64).index_add_(0, clip, hits.double())
    counts = torch.zeros(clips, dtype=torch.float64).index_add_(0, clip, torch.ones(len(hits), dtype=torch.float64))
    generator = torch.Generator().manual_seed(seed)
    shares = []
    for part in torch.arange(SAMPLES).split(max(1, AT_ONCE // clips)):
        drawn = torch.randint(clips, (len(part), clips), generator=generator)
        shares.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    low, high = torch.cat(shares).nanquantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return MetricValue(100 * hits.double().mean().item(), 100 * low, 100 * high, chance, len(hits))
