"""Metrics over held-out clips: retrieval, zero-shot accuracy, questions and classifiers; equal on every process.

R rows of a batch, each a clip or a window of one, C captions, K classes, E shared dimension.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from slap.core.bad_clip import REASONS
from slap.core.batch import Batch
from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.metrics.bootstrap import MetricValue
from slap.metrics.choice_metric import ChoiceMetric
from slap.metrics.classifier_metric import ClassifierMetric, NoLabelsError
from slap.metrics.clip_metrics import RetrievalMetric, ZeroShotMetric
from slap.metrics.clip_states import ClipMetric
from slap.metrics.confusion import Confusion
from slap.model.contracts import Classifier


class HeldOutMetrics:
    """Collects batches with `update` and `update_classifiers`; `compute` gives all metrics and starts anew.

    Attributes:
        results: the metrics of the last `compute`, in percent.
        median_ranks: likewise, from 1: `t2a_median_rank`, `a2t_median_rank`, and those of each source.
        confusions: the confusion matrix of each zero-shot task and of each classifier of single labels.
        durations: of each clip with a caption, in the order of ids.
        audio_ranks: (Q,) int64, the best rank of the captions of each of these clips, from 0.
        tied: by kind of question, the number of ties between candidates, and of questions.
        left_out: by reason, the number of clips that could not be used.
        not_finite: ids of the clips for which the model gave numbers that are not finite; they rank last.
    """

    def __init__(self) -> None:
        self.results: dict[str, MetricValue] = {}
        self.median_ranks: dict[str, MetricValue] = {}
        self.confusions: dict[str, Confusion] = {}
        self.durations: list[Seconds] = []
        self.audio_ranks = torch.empty(0, dtype=torch.int64)
        self.tied: dict[str, tuple[int, int]] = {}
        self.left_out: dict[str, int] = {}
        self.not_finite: tuple[str, ...] = ()
        self._start()

    def _start(self) -> None:
        self._retrieval, self._zero_shot = RetrievalMetric(), ZeroShotMetric({}, _no_embedding)
        self._choice = ChoiceMetric(_no_embedding)
        self._classifiers: dict[str, ClassifierMetric] = {}
        self._sample_rate = 1

    def update(self, batch: Batch, audio: Tensor, text: Tensor, sample_rate: int) -> None:
        """Add one batch with its embeddings, (R, E) and (C, E)."""
        self._sample_rate = sample_rate
        audio, group = audio.detach().float().cpu(), batch.source.cpu()
        rows: dict[str, Any] = {"ids": batch.ids, "spans": _spans(batch), "group": group, "bad": batch.bad}
        rows["origins"] = batch.origins or None
        self._retrieval.update(audio, text, batch.clip, caption_key=batch.caption_key, **rows)
        self._zero_shot.update(audio, batch.labels, **rows)
        self._choice.update(audio, batch.choices, **rows)

    def update_classifiers(
        self, batch: Batch, scores: Mapping[str, Tensor], classifiers: Mapping[str, Classifier]
    ) -> None:
        """Add the scores of one batch.

        Args:
            batch: R windows or clips.
            scores: (R, K) by the name of a classifier.
            classifiers: by name.
        """
        for name, classifier in classifiers.items():
            targets, known = classifier.targets(batch)
            metric = self._classifier(name, classifier)
            metric.update(scores[name], targets, batch.ids, _spans(batch), known, batch.bad, batch.origins or None)

    def compute(
        self,
        prompts: Mapping[str, str],
        embed: Callable[[list[str]], Tensor],
        sources: Sequence[str] = (),
        classifiers: Mapping[str, Classifier] | None = None,
        embeddings: bool = True,
        own_only: bool = False,
    ) -> dict[str, MetricValue]:
        """Compute all metrics from the batches of all processes.

        These are recall and mAP@10 in both directions, `zeroshot_<task>` for each task with labels, `choice_<task>` for
        each task with questions, and for each classifier `<name>_accuracy`, or `<name>_mAP` (macro) where clips may
        have several labels; all in percent.

        Args:
            prompts: the prompt of each zero-shot task, with `{label}`.
            embed: texts to embeddings.
            sources: names of the sources that batches number; each has its metrics of embeddings too, as
                `<source>/<metric>`, as if its clips were all.
            classifiers: by name.
            embeddings: whether there are metrics of embeddings; a model of classifiers alone has none.
            own_only: whether a caption's own clip alone is right for it, see `slap.metrics.retrieval_pairs`.

        Raises:
            ValueError: nothing was collected, a task has no prompt, or no clip has a label for a classifier.
        """
        self.results, self.median_ranks, self.confusions, self.tied = {}, {}, {}, {}
        metrics: list[ClipMetric] = []
        try:
            if embeddings:
                self._retrieval.own_only = own_only
                metrics += self._embeddings(prompts, embed, sources)
            for name, classifier in (classifiers or {}).items():
                metrics.append(self._classification(name, classifier))
        finally:
            self._start()
        counts = Counter(reason for _, _, reason in set().union(*(metric.bad for metric in metrics)))
        self.left_out = {reason: counts[reason] for reason in REASONS if counts[reason]}
        self.not_finite = tuple(sorted(set().union(*(metric.not_finite for metric in metrics))))
        return self.results

    def _embeddings(
        self, prompts: Mapping[str, str], embed: Callable[[list[str]], Tensor], sources: Sequence[str]
    ) -> list[ClipMetric]:
        retrieval, zero_shot, choice = metrics = self._retrieval, self._zero_shot, self._choice
        zero_shot.prompts, zero_shot.embed = dict(prompts), embed
        choice.embed = embed
        for metric in metrics:
            metric.groups = tuple(sources)
            metric.compute()
        self.durations = [samples / self._sample_rate for samples in retrieval.lengths]
        self.audio_ranks, self.confusions = retrieval.audio_ranks, dict(zero_shot.confusions)
        found = retrieval.results | zero_shot.results | choice.results
        self.tied = {task: (count, choice.results[f"choice_{task}"].count) for task, count in choice.tied.items()}
        for source in ("", *(f"{name}/" for name in sources)):  # all clips first, then source by source
            own = {name: result for name, result in found.items() if name.rpartition("/")[0] == source.rstrip("/")}
            self.median_ranks |= {name: result for name, result in own.items() if name.endswith("median_rank")}
            self.results |= {name: result for name, result in own.items() if not name.endswith("median_rank")}
        return [*metrics]

    def _classification(self, name: str, classifier: Classifier) -> ClipMetric:
        metric = self._classifier(name, classifier)
        try:
            metric.compute()
        except NoLabelsError as error:
            raise UserError(
                f"no clip has a label of the task {classifier.task!r}, which {name!r} classifies"
            ) from error
        self.results |= {f"{name}_{metric_name}": result for metric_name, result in metric.results.items()}
        if metric.confusion is not None:
            self.confusions[name] = metric.confusion
        return metric

    def _classifier(self, name: str, classifier: Classifier) -> ClassifierMetric:
        if name not in self._classifiers:
            self._classifiers[name] = ClassifierMetric(classifier.classes, classifier.multi_label)
        return self._classifiers[name]


def _spans(batch: Batch) -> tuple[tuple[int, int], ...]:
    return batch.spans or tuple((0, size) for size in batch.audio.sizes)


def _no_embedding(texts: list[str]) -> Tensor:
    raise RuntimeError(f"there is no text encoder yet for {len(texts)} prompts")
