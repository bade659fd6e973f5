"""Reliability of probabilities: whether of the pairs with a probability of 0.8 four in five are right.

n pairs of a clip and a text, B bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from slap.core.errors import UserError

BINS = 10
"""B."""


@dataclass(frozen=True)
class Bin:
    """The pairs whose probabilities lie between two numbers.

    Attributes:
        low: the smaller number, included.
        high: the larger number, included in the last bin alone.
        count: number of pairs.
        probability: their mean probability; NaN without pairs.
        right: the share of them that are right; NaN without pairs.
    """

    low: float
    high: float
    count: int
    probability: float
    right: float


def reliability(probabilities: Tensor, truth: Tensor, bins: int = BINS) -> list[Bin]:
    """Compare probabilities, (n,), with what is right, (n,) bool, in bins of equal width.

    Raises:
        ValueError: there are no pairs, or a probability is none.

    Example:
        >>> for bin in reliability(torch.tensor([0.1, 0.3, 0.9, 0.7]), torch.tensor([0, 1, 1, 1]), bins=2):
        ...     print(bin.count, round(bin.probability, 2), bin.right)
        2 0.2 0.5
        2 0.8 1.0
    """
    values, right = probabilities.double().flatten(), truth.double().flatten()
    if len(values) != len(right) or not len(values):
        raise UserError(f"as many probabilities as truths are compared, and some; got {len(values)} and {len(right)}")
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise UserError("a probability is not finite or not from 0 to 1")
    place = (values * bins).long().clamp(max=bins - 1)
    count = torch.bincount(place, minlength=bins)
    mean, share = (torch.bincount(place, one, minlength=bins) / count for one in (values, right))
    return [
        Bin(number / bins, (number + 1) / bins, *row)
        for number, row in enumerate(zip(count.tolist(), mean.tolist(), share.tolist(), strict=True))
    ]


def calibration_error(bins: list[Bin]) -> float:
    """Compute the expected calibration error, 0 to 1: the mean distance of probability and share over all pairs.

    It is ECE of arXiv 1706.04599, for the probabilities of pairs.
    """
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.probability - one.right) for one in bins if one.count) / total
