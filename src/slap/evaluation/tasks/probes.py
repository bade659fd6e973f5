"""Probes of frozen features: a linear layer, or the nearest neighbors, on embeddings of clips.

n clips, m of them tested, K classes, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from slap.core.errors import UserError
from slap.core.progress import Progress
from slap.core.registry import register
from slap.evaluation.eval_set import EvalSet
from slap.evaluation.evaluated_model import Embeddings, EvaluatedModel
from slap.evaluation.probes.protocol import (
    LinearProbing,
    NeighborProbing,
    Probe,
    ProbeResult,
    probe_folds,
    probe_parts,
)
from slap.evaluation.tasks.base import Task, TaskResult
from slap.evaluation.tasks.classification import classified
from slap.metrics.finite import finite_rows, not_finite_line


@register("linear_probe")
class LinearProbe(Task):
    """Classify clips by a linear layer on frozen embeddings: accuracy, or mAP where clips have several labels.

    Logistic regression, as scikit-learn's; its strength is selected on validation, or on folds of the training clips.

    Args:
        strengths: values of C, the inverse of the regularization, to select from; for embeddings scaled by sqrt(E).
    """

    uses = ("labels", "tags")
    learns = True
    headline = ("accuracy", "mAP")

    def __init__(self, strengths: Sequence[float] = LinearProbing.settings) -> None:
        self.probe = LinearProbing(_several(strengths, "strengths"))

    def run(self, subject: EvaluatedModel, data: EvalSet, progress: Progress) -> TaskResult:
        """Learn from the other clips, and classify the test clips.

        See `slap.evaluation.probes.protocol`.
        """
        return _probe("linear_probe", self.probe, "inverse strength of the regularization", subject, data, progress)


@register("knn_probe")
class NeighborProbe(Task):
    """Classify clips by their nearest neighbours among frozen embeddings: accuracy, or mAP with several labels.

    By cosine, neighbors weighed by exp(cosine / 0.07); their number is selected on validation, or on folds of the
    training clips.

    Args:
        neighbours: numbers of neighbors to select from.
    """

    uses = ("labels", "tags")
    learns = True
    headline = ("accuracy", "mAP")

    def __init__(self, neighbours: Sequence[int] = NeighborProbing.settings) -> None:
        self.probe = NeighborProbing(_several(neighbours, "neighbours"))

    def run(self, subject: EvaluatedModel, data: EvalSet, progress: Progress) -> TaskResult:
        """Look up the neighbors of the test clips among the other clips.

        See `slap.evaluation.probes.protocol`.
        """
        return _probe("knn_probe", self.probe, "neighbours", subject, data, progress)


def _several(settings: Sequence[Any], name: str) -> tuple[Any, ...]:
    if not settings or min(settings) <= 0:
        raise UserError(f"{name} must be one or more numbers above 0, got {settings}")
    return tuple(settings)


def _probe(
    name: str, probe: Probe, setting: str, subject: EvaluatedModel, data: EvalSet, progress: Progress
) -> TaskResult:
    features = subject.features(data, progress)
    clips = [data.clips[row] for row in features.rows]
    truth = data.truth(features.rows)
    folds = [clip.fold for clip in clips] if data.folds else None
    if folds is not None and None in folds:
        raise UserError(f"{data.name}: clip {clips[folds.index(None)].id!r} has no fold")
    if folds is not None:
        numbers = [fold for fold in folds if fold is not None]
        probed = probe_folds(probe, features.embeddings, truth, numbers, data.multilabel)
    else:
        probed = probe_parts(probe, features.embeddings, truth, [clip.part for clip in clips], data.multilabel)
    settings = {
        "features": "embeddings as zero-shot classification takes them, frozen",
        "learned_from": len(clips) - len(probed.rows) if folds is None else "the other folds",
        setting.replace(" ", "_"): probed.chosen,
        "chosen_on": probed.chosen_on,
        "chosen_out_of": list(probe.settings),
        "classes": len(data.classes),
    }
    result = classified(name, subject, data, _those(features, probed), probed.scores, settings, folds is not None)
    sound = finite_rows(features.embeddings).tolist()
    lost = [clip.id for clip, finite in zip(clips, sound, strict=True) if not finite and clip.part != "test"]
    if lost:
        result.warnings.append(f"{not_finite_line(lost, 'clips to learn from')}; nothing was learned from them")
    return result


def _those(features: Embeddings, probed: ProbeResult) -> Embeddings:
    """Return the features of the test clips."""
    rows = probed.rows.tolist()
    return replace(
        features,
        rows=[features.rows[row] for row in rows],
        embeddings=features.embeddings[probed.rows],
        seconds=[features.seconds[row] for row in rows],
    )
