"""Metric of questions with their own candidates, as a torchmetrics class; see `slap.metrics.clip_metrics`.

R rows, each a clip or a window of one, E shared dimension.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from slap.core.bad_clip import BadClip
from slap.metrics.bootstrap import MetricValue
from slap.metrics.choice import Candidates, choice_metrics
from slap.metrics.clip_metrics import EmbeddingMetric
from slap.metrics.clip_states import NoClipsError, Span

TEXTS = 256
"""Texts that are embedded at once."""


class ChoiceMetric(EmbeddingMetric):
    """Share of right answers to each kind of question that clips have candidates for, as `choice_<task>`.

    Args:
        embed: texts to embeddings, (number of texts, E); `compute` calls it once for each text.
        groups: names of groups of clips, see `EmbeddingMetric`.
        **options: of `torchmetrics.Metric`.

    Attributes:
        tied: by task the number of questions, of all clips together, that are ties.

    Example:
        >>> words = {"a dog, then rain": torch.eye(2)[0], "rain, then a dog": torch.eye(2)[1]}
        >>> metric = ChoiceMetric(lambda texts: torch.stack([words[text] for text in texts]))
        >>> metric.update(torch.eye(2), {"order": [[*words], [*words]]}, ids=["1", "2"])
        >>> metric.compute()["choice_order"].item()
        50.0
    """

    def __init__(self, embed: Callable[[list[str]], Tensor], groups: Sequence[str] = (), **options: Any) -> None:
        super().__init__(groups, **options)
        self._add_text("choices")
        self.embed = embed
        self.tied: dict[str, int] = {}

    def update(
        self,
        audio: Tensor,
        choices: Mapping[str, Sequence[Sequence[str] | None]],
        ids: Sequence[str],
        spans: Sequence[Span] | None = None,
        group: Tensor | None = None,
        bad: Sequence[BadClip] = (),
        origins: Sequence[str] | None = None,
    ) -> None:
        """Add a batch; rows without any question are left out.

        Args:
            audio: (R, E) embeddings of clips, or of windows of them, each row of length 1.
            choices: for each task the candidates of each of the R rows, the right one first; None where a clip has no
                question.
            ids: the clip of each row, R of them.
            spans: the samples of its clip that each row covers. Default: rows are whole clips.
            group: (R,) int64, the number of each row's group. Default: 0.
            bad: clips that could not be used.
            origins: what each row's clip was cut from, see `slap.metrics.bootstrap.units_of`.
        """
        own = [
            {task: list(offered) for task, rows in choices.items() if (offered := rows[row]) is not None}
            for row in range(len(ids))
        ]
        rows = [row for row, found in enumerate(own) if found]
        spans = None if spans is None else [spans[row] for row in rows]
        origins = None if origins is None else [origins[row] for row in rows]
        self._keep_rows([ids[row] for row in rows], spans, None if group is None else group[rows], bad, origins)
        self._keep_numbers("audio", audio[rows])
        self._keep_text("choices", [json.dumps(own[row]) for row in rows])

    def compute(self) -> dict[str, Tensor]:
        """Compute the share of right answers of each task, of all clips and of each group; nothing where none is."""
        self.results, self.tied, self.not_finite = {}, {}, set()
        asked = [offered for text in self._texts("choices") for offered in json.loads(text).values()]
        if asked:
            candidates = Candidates(asked, self._embedded)
            try:
                self.results = self._by_group(lambda group: self._of_group(group, candidates))
            except NoClipsError:
                self.results = {}
        return self._values()

    def _embedded(self, texts: list[str]) -> Tensor:
        return torch.cat([self.embed(texts[start : start + TEXTS]) for start in range(0, len(texts), TEXTS)])

    def _of_group(self, group: int | None, candidates: Candidates) -> dict[str, MetricValue]:
        ids, _, clips = self._merged(group)
        texts = self._texts("choices")
        choices = [json.loads(texts[row]) for row in clips.first]
        found = {}
        for task in sorted({task for own in choices for task in own}):
            rows = [row for row, own in enumerate(choices) if task in own]
            named = [ids[clips.first[row]] for row in rows]
            origins = self._origins([clips.first[row] for row in rows])
            offered = candidates.rows([choices[row][task] for row in rows])
            result = choice_metrics(clips.embeddings[rows], candidates.embeddings, offered, named, origins)
            self.not_finite |= {named[row] for row in result.lost.nonzero().flatten().tolist()}
            found[f"choice_{task}"] = result.accuracy
            if group is None:
                self.tied[task] = int(result.tied.sum())
        return found
