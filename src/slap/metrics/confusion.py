"""Confusion matrix of single-label classification. n clips, K classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix.

    Attributes:
        classes: names of the K classes.
        counts: (K, K) int64, clips by true class and predicted class.
        without: (K,) int64, clips by true class that have no predicted class, since no score of them is finite.
    """

    classes: tuple[str, ...]
    counts: Tensor
    without: Tensor | None = None

    @property
    def clips(self) -> Tensor:
        """Clips of each class, (K,) int64."""
        return self.counts.sum(1) if self.without is None else self.counts.sum(1) + self.without


def count_confusions(truth: Tensor, predicted: Tensor, classes: Sequence[str]) -> Confusion:
    """Count the clips of each pair of classes.

    Args:
        truth: (n,) int64, the class of each clip.
        predicted: (n,) int64; -1 for none.
        classes: names of the K classes.

    Example:
        >>> count_confusions(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), ["cat", "dog"]).counts.tolist()
        [[1, 1], [0, 1]]
    """
    counts = torch.zeros(len(classes), len(classes), dtype=torch.int64)
    known = predicted >= 0
    counts.index_put_((truth[known], predicted[known]), torch.ones_like(truth[known]), accumulate=True)
    return Confusion(tuple(classes), counts, truth[~known].bincount(minlength=len(classes)))
