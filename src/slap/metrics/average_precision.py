"""Average precision of multi-label classification, as AudioSet and FSD50K are judged.

N clips, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor


def average_precision(scores: Tensor, truth: Tensor) -> Tensor:
    """The area under each class's precision-recall steps, the same as scikit-learn's `average_precision_score`.

    Only the order of a class's scores counts, so cosines, logits of any size and probabilities do; a sigmoid in single
    precision would tie large logits, as torchmetrics' does. Equal scores are one step.

    Args:
        scores: (N, K), any numbers but NaN.
        truth: (N, K) bool, the classes that each clip has.

    Returns:
        (K,) float64, 0 to 1; NaN for a class that no clip has.

    Raises:
        ValueError: the shapes differ, or a score is NaN.

    Example:
        >>> average_precision(torch.tensor([[900.0], [901.0], [-3.0]]), torch.tensor([[True], [False], [True]]))
        tensor([0.5833], dtype=torch.float64)
    """
    if scores.shape != truth.shape or scores.dim() != 2:
        raise ValueError(f"scores and truth must be (clips, classes); got {[*scores.shape]} and {[*truth.shape]}")
    if scores.isnan().any():
        clip, label = scores.isnan().nonzero()[0].tolist()
        raise ValueError(f"the score of clip {clip} for class {label} is not a number")
    return torch.stack([_of_class(scores[:, k], truth[:, k].bool()) for k in range(scores.shape[1])])


def mean_average_precision(scores: Tensor, truth: Tensor) -> float:
    """The mean of `average_precision` over the classes that any clip has: macro mAP, 0 to 1.

    Raises:
        ValueError: as `average_precision`, or no clip has any class.
    """
    each = average_precision(scores, truth)
    if each.isnan().all():
        raise ValueError("no clip has any of the classes, so there is nothing to average")
    return each.nanmean().item()


def _of_class(scores: Tensor, truth: Tensor) -> Tensor:
    """(N,) and (N,) -> a scalar."""
    scores, order = scores.sort(descending=True, stable=True)
    hits = truth[order].cumsum(0).double()
    ends = torch.cat([scores[1:] != scores[:-1], torch.ones_like(truth[:1])])  # the last of each run of equal scores
    hits, places = hits[ends], ends.nonzero().squeeze(1) + 1
    gained = hits.diff(prepend=hits.new_zeros(1))
    return (gained * hits / places).sum() / hits[-1]
