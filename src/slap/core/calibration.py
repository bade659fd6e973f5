"""Calibration: probabilities from cosines.

n clips, K labels or texts.

The sigmoid objective learns a scale and a bias so that sigmoid(scale x cosine + bias) is the probability that a text
belongs to a clip. The contrastive objective learns a scale so that softmax(scale x cosine) is the probability that a
text of the batch belongs to a clip. Among other texts than a training batch this is a share of one text among those
given, and no probability: with few labels it is often overconfident, and one label always has a large share, even if
none of them is heard.

Labeled clips turn cosines into probabilities for clips and labels like these: `Calibration.fit` finds the scale (the
inverse temperature) of a softmax where exactly one label is right (temperature scaling, arXiv 1706.04599),
`slap.core.platt` a probability for each label by itself, so that none may be right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from slap.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

C = TypeVar("C", np.ndarray, "Tensor")
"""The kind of cosines, and of the probabilities that are made of them."""

SCALES = (0.1, 1000.0)
"""Smallest and largest scale that `fit` tries."""

UNCALIBRATED = (
    "this model has learned no probability of a text by itself; fit one to labeled clips with `slap calibrate MODEL "
    "MANIFEST`, or train with the objective `sigmoid`"
)


@dataclass(frozen=True)
class Calibration:
    """The conversion of a model's cosines to probabilities.

    Attributes:
        kind: `softmax`: exactly one of the texts belongs to a clip, and probabilities sum to 1. `sigmoid`: each text
            belongs to it or not.
        scale: factor on the cosines; the inverse temperature.
        bias: bias of the scaled cosines; without effect in a softmax.
        fitted: True if it was fitted to labeled clips, and not learned in training.
        labels: biases of single labels, in place of `bias`.
        prompts: templates of the labels to which it was fitted; empty is any.
        texts: scale and bias for texts without a prompt, such as queries of a search; None if they are those of labels.

    Example:
        >>> Calibration("softmax", 10.0).shares(np.array([[0.5, 0.3]])).round(3).tolist()
        [[0.881, 0.119]]
    """

    kind: Literal["softmax", "sigmoid"]
    scale: float
    bias: float = 0.0
    fitted: bool = False
    labels: Mapping[str, float] = field(default_factory=dict, hash=False)
    prompts: tuple[str, ...] = ()
    texts: tuple[float, float] | None = None

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Calibration:
        """Make it of plain data, as `plain` gives it.

        Raises:
            TypeError, ValueError, KeyError: they are none.
        """
        texts = values.get("texts")
        found = cls(**{**values, "prompts": tuple(values.get("prompts", ())), "texts": tuple(texts) if texts else None})
        numbers = (found.scale, found.bias, *found.labels.values(), *(found.texts or ()))
        if found.kind not in ("softmax", "sigmoid") or not all(isinstance(number, int | float) for number in numbers):
            raise ValueError(f"it is no calibration: {values}")
        return found

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @property
    def independent(self) -> bool:
        """True if a text's probability does not depend on the other texts: one pair has a probability of its own."""
        return self.kind == "sigmoid"

    def of_prompts(self, prompts: Sequence[str]) -> Calibration | None:
        """Return the rule for labels in prompts; None if it was fitted with others."""
        return self if not self.prompts or self.prompts == tuple(prompts) else None

    @property
    def of_texts(self) -> Calibration | None:
        """The rule for texts that are no labels in prompts; None if it has none, and where texts depend on others."""
        if not self.independent:
            return None
        if self.texts is None:
            return None if self.prompts else self
        return Calibration("sigmoid", *self.texts, fitted=self.fitted)

    def probabilities(self, cosines: C, labels: Sequence[str] = ()) -> C | None:
        """Convert cosines, (n, K), to probabilities, (n, K), an array to an array, and a tensor to a tensor.

        None if they can only be converted to `shares`.

        Args:
            cosines: of clips and texts.
            labels: the K labels, some of which may have a bias of their own.
        """
        if not self.independent:
            return self.shares(cosines) if self.fitted else None
        return _like(cosines, np.exp(-np.logaddexp(0, -self._logits(cosines, labels))))

    def shares(self, cosines: C) -> C | None:
        """Convert cosines, (n, K), to shares of each text among those given, (n, K), which sum to 1.

        None for probabilities that are independent of other texts.
        """
        if self.independent:
            return None
        logits = self._logits(cosines, ())
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return _like(cosines, powers / powers.sum(1, keepdims=True))

    def _logits(self, cosines: np.ndarray | Tensor, labels: Sequence[str]) -> np.ndarray:
        values = cosines if isinstance(cosines, np.ndarray) else cosines.detach().float().cpu().numpy()
        biases = [self.labels.get(label, self.bias) for label in labels] if self.labels and labels else self.bias
        logits: np.ndarray = np.float32(self.scale) * values + np.asarray(biases, np.float32)
        return logits

    @staticmethod
    def fit(cosines: Tensor, truth: Tensor) -> Calibration:
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
        return Calibration("softmax", float(((low + high) / 2).exp()), fitted=True)


def _like(cosines: C, values: np.ndarray) -> C:
    """Return an array in the kind of the cosines from which it was computed."""
    if isinstance(cosines, np.ndarray):
        return values.astype(cosines.dtype, copy=False)
    import torch

    return torch.from_numpy(values).to(cosines.device)


def _loss(cosines: Tensor, truth: Tensor, log_scale: Tensor) -> float:
    from torch.nn.functional import cross_entropy

    return float(cross_entropy(cosines.double() * log_scale.exp(), truth))
