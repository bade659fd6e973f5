"""Zero-shot classification: the class whose prompts lie nearest to the clip; of clips with several classes, mAP.

n clips, K classes, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from slap.core.registry import register
from slap.evaluation.eval_set import EvalSet
from slap.evaluation.evaluated_model import Embeddings, EvaluatedModel
from slap.evaluation.plots import confusion_matrix, score_by_class, score_by_duration
from slap.evaluation.tasks.base import Progress, Task, TaskResult, result_of
from slap.metrics.bootstrap import MetricValue, bootstrapped
from slap.metrics.confusion import Confusion
from slap.metrics.intervals import mean_average_precision, over_folds, samples_of
from slap.metrics.zero_shot import class_embeddings

FOLDS = "mean over the folds' accuracies"
POOLED = "share of clips whose nearest class is theirs, all clips together"
MAP = (
    "macro mean over classes of average precision (area under the precision-recall steps), but for classes "
    "that no clip has"
)


@register("zeroshot")
class ZeroShot(Task):
    """Classify clips by the texts of their labels, untrained: accuracy, or mAP where clips have several labels."""

    uses = ("labels", "tags")
    headline = ("accuracy", "mAP")

    def run(self, subject: EvaluatedModel, data: EvalSet, progress: Progress) -> TaskResult:
        """Compare every clip with every class of the data set.

        Raises:
            ValueError: no clip can be used, there are fewer than two classes, or there are no prompts for the data set.
        """
        judged = data.part("test")
        prompts = subject.prompts.current
        groups = prompts.wording(data.worded_as).of(data.classes)  # what is wrong with them shows before audio is read
        if len(data.classes) < 2:
            raise ValueError(f"{data.name} has the classes {list(data.classes)}; it takes at least two to tell apart")
        features = subject.features(judged, progress)
        if not features.rows:
            raise ValueError(f"no clip of {data.name} can be used")
        embed: Callable[[list[str]], Tensor] = lambda texts: subject.text(texts, progress, f"{data.name}: prompts")  # noqa: E731
        scores = features.embeddings @ class_embeddings(groups, embed).T
        settings = {"prompts": prompts.record(data.worded_as), "classes": len(data.classes)}
        truth = judged.truth(features.rows)
        judge = _multi if data.multilabel else _single
        return judge(subject, judged, features, scores, truth, settings)


def _multi(
    subject: EvaluatedModel,
    data: EvalSet,
    features: Embeddings,
    scores: Tensor,
    truth: Tensor,
    settings: dict[str, object],
) -> TaskResult:
    figure, each = mean_average_precision(scores, truth)
    settings = {**settings, "bootstrap_samples": samples_of(*scores.shape)}
    result = result_of("zeroshot", subject, data, features, {"mAP": figure}, {"mAP": MAP}, settings)
    absent = int(each.isnan().sum())
    if absent:
        result.warnings.append(f"{absent} of the {len(data.classes)} classes have no clip and are left out of the mean")
    result.per_class = [
        {"class": name, "average_precision": None if value != value else 100 * value, "clips": count}
        for name, value, count in zip(data.classes, each.tolist(), truth.sum(0).tolist(), strict=True)
    ]
    known = [(row["class"], row["average_precision"], row["clips"]) for row in result.per_class if row["clips"]]
    result.plots["score_by_class.png"] = partial(score_by_class, known, f"{data.name}, average precision")
    return result


def _single(
    subject: EvaluatedModel,
    data: EvalSet,
    features: Embeddings,
    scores: Tensor,
    truth: Tensor,
    settings: dict[str, object],
) -> TaskResult:
    target, guess = truth.int().argmax(1), scores.argmax(1)
    hits = target == guess
    folds = [data.clips[row].fold for row in features.rows] if data.folds else None
    metrics, definitions = accuracies(hits, folds, len(data.classes))
    if folds is not None:
        settings = {**settings, "folds": len(set(folds))}
    result = result_of("zeroshot", subject, data, features, metrics, definitions, settings)
    counts = torch.zeros(len(data.classes), len(data.classes), dtype=torch.int64)
    counts.index_put_((target, guess), torch.ones_like(target), accumulate=True)
    confusion = Confusion(data.classes, counts)
    add_class_details(result, data, confusion, metrics["accuracy"])
    result.plots["score_by_duration.png"] = partial(score_by_duration, features.seconds, hits, data.name)
    return result


def accuracies(
    hits: Tensor, folds: list[int | None] | None, classes: int
) -> tuple[dict[str, MetricValue], dict[str, str]]:
    """Accuracy by the data set's protocol, and its definition in words.

    Args:
        hits: (n,) bool.
        folds: of each clip, where the protocol is a mean over folds; then the pooled accuracy is given too.
        classes: K.

    Raises:
        ValueError: a clip has no fold.
    """
    chance = 100 / classes
    pooled = bootstrapped(hits, torch.arange(len(hits)), chance)
    if folds is None:
        return {"accuracy": pooled}, {"accuracy": f"{POOLED}; interval over clips"}
    numbers = [fold for fold in folds if fold is not None]
    if len(numbers) < len(folds):
        raise ValueError(
            f"{len(folds) - len(numbers)} of the clips have no fold, but the protocol is a mean over folds"
        )
    fold = torch.tensor(numbers)
    values = torch.stack([hits[fold == number].double().mean() for number in fold.unique()])
    metrics = {"accuracy": over_folds(values, chance, len(hits)), "accuracy_pooled": pooled}
    return metrics, {"accuracy": f"{FOLDS}; interval over folds", "accuracy_pooled": f"{POOLED}; interval over clips"}


def add_class_details(result: TaskResult, data: EvalSet, confusion: Confusion, figure: MetricValue) -> None:
    """Give a result of single-label classification its figures and plots by class."""
    right, clips = confusion.counts.diagonal(), confusion.counts.sum(1)
    wrong, other = (confusion.counts - right.diag()).max(1)
    columns = (confusion.classes, right.tolist(), clips.tolist(), wrong.tolist(), other.tolist())
    for name, hits, count, times, index in zip(*columns, strict=True):
        row = {"class": name, "recall": 100 * hits / count if count else None, "clips": count}
        if times:
            row |= {"taken_for": confusion.classes[index], "times": times}
        result.per_class.append(row)
    known = [(row["class"], row["recall"], row["clips"]) for row in result.per_class if row["clips"]]
    title = f"{data.name}, {result.task}: {figure.value:.1f} % right, chance {figure.chance:.1f} %"
    result.plots["confusion.png"] = partial(confusion_matrix, confusion, title)
    result.plots["score_by_class.png"] = partial(score_by_class, known, f"{data.name}, {result.task}: right")
