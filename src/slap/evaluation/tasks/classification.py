"""Results of classification, shared by zero-shot classification and probes.

n clips, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from slap.evaluation.eval_set import EvalSet
from slap.evaluation.evaluated_model import Embeddings, EvaluatedModel
from slap.evaluation.tasks.base import Measured, TaskResult, result_of
from slap.metrics.average_precision import MacroPrecision, mean_average_precision, samples_of
from slap.metrics.bootstrap import MetricValue, order_of
from slap.metrics.classification import MAP, OVER_FOLDS, POOLED, classification_metrics
from slap.metrics.confusion import Confusion
from slap.metrics.plots import draw_confusion, draw_score_by_class, draw_shares_by_duration


def classified(
    task: str,
    model: EvaluatedModel,
    data: EvalSet,
    features: Embeddings,
    scores: Tensor,
    settings: Mapping[str, Any],
    learned: bool = False,
) -> TaskResult:
    """Make the result of a task that scored classes: accuracy, or mAP where clips may have several labels.

    Args:
        task: name of the task.
        model: the model.
        data: the clips with their labels.
        features: the n clips that were scored.
        scores: (n, K).
        settings: what the metrics depend on.
        learned: whether each fold was scored by what was learned from the others.

    Raises:
        ValueError: a clip has no fold in a set with folds, or no clip has any class.
    """
    truth = data.truth(features.rows)
    if data.multilabel:
        return _with_tags(task, model, data, features, scores, truth, settings)
    return _with_labels(task, model, data, features, scores, truth, settings, learned)


def measured_classes(data: EvalSet, features: Embeddings, scores: Tensor, settings: Mapping[str, Any]) -> Measured:
    """Return the metrics of scores of classes with what is behind them; for the arguments see `classified`."""
    truth, ids, origins = data.truth(features.rows), data.ids(features.rows), data.origins(features.rows)
    if data.multilabel:
        precision = MacroPrecision.of(scores, truth, ids, origins=origins)
        settings = {**settings, "bootstrap_samples": samples_of(*scores.shape)}
        return Measured({"mAP": precision.metric}, {"mAP": precision}, MAP, settings)
    folds = [data.clips[row].fold for row in features.rows] if data.folds else None
    found = classification_metrics(scores, truth.int().argmax(1), data.classes, ids, folds, origins)
    return Measured(found.metrics, found.answers, POOLED if folds is None else OVER_FOLDS, settings)


def _with_tags(
    task: str,
    model: EvaluatedModel,
    data: EvalSet,
    features: Embeddings,
    scores: Tensor,
    truth: Tensor,
    settings: Mapping[str, Any],
) -> TaskResult:
    origins = data.origins(features.rows)
    value, each = mean_average_precision(scores, truth, data.ids(features.rows), origins=origins)
    settings = {**settings, "bootstrap_samples": samples_of(*scores.shape)}
    result = result_of(task, model, data, features, {"mAP": value}, MAP, settings)
    absent = int(each.isnan().sum())
    if absent:
        result.warnings.append(f"{absent} of the {len(data.classes)} classes have no clip and are left out of the mean")
    result.per_class = [
        {"class": name, "average_precision": None if value != value else 100 * value, "clips": count}
        for name, value, count in zip(data.classes, each.tolist(), truth.sum(0).tolist(), strict=True)
    ]
    _draw_by_class(result, "average_precision", f"{data.name}, {task}: average precision")
    return result


def _with_labels(
    task: str,
    model: EvaluatedModel,
    data: EvalSet,
    features: Embeddings,
    scores: Tensor,
    truth: Tensor,
    settings: Mapping[str, Any],
    learned: bool,
) -> TaskResult:
    ids = data.ids(features.rows)
    folds = [data.clips[row].fold for row in features.rows] if data.folds else None
    place, origins = truth.int().argmax(1), data.origins(features.rows)
    found = classification_metrics(scores, place, data.classes, ids, folds, origins, learned)
    definitions = POOLED if folds is None else OVER_FOLDS
    result = result_of(task, model, data, features, found.metrics, definitions, settings)
    _add_classes(result, found.confusion, found.metrics["accuracy"])
    order = order_of(ids)
    seconds = [features.seconds[i] for i in order.tolist()]
    title = f"{data.name}: accuracy by duration"
    result.plots["score_by_duration.png"] = partial(draw_shares_by_duration, seconds, found.hits[order], title)
    return result


def _add_classes(result: TaskResult, confusion: Confusion, accuracy: MetricValue) -> None:
    """Give a result of single-label classification its metrics and plots by class."""
    right, clips = confusion.counts.diagonal(), confusion.clips
    wrong, other = (confusion.counts - right.diag()).max(1)
    columns = (confusion.classes, right.tolist(), clips.tolist(), wrong.tolist(), other.tolist())
    for name, hits, count, times, index in zip(*columns, strict=True):
        row = {"class": name, "recall": 100 * hits / count if count else None, "clips": count}
        if times:
            row |= {"taken_for": confusion.classes[index], "times": times}
        result.per_class.append(row)
    title = f"{result.dataset}, {result.task}: {accuracy.value:.1f} % right, chance {accuracy.chance:.1f} %"
    result.plots["confusion.png"] = partial(draw_confusion, confusion, title)
    _draw_by_class(result, "recall", f"{result.dataset}, {result.task}: right")


def _draw_by_class(result: TaskResult, score: str, title: str) -> None:
    known = [(row["class"], row[score], row["clips"]) for row in result.per_class if row["clips"]]
    result.plots["score_by_class.png"] = partial(draw_score_by_class, known, title)
