"""Retrieval and zero-shot accuracy over a whole set, collected batch by batch, the same on every process.

B clips and C captions of the whole set, E shared dimension.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from slap.core.bad_clip import REASONS, BadClip
from slap.core.batch import Batch
from slap.core.distributed import world_size
from slap.core.windows import merge_by_name
from slap.metrics.bootstrap import MetricValue, bootstrapped
from slap.metrics.confusion import Confusion as Confusion
from slap.metrics.median_rank import median_ranks
from slap.metrics.retrieval_figures import CUTOFFS as CUTOFFS
from slap.metrics.retrieval_figures import DEFINITIONS as DEFINITIONS
from slap.metrics.retrieval_figures import retrieval_figures
from slap.metrics.zero_shot import class_embeddings, class_prompts, predict


@dataclass
class _Collected:
    """What one batch, or a whole set, contributes; everything on the CPU."""

    audio: Tensor  # (B, E)
    text: Tensor  # (C, E)
    clip: Tensor  # (C,)
    ids: list[str]
    spans: list[tuple[int, int]]  # which samples of the clip, W of them while they are not joined
    seconds: list[float]  # up to the end of the span
    labels: list[dict[str, str | None]] = field(default_factory=list)
    bad: tuple[BadClip, ...] = ()
    source: list[int] = field(default_factory=list)  # of each row


class HeldOutMetrics:
    """Collects embeddings with `update` and turns them into figures with `compute`, which starts it anew.

    Attributes:
        results: the figures of the last `compute`, in percent.
        median_ranks: of the last `compute`, from 1, by `t2a_median_rank`, `a2t_median_rank`, and those of each source.
        confusions: the confusion matrix of each zero-shot task, of the last `compute`.
        durations: seconds of each clip, in the order of `audio_ranks`.
        audio_ranks: (B,) for each clip the best rank of its captions.
        left_out: by reason, how many clips could not be used.
    """

    def __init__(self) -> None:
        self.results: dict[str, MetricValue] = {}
        self.median_ranks: dict[str, MetricValue] = {}
        self.confusions: dict[str, Confusion] = {}
        self.durations: list[float] = []
        self.audio_ranks = torch.empty(0, dtype=torch.int64)
        self.left_out: dict[str, int] = {}
        self._parts: list[_Collected] = []

    def update(self, batch: Batch, audio: Tensor, text: Tensor, sample_rate: int) -> None:
        """Add one batch with its embeddings, (B, E) and (C, E)."""
        labels = [{task: names[i] for task, names in batch.labels.items()} for i in range(len(batch))]
        spans = list(batch.spans) or [(0, size) for size in batch.audio.sizes]
        seconds = [stop / sample_rate for _, stop in spans]
        embeddings = audio.detach().float().cpu(), text.detach().float().cpu()
        self._parts.append(
            _Collected(
                *embeddings,
                batch.clip.cpu(),
                list(batch.ids),
                spans,
                seconds,
                labels,
                batch.bad,
                batch.source.tolist(),
            )
        )

    def compute(
        self, prompts: Mapping[str, str], embed: Callable[[list[str]], Tensor], sources: Sequence[str] = ()
    ) -> dict[str, MetricValue]:
        """All figures: recall and mAP@10 in both directions, and accuracy in each zero-shot task with labels.

        Args:
            prompts: for each task the template of its prompts, with `{label}`.
            embed: captions to embeddings.
            sources: names of the sources that batches number; each has its figures too, as `<source>/<figure>`, as if
                its clips were all.

        Raises:
            ValueError: a task without a prompt, or nothing was collected.
        """
        parts, self._parts = self._parts, []
        parts = _from_all_processes(parts)
        bad = {(clip.id, clip.where): clip.reason for part in parts for clip in part.bad}
        counts = Counter(bad.values())
        self.left_out = {reason: counts[reason] for reason in REASONS if counts[reason]}
        unusable = {clip.id for part in parts for clip in part.bad}
        apart: dict[str, MetricValue] = {}
        ranks: dict[str, MetricValue] = {}
        for number, name in enumerate(sources):
            mine = [_of_source(part, number) for part in parts]
            if {clip for part in mine for clip in part.ids} - unusable:
                figures = self._figures(_joined(mine), prompts, embed)
                apart |= {f"{name}/{figure}": result for figure, result in figures.items()}
                ranks |= {f"{name}/{figure}": result for figure, result in self.median_ranks.items()}
        self.results = self._figures(_joined(parts), prompts, embed) | apart
        self.median_ranks |= ranks
        return self.results

    def add(
        self, results: Mapping[str, MetricValue], confusions: Mapping[str, Confusion], left_out: Mapping[str, int]
    ) -> None:
        """Take figures that were computed elsewhere, as those of classification heads, beside its own."""
        self.results = {**self.results, **results}
        self.confusions = {**self.confusions, **confusions}
        self.left_out = {**self.left_out, **left_out}

    def _figures(
        self, whole: _Collected, prompts: Mapping[str, str], embed: Callable[[list[str]], Tensor]
    ) -> dict[str, MetricValue]:
        """The figures of a set of clips; ranks, durations and confusions stay for those who draw them."""
        self.results, self.confusions = {}, {}
        self.durations = whole.seconds
        self._retrieval(whole)
        for task in sorted({task for labels in whole.labels for task, label in labels.items() if label is not None}):
            if task not in prompts:
                raise ValueError(f"the clips have labels of {task!r}, but there is no prompt for it, only {[*prompts]}")
            self._zeroshot(whole, task, prompts[task], embed)
        return self.results

    def _retrieval(self, whole: _Collected) -> None:
        found = retrieval_figures(whole.audio, whole.text, whole.clip)
        self.results |= found.results
        self.median_ranks = median_ranks(found.text_ranks, found.audio_ranks, whole.clip, len(whole.audio))
        self.audio_ranks = found.audio_ranks
        self.durations = [whole.seconds[i] for i in found.captioned.tolist()]

    def _zeroshot(self, whole: _Collected, task: str, template: str, embed: Callable[[list[str]], Tensor]) -> None:
        names = [labels.get(task) for labels in whole.labels]
        chosen = torch.tensor([i for i, name in enumerate(names) if name is not None])
        classes = tuple(sorted({name for name in names if name is not None}))
        truth = torch.tensor([classes.index(name) for name in names if name is not None])
        vectors = class_embeddings(class_prompts(classes, [template]), embed).float().cpu()
        guess = predict(whole.audio[chosen], vectors)
        counts = torch.zeros(len(classes), len(classes), dtype=torch.int64)
        counts.index_put_((truth, guess), torch.ones_like(truth), accumulate=True)
        self.confusions[task] = Confusion(classes, counts)
        hits = guess == truth
        self.results[f"zeroshot_{task}"] = bootstrapped(hits, torch.arange(len(hits)), 100 / len(classes))


def _from_all_processes(parts: list[_Collected]) -> list[_Collected]:
    if world_size() == 1:
        return parts
    everyone: list[list[_Collected]] = [[] for _ in range(world_size())]
    dist.all_gather_object(everyone, parts)
    return [part for theirs in everyone for part in theirs]


def _of_source(part: _Collected, number: int) -> _Collected:
    """What a part has of one source, and all that is bad in it."""
    rows = [row for row, source in enumerate(part.source) if source == number]
    place = torch.full((len(part.ids),), -1)
    place[rows] = torch.arange(len(rows))
    clip = place[part.clip]
    return _Collected(
        audio=part.audio[rows],
        text=part.text[clip >= 0],
        clip=clip[clip >= 0],
        ids=[part.ids[row] for row in rows],
        spans=[part.spans[row] for row in rows],
        seconds=[part.seconds[row] for row in rows],
        labels=[part.labels[row] for row in rows],
        bad=part.bad,
        source=[number] * len(rows),
    )


def _joined(parts: list[_Collected]) -> _Collected:
    """One set out of all parts.

    Windows of a clip become one. A clip that came twice, as samplers repeat some to even out processes, counts once.
    One of which a window is bad does not count.
    """
    ids = [name for part in parts for name in part.ids]
    bad = {clip.id for part in parts for clip in part.bad if clip.reason != "caption"}
    rows = [row for row, name in enumerate(ids) if name not in bad]
    if not rows:
        raise ValueError("no clips were evaluated: the manifest is empty, no batch was drawn, or all clips are bad")
    spans = [span for part in parts for span in part.spans]
    audio = torch.cat([part.audio for part in parts])[rows]
    merged = merge_by_name([ids[row] for row in rows], [spans[row] for row in rows], audio)
    first = [rows[i] for i in merged.first]
    place = torch.full((len(ids),), -1)
    place[first] = torch.arange(len(first))
    offsets = torch.tensor([0] + [len(part.ids) for part in parts]).cumsum(0).tolist()
    clip = place[torch.cat([part.clip + offset for part, offset in zip(parts, offsets, strict=False)])]
    seconds = [second for part in parts for second in part.seconds]
    labels = [label for part in parts for label in part.labels]
    return _Collected(
        audio=merged.embeddings,
        text=torch.cat([part.text for part in parts])[clip >= 0],
        clip=clip[clip >= 0],
        ids=[ids[row] for row in first],
        spans=[(0, spans[rows[i]][1]) for i in merged.last],
        seconds=[seconds[rows[i]] for i in merged.last],
        labels=[labels[row] for row in first],
    )
