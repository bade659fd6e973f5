"""Accuracy of single-label classification, pooled or over folds, with confidence intervals and chance.

n clips, K classes. For clips with several labels see `slap.metrics.average_precision`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from slap.core.errors import UserError
from slap.metrics.bootstrap import MetricValue, mean_over_clips, mean_over_folds, order_of
from slap.metrics.confusion import Confusion, count_confusions

OVER_FOLDS = {
    "accuracy": "mean over the folds' accuracies; interval over folds",
    "accuracy_pooled": "share of clips whose nearest class is theirs, all clips together; interval over clips",
}
POOLED = {"accuracy": OVER_FOLDS["accuracy_pooled"]}
MAP = {
    "mAP": "macro mean over classes of average precision (area under the precision-recall steps), but for classes "
    "that no clip has"
}
"""How each metric is computed, in words: with folds, without them, and of clips with several labels."""


@dataclass(frozen=True)
class ClassificationResult:
    """The metrics of single-label classification, and what plots need.

    Attributes:
        metrics: `accuracy`; with folds the mean over them, and `accuracy_pooled`. In percent.
        confusion: the confusion matrix.
        hits: (n,) bool, the clips that are classified right, in the order in which they were given.
    """

    metrics: dict[str, MetricValue]
    confusion: Confusion
    hits: Tensor


def classification_metrics(
    scores: Tensor,
    truth: Tensor,
    classes: Sequence[str],
    ids: Sequence[str] | None = None,
    folds: Sequence[int | None] | None = None,
) -> ClassificationResult:
    """Compute accuracy: the share of clips whose highest score is that of their class.

    Args:
        scores: (n, K), any numbers.
        truth: (n,) int64, the class of each clip.
        classes: names of the K classes.
        ids: n ids of the clips, which are put in their order. Default: the clips are in that order.
        folds: n numbers of folds, where the protocol is a mean over folds.

    Raises:
        ValueError: a clip has no fold, or there are no clips.

    Example:
        >>> scores = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
        >>> result = classification_metrics(scores, torch.tensor([0, 1, 1]), ["cat", "dog"], ["a", "b", "c"])
        >>> round(result.metrics["accuracy"].value, 1), result.confusion.counts.tolist()
        (66.7, [[1, 0], [1, 1]])
    """
    predicted = scores.argmax(1)
    hits = predicted == truth
    order = torch.arange(len(hits)) if ids is None else order_of(ids)
    pooled = mean_over_clips(hits[order], torch.arange(len(hits)), 100 / len(classes))
    metrics = {"accuracy": pooled} if folds is None else {"accuracy": _over_folds(hits, folds, 100 / len(classes))}
    if folds is not None:
        metrics["accuracy_pooled"] = pooled
    return ClassificationResult(metrics, count_confusions(truth, predicted, classes), hits)


def _over_folds(hits: Tensor, folds: Sequence[int | None], chance: float) -> MetricValue:
    numbers = [fold for fold in folds if fold is not None]
    if len(numbers) < len(folds):
        raise UserError(f"{len(folds) - len(numbers)} of the clips have no fold, but the protocol is a mean over folds")
    fold = torch.tensor(numbers)
    values = torch.stack([hits[fold == number].double().mean() for number in fold.unique()])
    return mean_over_folds(values, chance, len(hits))
