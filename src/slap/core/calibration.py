"""Calibration: probabilities from cosines.

n clips, K labels or texts.

The contrastive objective learns a scale so that softmax(scale x cosine) is the probability that a text of the batch
belongs to a clip. The sigmoid objective learns a scale and a bias so that sigmoid(scale x cosine + bias) is the
probability that a text belongs to a clip. These probabilities are calibrated for the training data and for as many
candidates as a training batch has: with few labels, softmax is often overconfident. `fit` finds the scale (the inverse
temperature) that suits other labeled clips (temperature scaling, arXiv 1706.04599).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from slap.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Cosines = TypeVar("Cosines", np.ndarray, "Tensor")

SCALES = (0.1, 1000.0)
"""Smallest and largest scale that `fit` tries."""


@dataclass(frozen=True)
class Calibration:
    """The conversion of a model's cosines to probabilities.

    Attributes:
        kind: `softmax`: exactly one of the texts belongs to a clip, and probabilities sum to 1. `sigmoid`: each text
            belongs to it or not.
        scale: factor on the cosines; the inverse temperature.
        bias: bias of the scaled cosines; without effect in a softmax.

    Example:
        >>> Calibration("softmax", 10.0).probabilities(np.array([[0.5, 0.3]])).round(3).tolist()
        [[0.881, 0.119]]
    """

    kind: Literal["softmax", "sigmoid"]
    scale: float
    bias: float = 0.0

    @property
    def independent(self) -> bool:
        """True if a text's probability does not depend on the other texts: one pair has a probability of its own."""
        return self.kind == "sigmoid"

    def probabilities(self, cosines: Cosines) -> Cosines:
        """Convert cosines, (n, K), to probabilities, (n, K): an array to an array, a tensor to a tensor."""
        if isinstance(cosines, np.ndarray):
            return self._of_array(cosines)
        logits = self.scale * cosines.float() + self.bias
        return logits.softmax(1) if self.kind == "softmax" else logits.sigmoid()

    def _of_array(self, cosines: np.ndarray) -> np.ndarray:
        logits = self.scale * cosines + self.bias
        if self.kind == "sigmoid":
            return np.exp(-np.logaddexp(0, -logits))
        powers: np.ndarray = np.exp(logits - logits.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)

    def fit(self, cosines: Tensor, truth: Tensor) -> Calibration:
        """Find the softmax whose scale maximizes the likelihood of labeled clips.

        The order of the labels, and so the accuracy, does not change.

        Args:
            cosines: (n, K).
            truth: (n,) int64, the right label of each clip.

        Raises:
            ValueError: there are no clips, fewer than two labels, or cosines that are not finite.
        """
        import torch

        if cosines.dim() != 2 or cosines.shape[0] < 1 or cosines.shape[1] < 2:
            raise UserError(f"a scale is fitted to cosines of clips and 2 or more labels; got {tuple(cosines.shape)}")
        bad = int((~cosines.isfinite()).any(1).sum())
        if bad:
            raise UserError(f"{bad} of {len(cosines)} clips have cosines that are not finite; no scale fits them")
        # The loss is convex in the scale: a ternary search over its logarithm finds the minimum.
        low, high = (torch.tensor(edge, dtype=torch.float64).log() for edge in SCALES)
        for _ in range(60):
            first, second = low + (high - low) / 3, high - (high - low) / 3
            if _loss(cosines, truth, first) < _loss(cosines, truth, second):
                high = second
            else:
                low = first
        return replace(self, kind="softmax", scale=float(((low + high) / 2).exp()), bias=0.0)


def _loss(cosines: Tensor, truth: Tensor, log_scale: Tensor) -> float:
    from torch.nn.functional import cross_entropy

    return float(cross_entropy(cosines.double() * log_scale.exp(), truth))
