"""Metrics of embeddings over whole sets of clips as torchmetrics classes, for any LightningModule or MetricCollection.

R rows, each a clip or a window of one, C captions, K classes, E shared dimension.

Each class only keeps states; the pure functions of this package compute. `compute` gives the values as tensors, and
`results` each with its confidence interval, chance and count. Call `update`, not the metric itself, whose forward would
bootstrap every batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from slap.core.bad_clip import BadClip
from slap.core.errors import UserError
from slap.core.merging import Merged, merge_by_name
from slap.metrics.bootstrap import MetricValue, order_of
from slap.metrics.classification import classification_metrics
from slap.metrics.clip_states import ClipMetric, NoClipsError, Span
from slap.metrics.confusion import Confusion
from slap.metrics.finite import cosines, sound_rows
from slap.metrics.retrieval import retrieval_metrics
from slap.metrics.zero_shot import class_embeddings, class_prompts


class EmbeddingMetric(ClipMetric):
    """Base of metrics over embeddings of clips, for all clips together and for each of several groups of them.

    Args:
        groups: names of the groups, e.g. sources of data; the metrics of each are named `<group>/<metric>`, and are
            those that its clips would have alone.
        **options: of `torchmetrics.Metric`.
    """

    def __init__(self, groups: Sequence[str] = (), **options: Any) -> None:
        super().__init__(**options)
        self.groups = tuple(groups)
        self._add_numbers("audio", torch.float32)

    def _merged(self, group: int | None) -> tuple[list[str], list[Span], Merged]:
        """Return the ids and spans of all rows, and the clips that count, in the order of their ids."""
        ids, spans, rows = self._rows(group)
        audio = self._numbers("audio").view(len(ids), -1)[rows]
        merged = merge_by_name([ids[row] for row in rows], [spans[row] for row in rows], audio)
        order = order_of([ids[rows[i]] for i in merged.first])
        first, last = ([rows[places[i]] for i in order.tolist()] for places in (merged.first, merged.last))
        return ids, spans, Merged(first, last, merged.embeddings[order])

    def _origins(self, rows: Sequence[int]) -> list[str]:
        """Return the origins of the clips of some rows."""
        found = self._texts("origins")
        return [found[row] for row in rows]

    def _by_group(self, compute: Callable[[int | None], dict[str, Any]]) -> dict[str, Any]:
        """Compute all clips together, and then each group that has any."""
        found = compute(None)
        for number, name in enumerate(self.groups):
            try:
                found |= {f"{name}/{metric}": result for metric, result in compute(number).items()}
            except NoClipsError:
                continue
        return found


class RetrievalMetric(EmbeddingMetric):
    """Text-to-audio and audio-to-text recall, mAP@10 and median ranks, see `slap.metrics.retrieval`.

    Args:
        groups: names of groups of clips, see `EmbeddingMetric`.
        own_only: whether a caption's own clip alone is right for it, see `slap.metrics.retrieval_pairs`.
        **options: of `torchmetrics.Metric`.

    Attributes:
        lengths: samples of each clip with a caption, in the order of ids.
        audio_ranks: (Q,) int64, the best rank of the captions of each of these clips, from 0.

    Example:
        >>> metric = RetrievalMetric()
        >>> metric.update(torch.eye(4)[:2], torch.eye(4)[:2], torch.tensor([0, 1]), ids=["dog", "cat"])
        >>> metric.update(torch.eye(4)[2:], torch.eye(4)[[3, 2]], torch.tensor([0, 1]), ids=["owl", "bee"])
        >>> metric.compute()["t2a_R@1"]
        tensor(50., dtype=torch.float64)
        >>> metric.results["t2a_R@1"].chance
        25.0
    """

    def __init__(self, groups: Sequence[str] = (), own_only: bool = False, **options: Any) -> None:
        super().__init__(groups, **options)
        self.own_only = own_only
        self._add_numbers("text", torch.float32)
        self._add_numbers("captions", torch.int64)
        self._add_numbers("keys", torch.int64)
        self.lengths: list[int] = []
        self.audio_ranks = torch.empty(0, dtype=torch.int64)

    def update(
        self,
        audio: Tensor,
        text: Tensor,
        clip: Tensor,
        ids: Sequence[str],
        spans: Sequence[Span] | None = None,
        group: Tensor | None = None,
        bad: Sequence[BadClip] = (),
        caption_key: Tensor | None = None,
        origins: Sequence[str] | None = None,
    ) -> None:
        """Add a batch.

        Args:
            audio: (R, E) embeddings of clips, or of windows of them, each row of length 1.
            text: (C, E) embeddings of captions, each row of length 1.
            clip: (C,) int64, the row of `audio` that each caption describes; of several windows the first.
            ids: the clip of each row, R of them.
            spans: the samples of its clip that each row covers. Default: rows are whole clips.
            group: (R,) int64, the number of each row's group. Default: 0.
            bad: clips that could not be used.
            caption_key: (C,) int64, equal for captions of equal text, which several clips may share: then the first
                embedding stands for all, see `retrieval_metrics`. Default: all captions differ.
            origins: what each row's clip was cut from, see `slap.metrics.bootstrap.units_of`.

        Raises:
            ValueError: some captions have a key and others, of this or another batch, have none.
        """
        self._keep_rows(ids, spans, group, bad, origins)
        if caption_key is not None:
            self._keep_numbers("keys", caption_key[clip.argsort(stable=True)])
        order = clip.argsort(stable=True)
        self._keep_numbers("audio", audio)
        self._keep_numbers("text", text[order])
        self._keep_numbers("captions", clip.bincount(minlength=len(ids)))

    def compute(self) -> dict[str, Tensor]:
        """Compute all metrics, of all clips and of each group.

        Raises:
            ValueError: no clip counts, or none has a caption.
        """
        self.not_finite = set()
        self.results = self._by_group(self._of_group)
        return self._values()

    def _of_group(self, group: int | None) -> dict[str, MetricValue]:
        ids, spans, clips = self._merged(group)
        names = [ids[row] for row in clips.first]
        captions, clip, key = self._captions(clips.first)
        text = self._numbers("text").view(-1, clips.embeddings.shape[1])[captions]
        origins = self._origins(clips.first)
        found = retrieval_metrics(clips.embeddings, text, clip, names, key, self.own_only, origins)
        lost = [*(~sound_rows(clips.embeddings)).nonzero().flatten(), *clip[~sound_rows(text)]]
        self.not_finite |= {names[int(row)] for row in lost}
        if group is None:
            self.audio_ranks = found.audio_ranks
            self.lengths = [spans[clips.last[i]][1] for i in found.clips.tolist()]
        return found.metrics

    def _captions(self, rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Number each caption of some rows among all captions, and find its place among the rows, and its key."""
        sizes = self._numbers("captions")
        own, starts = sizes[list(rows)], (sizes.cumsum(0) - sizes)[list(rows)]
        clip = torch.arange(len(rows)).repeat_interleave(own)
        captions = starts[clip] + torch.arange(len(clip)) - (own.cumsum(0) - own)[clip]
        keys = self._numbers("keys")
        if not len(keys):
            return captions, clip, None
        if len(keys) != int(sizes.sum()):
            raise UserError(
                f"{len(keys)} of {int(sizes.sum())} captions have a caption_key; give all of them one, or none"
            )
        return captions, clip, keys[captions]


