"""Average precision of multi-label classification, the metric of AudioSet and FSD50K, with its confidence interval.

n clips, K classes, S bootstrap samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from slap.core.errors import UserError
from slap.metrics import bootstrap
from slap.metrics.bootstrap import MetricValue, kind_of, middle, order_of, resampled, times_drawn, units_of
from slap.metrics.finite import last_unless_finite
from slap.metrics.paired import change_of

MAX_SCORES = 2_000_000_000
"""Scores that the bootstrap of an mAP goes through at most; large sets get fewer samples, see `samples_of`."""

MIN_SAMPLES = 200
"""Bootstrap samples of the largest sets."""


def average_precision(scores: Tensor, truth: Tensor) -> Tensor:
    """Compute the area under each class's precision-recall steps, as scikit-learn's `average_precision_score`.

    Only the order of a class's scores counts, so cosines, logits of any size and probabilities do; a sigmoid in single
    precision would tie large logits, as torchmetrics' does. Equal scores are one step; one that is not finite ranks
    last.

    Args:
        scores: (n, K), any numbers.
        truth: (n, K) bool, the classes that each clip has.

    Returns:
        (K,) float64, 0 to 1; NaN for a class that no clip has.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> average_precision(torch.tensor([[900.0], [901.0], [-3.0]]), torch.tensor([[True], [False], [True]]))
        tensor([0.5833], dtype=torch.float64)
    """
    if scores.shape != truth.shape or scores.dim() != 2:
        raise UserError(f"scores and truth must be (clips, classes); got {[*scores.shape]} and {[*truth.shape]}")
    scores = last_unless_finite(scores)
    return torch.stack([_of_class(scores[:, k], truth[:, k].bool()) for k in range(scores.shape[1])])


def _of_class(scores: Tensor, truth: Tensor) -> Tensor:
    """(n,) and (n,) -> a scalar."""
    scores, order = scores.sort(descending=True, stable=True)
    hits = truth[order].cumsum(0).double()
    ends = torch.cat([scores[1:] != scores[:-1], torch.ones_like(truth[:1])])  # the last of each run of equal scores
    hits, places = hits[ends], ends.nonzero().squeeze(1) + 1
    gained = hits.diff(prepend=hits.new_zeros(1))
    return (gained * hits / places).sum() / hits[-1]


def mean_average_precision(
    scores: Tensor,
    truth: Tensor,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    origins: Sequence[str] | None = None,
) -> tuple[MetricValue, Tensor]:
    """Compute macro mAP in percent, with its interval over clips, and the average precision of each class.

    Classes that no clip has are left out, also of each bootstrap sample.

    Args:
        scores: (n, K).
        truth: (n, K) bool.
        ids: n ids of the clips, which are put in their order. Default: the clips are in that order.
        seed: seed of the bootstrap.
        origins: the origin of each clip, over which the interval is, see `slap.metrics.bootstrap.units_of`.

    Returns:
        The metric, and (K,) float64, 0 to 1, NaN for a class that no clip has.

    Raises:
        ValueError: no clip has any class; or as `average_precision`.
    """
    found = MacroPrecision.of(scores, truth, ids, seed, origins)
    return found.metric, found.each


@dataclass(frozen=True, eq=False)
class MacroPrecision:
    """Scores behind a macro mAP, in the order of the clips' ids, and what is computed of them.

    Attributes:
        scores: (n, K), finite or minus infinity.
        truth: (n, K) bool.
        unit: (n,) int64, the unit of each clip, see `slap.metrics.bootstrap.units_of`.
        seed: seed of the bootstrap.
        each: (K,) float64, the average precision of each class, 0 to 1, NaN for a class that no clip has.
    """

    scores: Tensor
    truth: Tensor
    unit: Tensor
    seed: int
    each: Tensor

    @classmethod
    def of(
        cls,
        scores: Tensor,
        truth: Tensor,
        ids: Sequence[str] | None = None,
        seed: int = 0,
        origins: Sequence[str] | None = None,
    ) -> MacroPrecision:
        """Put clips in the order of their ids; for the arguments and errors see `mean_average_precision`."""
        scores = last_unless_finite(scores)
        order = torch.arange(len(scores)) if ids is None else order_of(ids)
        scores, truth = scores[order], truth[order]
        each = average_precision(scores, truth)
        if each.isnan().all():
            raise UserError("no clip has any of the classes, so there is nothing to average")
        return cls(scores, truth, units_of(origins, order), seed, each)

    @cached_property
    def samples(self) -> Tensor:
        """The mAP of each bootstrap sample, (S,), 0 to 1."""
        known = (~self.each.isnan()).nonzero().flatten().tolist()

        def means(drawn: Tensor) -> Tensor:
            times = times_drawn(drawn, torch.float32).T[self.unit].contiguous()
            sums, counts = torch.zeros(len(drawn), dtype=torch.float64), torch.zeros(len(drawn), dtype=torch.float64)
            for k in known:
                found = weighted_average_precision(self.scores[:, k], self.truth[:, k], times)
                sums += found.nan_to_num(0.0)
                counts += ~found.isnan()
            return sums / counts

        units, samples = int(self.unit.max()) + 1, samples_of(*self.scores.shape)
        return resampled(means, units, self.seed, samples, len(self.scores))

    @property
    def metric(self) -> MetricValue:
        """The mAP with its interval, in percent."""
        low, high = middle(self.samples)
        value, chance = self.each.nanmean().item(), 100 * chance_map(self.truth)
        return MetricValue(100 * value, 100 * low, 100 * high, chance, len(self.scores), over=kind_of(self.unit))

    def change_to(self, after: MacroPrecision) -> MetricValue:
        """Compute the change of mAP, in points, to other scores of the same clips, see `slap.metrics.paired`."""
        value = (after.each.nanmean() - self.each.nanmean()).item()
        units = int(self.unit.max()) + 1
        return change_of(value, after.samples - self.samples, units, len(self.scores), kind_of(self.unit))


def samples_of(clips: int, classes: int) -> int:
    """Return S for the mAP of a set: 2,000, and fewer for a large set, whose interval is narrow and needs fewer."""
    return max(MIN_SAMPLES, min(bootstrap.SAMPLES, MAX_SCORES // max(clips * classes, 1)))


def weighted_average_precision(scores: Tensor, truth: Tensor, times: Tensor) -> Tensor:
    """Compute the average precision of one class where each clip counts so many times.

    Args:
        scores: (n,).
        truth: (n,) bool.
        times: (n, S) whole numbers, up to 2^24 per sample; the result is that of repeating the clips.

    Returns:
        (S,) float64, NaN where no clip of the class is drawn.
    """
    scores, order = scores.sort(descending=True, stable=True)
    places = times[order].cumsum(0)  # the number drawn up to each
    right = truth[order].nonzero().squeeze(1)
    gained = times[order[right]].double()
    hits = gained.cumsum(0)
    # Equal scores are one step: the numbers of clips and of hits are those up to the last of them.
    last = torch.searchsorted(-scores, -scores[right], right=True) - 1
    hits_there = hits[torch.searchsorted(right, last, right=True) - 1]
    return (gained * hits_there / places[last].double().clamp(min=1)).sum(0) / hits[-1]


def chance_map(truth: Tensor) -> float:
    """Compute the mean of macro mAP over random orders, 0 to 1: exact, from the number of clips of each class."""
    clips = len(truth)
    positives = truth.sum(0).double()
    positives = positives[positives > 0]
    if clips < 2 or not len(positives):
        return 1.0
    harmonic = (1 / torch.arange(1, clips + 1, dtype=torch.float64)).sum()
    share = (positives - 1) / (clips - 1)  # the probability that another clip is of the class, given that one is
    return ((harmonic * (1 - share) + clips * share) / clips).mean().item()
