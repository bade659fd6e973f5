"""How often each class was taken for which. K classes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Confusion:
    """How often each class was taken for which.

    Attributes:
        classes: their names, K of them.
        counts: (K, K) int64, true class by predicted class.
    """

    classes: tuple[str, ...]
    counts: Tensor
