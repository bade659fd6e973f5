"""Questions with their own candidates: of a few captions of a clip the right one has to be the nearest.

Order, count, duration, attribute binding and the like are asked so, on composed scenes or as CompA (arXiv 2310.08753)
asks. A model of bags of words, to which both orders are the same text, has no right answer at all, since a tie is none.

n clips.
"""

from __future__ import annotations

from typing import Any

import torch

from slap.core.errors import UserError
from slap.core.progress import Progress
from slap.core.registry import register
from slap.evaluation.eval_set import EvalSet
from slap.evaluation.evaluated_model import Embeddings, EvaluatedModel
from slap.evaluation.tasks.base import Measured, Task, TaskResult, result_of, spread
from slap.metrics.choice import DEFINITION, TIES, Candidates, ChoiceResult, choice_metrics, tied_line
from slap.metrics.finite import not_finite_line, sound_rows


@register("choice")
class Choice(Task):
    """Choose the right one of a clip's own candidate captions: accuracy for each kind of question."""

    uses = ("choices",)

    def run(self, subject: EvaluatedModel, data: EvalSet, progress: Progress) -> TaskResult:
        """Compare every clip with the candidates of each of its questions; a metric is called as its kind of question.

        Raises:
            ValueError: no clip with a question can be used.
        """
        test = data.part("test")
        features = subject.features(test, progress)
        found = self.measured(subject, test, features, progress)
        result = result_of("choice", subject, test, features, found.metrics, found.definitions, found.settings)
        result.warnings += found.warnings
        return result

    def measured(self, subject: EvaluatedModel, data: EvalSet, features: Embeddings, progress: Progress) -> Measured:
        """Compare as `run` does, on embedded clips."""
        questions = [data.clips[row].choices for row in features.rows]
        offered = [captions for own in questions for captions in own.values()]
        if not offered:
            raise UserError(f"no clip of {data.name} has choices and audio that can be used")
        candidates = Candidates(offered, lambda texts: subject.text(texts, progress, f"{data.name}: candidates"))
        found: dict[str, ChoiceResult] = {}
        for task in sorted({task for own in questions for task in own}):
            asked = [i for i, own in enumerate(questions) if task in own]
            rows = [features.rows[i] for i in asked]
            options = candidates.rows([questions[i][task] for i in asked])
            audio = features.embeddings[torch.tensor(asked)]
            found[task] = choice_metrics(audio, candidates.embeddings, options, data.ids(rows), data.origins(rows))
        settings: dict[str, Any] = {
            "candidates": {task: spread([len(own[task]) for own in questions if task in own]) for task in found},
            "texts": len(candidates.texts),
            "ties": TIES,
        }
        metrics = {task: result.accuracy for task, result in found.items()}
        answers = {task: result.answers for task, result in found.items()}
        return Measured(metrics, answers, dict.fromkeys(found, DEFINITION), settings, _warnings(found, candidates))


def _warnings(found: dict[str, ChoiceResult], candidates: Candidates) -> list[str]:
    """Return a line per kind of question with ties, and one on the candidates without a finite embedding."""
    ties = {task: int(result.tied.sum()) for task, result in found.items()}
    lines = [tied_line(task, count, found[task].accuracy.count) for task, count in ties.items() if count]
    lost = (~sound_rows(candidates.embeddings)).nonzero().flatten().tolist()
    if lost:
        lines.append(not_finite_line([candidates.texts[row] for row in lost], "candidates", "make an answer wrong"))
    return lines
