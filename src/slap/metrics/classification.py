"""Accuracy of single-label classification, pooled or over folds, with confidence intervals and chance.

n clips, K classes. For clips with several labels see `slap.metrics.average_precision`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from slap.core.errors import UserError
from slap.metrics.bootstrap import MetricValue, kind_of, mean_over_clips, mean_within_folds, order_of, units_of
from slap.metrics.confusion import Confusion, count_confusions
from slap.metrics.finite import best_class, finite_rows
from slap.metrics.paired import Answers
from slap.metrics.runs import mean_over_folds

POOLED = {"accuracy": "share of clips whose best class is theirs, all clips together"}
OVER_FOLDS = {"accuracy": "mean over the folds' accuracies", "accuracy_pooled": POOLED["accuracy"]}
MAP = {
    "mAP": "macro mean over classes of average precision (area under the precision-recall steps), but for classes "
    "that no clip has"
}
"""How each metric is computed, in words: without folds, with them, and of clips with several labels."""


@dataclass(frozen=True)
class ClassificationResult:
    """The metrics of single-label classification, and what plots need.

    Attributes:
        metrics: `accuracy`; with folds the mean over them, and `accuracy_pooled`. In percent.
        confusion: the confusion matrix.
        hits: (n,) bool, the clips that are classified right, in the order in which they were given.
        lost: the numbers of the clips with a score that is not finite; it ranks last, and without any other the clip
            counts as wrong.
        answers: what is behind each metric, for its change to another condition, see `slap.metrics.paired`.
    """

    metrics: dict[str, MetricValue]
    confusion: Confusion
    hits: Tensor
    lost: tuple[int, ...] = ()
    answers: Mapping[str, Answers] = field(default_factory=dict)


def classification_metrics(
    scores: Tensor,
    truth: Tensor,
    classes: Sequence[str],
    ids: Sequence[str] | None = None,
    folds: Sequence[int | None] | None = None,
    origins: Sequence[str] | None = None,
    learned: bool = False,
) -> ClassificationResult:
    """Compute accuracy: the share of clips whose highest score is that of their class.

    Args:
        scores: (n, K), any numbers.
        truth: (n,) int64, the class of each clip.
        classes: names of the K classes.
        ids: n ids of the clips, which are put in their order. Default: the clips are in that order.
        folds: n numbers of folds, where the protocol is a mean over folds.
        origins: the origin of each clip, over which intervals are, see `slap.metrics.bootstrap.units_of`.
        learned: whether each fold was scored by what was learned from the others, so that folds differ by more than
            their clips; then there is no interval for fewer than two folds.

    Raises:
        ValueError: a clip has no fold, or there are no clips.

    Example:
        >>> scores = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
        >>> result = classification_metrics(scores, torch.tensor([0, 1, 1]), ["cat", "dog"], ["a", "b", "c"])
        >>> round(result.metrics["accuracy"].value, 1), result.confusion.counts.tolist()
        (66.7, [[1, 0], [1, 1]])
    """
    predicted = best_class(scores)
    hits = predicted == truth
    order = torch.arange(len(hits)) if ids is None else order_of(ids)
    unit = units_of(origins, order)
    chance = 100 / len(classes)
    pooled = mean_over_clips(hits[order], unit, chance, over=kind_of(unit))
    metrics, answers = {"accuracy": pooled}, {"accuracy": Answers(hits[order], unit, kind_of(unit))}
    if folds is not None:
        fold = _numbers(folds)[order]
        make = _learned if learned else mean_within_folds
        metrics = {"accuracy": make(hits[order], unit, fold, chance), "accuracy_pooled": pooled}
        own = Answers(hits[order], unit, metrics["accuracy"].over, fold)
        answers = {"accuracy": own, "accuracy_pooled": answers["accuracy"]}
    lost = (~finite_rows(scores)).nonzero().flatten().tolist()
    return ClassificationResult(metrics, count_confusions(truth, predicted, classes), hits, tuple(lost), answers)


def _learned(hits: Tensor, unit: Tensor, fold: Tensor, chance: float) -> MetricValue:
    del unit  # a fold counts by its mean alone
    values = torch.stack([hits[fold == number].double().mean() for number in fold.unique()])
    return mean_over_folds(values, chance, len(hits))


def _numbers(folds: Sequence[int | None]) -> Tensor:
    numbers = [fold for fold in folds if fold is not None]
    if len(numbers) < len(folds):
        raise UserError(f"{len(folds) - len(numbers)} of the clips have no fold, but the protocol is a mean over folds")
    return torch.tensor(numbers)
