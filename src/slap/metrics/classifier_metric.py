"""Metric of classifiers over whole sets of clips, as a torchmetrics class; see `slap.metrics.clip_metrics`.

R rows, each a clip or a window of one, n clips, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from slap.core.bad_clip import BadClip
from slap.core.errors import UserError
from slap.core.windows import window_weights
from slap.metrics.average_precision import mean_average_precision
from slap.metrics.classification import classification_metrics
from slap.metrics.clip_states import ClipMetric, Span
from slap.metrics.confusion import Confusion
from slap.metrics.finite import finite_rows


class NoLabelsError(UserError):
    """No clip has a label of a classifier's task."""


class ClassifierMetric(ClipMetric):
    """Accuracy of a classifier, or macro `mAP` where clips may have several labels.

    A clip that takes several windows has the mean of their scores, each weighted by the samples that it stands for.

    Args:
        classes: names of the K classes.
        multi_label: whether a clip may have several labels.
        **options: of `torchmetrics.Metric`.

    Attributes:
        confusion: the confusion matrix of the last `compute`; None with several labels per clip.

    Example:
        >>> metric = ClassifierMetric(["cat", "dog"])
        >>> metric.update(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.eye(2)[[0, 0]], ids=["1", "2"])
        >>> metric.compute()
        {'accuracy': tensor(50., dtype=torch.float64)}
    """

    def __init__(self, classes: Sequence[str], multi_label: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._add_numbers("scores", torch.float64)
        self._add_numbers("targets", torch.float32)
        self._add_numbers("known", torch.uint8)
        self.classes, self.multi_label = tuple(classes), multi_label
        self.confusion: Confusion | None = None

    def update(
        self,
        scores: Tensor,
        targets: Tensor,
        ids: Sequence[str],
        spans: Sequence[Span] | None = None,
        known: Tensor | None = None,
        bad: Sequence[BadClip] = (),
        origins: Sequence[str] | None = None,
    ) -> None:
        """Add a batch.

        Args:
            scores: (R, K), the highest is the most probable.
            targets: (R, K), the share of each class in each clip.
            ids: the clip of each row, R of them.
            spans: the samples of its clip that each row covers. Default: rows are whole clips.
            known: (R,) bool, rows with a label. Default: all have one.
            bad: clips that could not be used.
            origins: what each row's clip was cut from, see `slap.metrics.bootstrap.units_of`.
        """
        self._keep_rows(ids, spans, None, bad, origins)
        self._keep_numbers("scores", scores)
        self._keep_numbers("targets", targets)
        self._keep_numbers("known", torch.ones(len(ids)) if known is None else known)

    def compute(self) -> dict[str, Tensor]:
        """Compute `accuracy`, or `mAP`.

        Raises:
            NoLabelsError: no clip has a label.
            ValueError: no clip counts.
        """
        scores, targets, ids, origins = self._clips()
        self.not_finite = {ids[row] for row in (~finite_rows(scores)).nonzero().flatten().tolist()}
        if self.multi_label:
            self.results = {"mAP": mean_average_precision(scores, targets > 0, ids, origins=origins)[0]}
        else:
            found = classification_metrics(scores, targets.argmax(1), self.classes, ids, origins=origins)
            self.results, self.confusion = found.metrics, found.confusion
        return self._values()

    def _clips(self) -> tuple[Tensor, Tensor, list[str], list[str]]:
        """Return scores and targets, (n, K) each, ids and origins of the clips with a label."""
        ids, spans, rows = self._rows()
        known = self._numbers("known").tolist()
        scores, targets = (self._numbers(name).view(len(ids), -1) for name in ("scores", "targets"))
        windows: dict[str, dict[Span, int]] = {}
        for row in rows:
            if known[row]:
                windows.setdefault(ids[row], {}).setdefault(spans[row], row)
        if not windows:
            raise NoLabelsError("no clip has a label of the classifier's task")
        means, first = [], []
        for found in windows.values():
            places = sorted(found)
            weights = torch.tensor(window_weights(places), dtype=torch.float64)
            own = scores[[found[span] for span in places]]
            means.append((weights[:, None] * own).sum(0) / weights.sum() if len(places) > 1 else own[0])
            first.append(found[places[0]])
        origins = self._texts("origins")
        return torch.stack(means), targets[first], [*windows], [origins[row] for row in first]
