"""Paired changes of a metric: the same clips under two conditions, or by two models, with an interval over clips.

C queries, S bootstrap samples.

Both metrics are of the same queries, and each bootstrap sample draws the same units for both. So what makes some clips
harder than others, under either condition, does not widen the interval.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from slap.core.errors import UserError
from slap.metrics.bootstrap import MetricValue, middle, sampled_mean, unseen_share


@dataclass(frozen=True, eq=False)
class Answers:
    """The value of each query behind a mean, in the order of the clips' ids.

    Attributes:
        values: (C,) hits as bool, or numbers from 0 to 1.
        unit: (C,) int64, the unit of each query, see `slap.metrics.bootstrap.units_of`.
        over: the word for the units, see `MetricValue`.
        fold: (C,) int64, the number of each query's fold, where the metric is the mean over folds.
    """

    values: Tensor
    unit: Tensor
    over: str = "clips"
    fold: Tensor | None = None

    def change_to(self, after: Answers) -> MetricValue:
        """Compute the change of the mean, in points, from these answers to others of the same queries.

        Raises:
            ValueError: they are not of the same queries.

        Example:
            >>> import torch
            >>> unit = torch.arange(4)
            >>> before, after = Answers(torch.tensor([1, 1, 1, 0]), unit), Answers(torch.tensor([1, 0, 1, 0]), unit)
            >>> before.change_to(after).value
            -25.0
        """
        if len(after.values) != len(self.values):
            raise UserError(f"changes are of the same queries; got {len(self.values)} and {len(after.values)}")
        difference = after.values.double() - self.values.double()
        value, samples, units = sampled_mean(difference, self.unit, self.fold)
        return change_of(value, samples, units, len(difference), self.over)


def change_of(value: float, samples: Tensor, units: int, count: int, over: str) -> MetricValue:
    """Return a change as a metric in points.

    Where no sample differs, the interval is widened by the share that unseen units may have (Clopper and Pearson).

    Args:
        value: the change, -1 to 1.
        samples: (S,) the change in each bootstrap sample.
        units: number of units that are drawn.
        count: queries or clips behind it.
        over: the word for the units.
    """
    low, high = middle(samples)
    if low == high:  # all differ alike, most likely not at all
        low, high = max(low - unseen_share(units), -1.0), min(high + unseen_share(units), 1.0)
    return MetricValue(100 * value, 100 * low, 100 * high, 0.0, count, None, over)
