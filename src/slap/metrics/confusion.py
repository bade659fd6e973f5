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
    """

    classes: tuple[str, ...]
    counts: Tensor


def count_confusions(truth: Tensor, predicted: Tensor, classes: Sequence[str]) -> Confusion:
    """Count the clips of each pair of classes.

    Args:
        truth: (n,) int64, the class of each clip.
        predicted: (n,) int64.
        classes: names of the K classes.

    Example:
        >>> count_confusions(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), ["cat", "dog"]).counts.tolist()
        [[1, 1], [0, 1]]
    """
    counts = torch.zeros(len(classes), len(classes), dtype=torch.int64)
    counts.index_put_((truth, predicted), torch.ones_like(truth), accumulate=True)
    return Confusion(tuple(classes), counts)
