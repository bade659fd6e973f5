"""Zero-shot classification: a clip is of the class whose prompts lie nearest to it; of clips with several classes, mAP.

n clips, K classes, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from slap.core.errors import UserError
from slap.core.progress import Progress
from slap.core.registry import register
from slap.evaluation.eval_set import EvalSet
from slap.evaluation.evaluated_model import Embeddings, EvaluatedModel
from slap.evaluation.tasks.base import Measured, Task, TaskResult
from slap.evaluation.tasks.classification import classified, measured_classes
from slap.metrics.finite import cosines
from slap.metrics.zero_shot import class_embeddings


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
        test = data.part("test")
        _prompts(subject, data)  # what is wrong with them shows before audio is read
        features = subject.features(test, progress)
        scores = _scores(subject, test, features, progress)
        return classified("zeroshot", subject, test, features, scores, _settings(subject, test, features))

    def measured(self, subject: EvaluatedModel, data: EvalSet, features: Embeddings, progress: Progress) -> Measured:
        """Classify as `run` does, on embedded clips."""
        scores = _scores(subject, data, features, progress)
        return measured_classes(data, features, scores, _settings(subject, data, features))


def _prompts(subject: EvaluatedModel, data: EvalSet) -> list[list[str]]:
    """Write the prompts of each class."""
    groups = subject.prompts.current.wording(data.worded_as).of(data.classes)
    if len(data.classes) < 2:
        raise UserError(f"{data.name} has the classes {list(data.classes)}; classification takes at least two")
    return groups


def _scores(subject: EvaluatedModel, data: EvalSet, features: Embeddings, progress: Progress) -> Tensor:
    """Compute the cosines of clips and classes, (n, K)."""
    groups = _prompts(subject, data)
    if not features.rows:
        raise UserError(f"no clip of {data.name} can be used")
    embed: Callable[[list[str]], Tensor] = lambda texts: subject.text(texts, progress, f"{data.name}: prompts")  # noqa: E731
    return cosines(features.embeddings, class_embeddings(groups, embed))


def _settings(subject: EvaluatedModel, data: EvalSet, features: Embeddings) -> dict[str, Any]:
    settings: dict[str, Any] = {"prompts": subject.prompts.current.record(data.worded_as), "classes": len(data.classes)}
    if data.folds and not data.multilabel:
        settings["folds"] = len({data.clips[row].fold for row in features.rows})
    return settings
