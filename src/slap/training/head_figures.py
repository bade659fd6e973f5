"""Accuracy and mAP of classification heads over a whole set, collected batch by batch, the same on every process.

W windows of n clips, K classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from slap.core.bad_clip import REASONS, BadClip
from slap.core.batch import Batch
from slap.core.distributed import world_size
from slap.core.windows import window_weights
from slap.metrics.bootstrap import MetricValue, bootstrapped
from slap.model.contracts import Classifier
from slap.training.held_out import Confusion


@dataclass
class _Part:
    """What one batch contributes; everything on the CPU."""

    ids: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    scores: dict[str, Tensor]  # of each head (W, K)
    targets: dict[str, Tensor]  # of each head (W, K)
    known: dict[str, Tensor]  # of each head (W,) bool
    bad: tuple[BadClip, ...]


class ClassifierMetrics:
    """Collects the scores of heads with `update` and turns them into figures with `compute`, which starts it anew.

    A clip that takes several windows has the mean of their scores, each weighted by the samples that it stands for. One
    of which a window is bad does not count, nor does one without a label of the task.

    Attributes:
        confusions: of each head of single labels, by its name, of the last `compute`.
        left_out: by reason, how many clips could not be used.
    """

    def __init__(self) -> None:
        self.confusions: dict[str, Confusion] = {}
        self.left_out: dict[str, int] = {}
        self._parts: list[_Part] = []

    def update(self, batch: Batch, scores: Mapping[str, Tensor], heads: Mapping[str, Classifier]) -> None:
        """Add one batch.

        Args:
            batch: W windows or clips.
            scores: by the name of a head (W, K).
            heads: by name.
        """
        found = {name: head.targets(batch) for name, head in heads.items()}
        self._parts.append(
            _Part(
                batch.ids,
                batch.spans or tuple((0, size) for size in batch.audio.sizes),
                {name: value.detach().double().cpu() for name, value in scores.items()},
                {name: targets for name, (targets, _) in found.items()},
                {name: known for name, (_, known) in found.items()},
                batch.bad,
            )
        )

    def compute(self, heads: Mapping[str, Classifier]) -> dict[str, MetricValue]:
        """For each head `<name>_accuracy`, or `<name>_mAP` (macro) where clips may have several labels, in percent.

        Raises:
            ValueError: nothing was collected, or no clip has a label of a head's task.
        """
        parts, self._parts = _from_all_processes(self._parts), []
        bad = {clip.id: clip.reason for part in parts for clip in part.bad}
        counts = Counter(bad.values())
        self.left_out = {reason: counts[reason] for reason in REASONS if counts[reason]}
        rows = _rows_of_clips(parts, {clip.id for part in parts for clip in part.bad if clip.reason != "caption"})
        if not rows:
            raise ValueError("no clips were evaluated: the manifest is empty, no batch was drawn, or all clips are bad")
        self.confusions, results = {}, {}
        for name, head in heads.items():
            scores, targets = _of_head(parts, rows, name)
            if not len(scores):
                raise ValueError(f"no clip has a label of the task {head.task!r}, by which {name!r} is judged")
            figure, result = self._figure(name, head, scores, targets)
            results[f"{name}_{figure}"] = result
        return results

    def _figure(self, name: str, head: Classifier, scores: Tensor, targets: Tensor) -> tuple[str, MetricValue]:
        if head.multi_label:
            from slap.metrics.intervals import mean_average_precision

            return "mAP", mean_average_precision(scores, targets > 0)[0]
        truth, guess = targets.argmax(1), scores.argmax(1)
        counts = torch.zeros(len(head.classes), len(head.classes), dtype=torch.int64)
        counts.index_put_((truth, guess), torch.ones_like(truth), accumulate=True)
        self.confusions[name] = Confusion(head.classes, counts)
        return "accuracy", bootstrapped(guess == truth, torch.arange(len(truth)), 100 / len(head.classes))


Rows = dict[str, dict[tuple[int, int], tuple[int, int]]]
"""Of each clip by its id, for each of its windows, where it is: the part and the row in it."""


def _rows_of_clips(parts: list[_Part], bad: set[str]) -> Rows:
    rows: Rows = {}
    for number, part in enumerate(parts):
        for row, (name, span) in enumerate(zip(part.ids, part.spans, strict=True)):
            if name not in bad:
                rows.setdefault(name, {}).setdefault(span, (number, row))
    return rows


def _of_head(parts: list[_Part], rows: Rows, name: str) -> tuple[Tensor, Tensor]:
    """Scores and targets, (n, K) each, of the clips with a label."""
    scores, targets = [], []
    for windows in rows.values():
        spans = sorted(windows)
        first, row = windows[spans[0]]
        if not parts[first].known[name][row]:
            continue
        weights = torch.tensor(window_weights(spans), dtype=torch.float64)
        found = torch.stack([parts[part].scores[name][row] for part, row in (windows[span] for span in spans)])
        scores.append((weights[:, None] * found).sum(0) / weights.sum() if len(spans) > 1 else found[0])
        targets.append(parts[first].targets[name][row])
    return (torch.stack(scores), torch.stack(targets)) if scores else (torch.empty(0, 0), torch.empty(0, 0))


def _from_all_processes(parts: list[_Part]) -> list[_Part]:
    if world_size() == 1:
        return parts
    everyone: list[list[_Part]] = [[] for _ in range(world_size())]
    dist.all_gather_object(everyone, parts)
    return [part for theirs in everyone for part in theirs]
