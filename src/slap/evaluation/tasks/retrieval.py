"""Retrieval of clips by their captions, and of captions by their clips.

B clips, C captions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from slap.core.errors import UserError
from slap.core.progress import Progress
from slap.core.registry import register
from slap.evaluation.eval_set import EvalSet
from slap.evaluation.evaluated_model import Embeddings, EvaluatedModel
from slap.evaluation.tasks.base import Measured, Task, TaskResult, result_of, spread
from slap.metrics.finite import not_finite_line, sound_rows
from slap.metrics.plots import draw_recall, draw_recall_by_duration
from slap.metrics.retrieval import DEFINITIONS, RetrievalResult, retrieval_metrics
from slap.metrics.retrieval_pairs import RIGHT
from slap.metrics.retrieval_ranks import TIE


@dataclass(frozen=True)
class _Queries:
    """The captions of each of B clips, all C of them, and their embeddings."""

    captions: Sequence[Sequence[str]]
    words: Sequence[str]
    text: Tensor


@register("retrieval")
class Retrieval(Task):
    """Find clips by captions and captions by clips: R@1, R@5, R@10, mAP@10 in both definitions, median rank."""

    uses = ("captions",)
    headline = ("t2a_R@1", "t2a_R@10", "a2t_R@1", "a2t_R@10", "t2a_mAP@10")

    def run(self, subject: EvaluatedModel, data: EvalSet, progress: Progress) -> TaskResult:
        """Query with every caption of the clips that can be used, and with every clip that has a caption.

        Raises:
            ValueError: no clip with captions can be used.
        """
        test = data.part("test")
        features = subject.features(test, progress)
        queries = _queries(subject, test, features, progress)
        found = _found(test, features, queries)
        measured = _measured(test, found, queries)
        result = result_of("retrieval", subject, data, features, found.metrics, DEFINITIONS, measured.settings)
        result.warnings += measured.warnings
        seconds = [features.seconds[row] for row in found.clips.tolist()]
        title = f"{data.name}: audio to text R@10 by duration"
        result.plots["recall.png"] = partial(draw_recall, found.metrics, f"{data.name}: retrieval")
        result.plots["recall_by_duration.png"] = partial(draw_recall_by_duration, seconds, found.audio_ranks, 10, title)
        return result

    def measured(self, subject: EvaluatedModel, data: EvalSet, features: Embeddings, progress: Progress) -> Measured:
        """Query as `run` does, on embedded clips; without median ranks."""
        queries = _queries(subject, data, features, progress)
        return _measured(data, _found(data, features, queries), queries)


def _queries(subject: EvaluatedModel, data: EvalSet, features: Embeddings, progress: Progress) -> _Queries:
    captions = [data.clips[row].captions for row in features.rows]
    words = [text for part in captions for text in part]
    if not words:
        raise UserError(f"no clip of {data.name} has captions and audio that can be used")
    return _Queries(captions, words, subject.text(words, progress, f"{data.name}: captions"))


def _found(data: EvalSet, features: Embeddings, queries: _Queries) -> RetrievalResult:
    sizes = torch.tensor([len(part) for part in queries.captions])
    clip = torch.arange(len(sizes)).repeat_interleave(sizes)
    place = {caption: number for number, caption in enumerate(dict.fromkeys(queries.words))}
    ids, key = data.ids(features.rows), torch.tensor([place[caption] for caption in queries.words])
    origins, own_only = data.origins(features.rows), data.own_captions_only
    return retrieval_metrics(features.embeddings, queries.text, clip, ids, key, own_only, origins)


def _measured(data: EvalSet, found: RetrievalResult, queries: _Queries) -> Measured:
    settings = {
        "captions_per_clip": spread([len(part) for part in queries.captions]),
        "captions": len(queries.words),
        "captions_of_several_clips": shared_captions(queries.captions),
        "text": "captions as they are published",
        "right": RIGHT[data.own_captions_only],
        "ties": f"a wrong item whose cosine is the same, to {TIE:g}, counts as better than the right one",
    }
    lost = {queries.words[row] for row in (~sound_rows(queries.text)).nonzero().flatten().tolist()}
    warnings = [not_finite_line(lost, "captions")] if lost else []
    metrics = {name: found.metrics[name] for name in found.answers}
    return Measured(metrics, found.answers, DEFINITIONS, settings, warnings)


def shared_captions(captions: Sequence[Sequence[str]]) -> int:
    """Count the captions that some other clip has too, word for word.

    Args:
        captions: the captions of each clip.

    Example:
        >>> shared_captions([["a dog", "rain"], ["rain", "wind"], ["rain"]])
        3
    """
    clips: dict[str, set[int]] = {}
    for clip, texts in enumerate(captions):
        for text in texts:
            clips.setdefault(text, set()).add(clip)
    return sum(len(clips[text]) > 1 for texts in captions for text in texts)
