"""Logistic regression, the linear probe: as scikit-learn's, in the framework's own arithmetic and on its devices.

n clips, E features, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from slap.core.errors import UserError

ITERATIONS = 1000
TOLERANCE = 1e-8
"""Gradient of the mean loss at which the fit ends."""


@dataclass(frozen=True)
class Logistic:
    """A fitted regression.

    Attributes:
        weight: (K, E) float64.
        bias: (K,) float64.
    """

    weight: Tensor
    bias: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """Logits of the classes, (n, E) -> (n, K) float64."""
        return features.double() @ self.weight.T + self.bias


def fit_logistic(
    features: Tensor, truth: Tensor, strength: float, multilabel: bool = False, begin: Logistic | None = None
) -> Logistic:
    """Minimize `strength` x the sum of the clips' losses + half the squared norm of the weights; biases are free.

    That is what `sklearn.linear_model.LogisticRegression(C=strength)` minimizes: cross-entropy over the classes, or,
    where clips may have several, for each class a binary regression of its own (`OneVsRestClassifier`). The problem is
    convex, so where the search begins changes nothing but the time.

    Args:
        features: (n, E).
        truth: (n, K) bool, the classes of each clip; exactly one each unless `multilabel`.
        strength: C, the inverse of the regularization.
        multilabel: whether a clip may have several classes.
        begin: a fit to begin from, e.g. of a near strength.

    Raises:
        ValueError: there are no clips, `strength` is not above 0, or a clip has not exactly one class.
    """
    if not len(features) or features.shape[0] != truth.shape[0]:
        raise UserError(f"features and truth must be of the same clips, one or more; got {len(features)}, {len(truth)}")
    if not strength > 0:
        raise UserError(f"the strength must be above 0, got {strength}")
    if not multilabel and not bool((truth.sum(1) == 1).all()):
        raise UserError("each clip must have exactly one class; with several it is a multi-label problem")
    features, clips, classes = features.double(), len(features), truth.shape[1]
    weight = features.new_zeros(classes, features.shape[1]) if begin is None else begin.weight.clone()
    bias = features.new_zeros(classes) if begin is None else begin.bias.clone()
    weight.requires_grad_()
    bias.requires_grad_()
    target = truth.to(features) if multilabel else truth.int().argmax(1)
    search = torch.optim.LBFGS(
        [weight, bias],
        max_iter=ITERATIONS,
        tolerance_grad=TOLERANCE,
        tolerance_change=0.0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        search.zero_grad()
        logits = features @ weight.T + bias
        if multilabel:
            loss = binary_cross_entropy_with_logits(logits, target, reduction="sum")
        else:
            loss = cross_entropy(logits, target, reduction="sum")
        loss = loss / clips + weight.square().sum() / (2 * strength * clips)  # of order 1, whatever the set
        loss.backward()
        return loss

    with torch.enable_grad():
        search.step(closure)
    return Logistic(weight.detach(), bias.detach())