class ZeroShotMetric(EmbeddingMetric):
    """Zero-shot accuracy of each task that the clips have labels of, as `zeroshot_<task>`.

    The classes of a task are the labels that its clips have.

    Args:
        prompts: the prompt of each task, with `{label}` in it.
        embed: texts to embeddings, (number of texts, E); called by `compute`.
        groups: names of groups of clips, see `EmbeddingMetric`.
        **options: of `torchmetrics.Metric`.

    Attributes:
        confusions: the confusion matrix of each task, of all clips together.

    Example:
        >>> words = {"a dog": torch.eye(2)[0], "a cat": torch.eye(2)[1]}
        >>> embed = lambda texts: torch.stack([words[text] for text in texts])
        >>> metric = ZeroShotMetric({"animal": "a {label}"}, embed)
        >>> metric.update(torch.eye(2)[[0, 1, 1]], {"animal": ["dog", "cat", "dog"]}, ids=["1", "2", "3"])
        >>> round(metric.compute()["zeroshot_animal"].item(), 1)
        66.7
    """

    def __init__(
        self,
        prompts: Mapping[str, str],
        embed: Callable[[list[str]], Tensor],
        groups: Sequence[str] = (),
        **options: Any,
    ) -> None:
        super().__init__(groups, **options)
        self._add_text("labels")
        self.prompts, self.embed = dict(prompts), embed
        self.confusions: dict[str, Confusion] = {}

    def update(
        self,
        audio: Tensor,
        labels: Mapping[str, Sequence[str | None]],
        ids: Sequence[str],
        spans: Sequence[Span] | None = None,
        group: Tensor | None = None,
        bad: Sequence[BadClip] = (),
        origins: Sequence[str] | None = None,
    ) -> None:
        """Add a batch; rows without any label are left out.

        Args:
            audio: (R, E) embeddings of clips, or of windows of them, each row of length 1.
            labels: for each task R labels, None where a clip has none.
            ids: the clip of each row, R of them.
            spans: the samples of its clip that each row covers. Default: rows are whole clips.
            group: (R,) int64, the number of each row's group. Default: 0.
            bad: clips that could not be used.
            origins: what each row's clip was cut from, see `slap.metrics.bootstrap.units_of`.
        """
        own = [
            {task: names[row] for task, names in labels.items() if names[row] is not None} for row in range(len(ids))
        ]
        rows = [row for row, found in enumerate(own) if found]
        spans = None if spans is None else [spans[row] for row in rows]
        origins = None if origins is None else [origins[row] for row in rows]
        self._keep_rows([ids[row] for row in rows], spans, None if group is None else group[rows], bad, origins)
        self._keep_numbers("audio", audio[rows])
        self._keep_text("labels", [json.dumps(own[row]) for row in rows])

    def compute(self) -> dict[str, Tensor]:
        """Compute the accuracy of each task, of all clips and of each group; nothing where no clip has a label.

        Raises:
            ValueError: a task without a prompt.
        """
        self.confusions, self.not_finite = {}, set()
        try:
            self.results = self._by_group(self._of_group)
        except NoClipsError:
            self.results = {}
        return self._values()

    def _of_group(self, group: int | None) -> dict[str, MetricValue]:
        ids, _, clips = self._merged(group)
        texts = self._texts("labels")
        labels = [json.loads(texts[row]) for row in clips.first]
        found = {}
        for task in sorted({task for own in labels for task in own}):
            if task not in self.prompts:
                raise UserError(
                    f"the clips have labels of {task!r}, but there is no prompt for it, only {[*self.prompts]}"
                )
            rows = [row for row, own in enumerate(labels) if task in own]
            classes = sorted({labels[row][task] for row in rows})
            truth = torch.tensor([classes.index(labels[row][task]) for row in rows])
            vectors = class_embeddings(class_prompts(classes, [self.prompts[task]]), self.embed).float().cpu()
            named = [ids[clips.first[row]] for row in rows]
            scores, origins = (
                cosines(clips.embeddings[rows], vectors),
                self._origins([clips.first[row] for row in rows]),
            )
            result = classification_metrics(scores, truth, classes, named, origins=origins)
            self.not_finite |= {named[row] for row in result.lost}
            found[f"zeroshot_{task}"] = result.metrics["accuracy"]
            if group is None:
                self.confusions[task] = result.confusion
        return found
