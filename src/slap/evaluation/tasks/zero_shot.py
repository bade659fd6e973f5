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
from slap.evaluation.evaluated_model import EvaluatedModel
from slap.evaluation.tasks.base import Task, TaskResult
from slap.evaluation.tasks.classification import classified
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
        prompts = subject.prompts.current
        groups = prompts.wording(data.worded_as).of(data.classes)  # what is wrong with them shows before audio is read
        if len(data.classes) < 2:
            raise UserError(f"{data.name} has the classes {list(data.classes)}; classification takes at least two")
        features = subject.features(test, progress)
        if not features.rows:
            raise UserError(f"no clip of {data.name} can be used")
        embed: Callable[[list[str]], Tensor] = lambda texts: subject.text(texts, progress, f"{data.name}: prompts")  # noqa: E731
        scores = cosines(features.embeddings, class_embeddings(groups, embed))
        settings: dict[str, Any] = {"prompts": prompts.record(data.worded_as), "classes": len(data.classes)}
        if data.folds and not data.multilabel:
            settings["folds"] = len({test.clips[row].fold for row in features.rows})
        return classified("zeroshot", subject, test, features, scores, settings)
