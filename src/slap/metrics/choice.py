"""Questions with their own candidates: the share of clips to which the right one of a few captions is nearest.

n questions, each about one clip, P candidates of all of them, m different candidates, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from slap.core.errors import UserError
from slap.metrics.bootstrap import MetricValue, kind_of, mean_over_clips, order_of, units_of
from slap.metrics.finite import sound_rows
from slap.metrics.paired import Answers
from slap.metrics.retrieval_ranks import TIE

DEFINITION = (
    "share of clips to which the right candidate is nearer than every wrong one; chance: mean of 1 / number of "
    "candidates"
)
"""The metric in words."""

TIES = f"a wrong candidate whose cosine is the same, to {TIE:g}, counts as nearer than the right one"


@dataclass(frozen=True)
class ChoiceResult:
    """The result of one kind of question.

    Attributes:
        accuracy: the share of right answers, in percent.
        answers: what is behind it, for its change to another condition, see `slap.metrics.paired`.
        hits: (n,) bool, the questions that are answered right, in the order in which they were given.
        tied: (n,) bool, those whose nearest wrong candidate is as near as the right one.
        lost: (n,) bool, those about a clip, or with a candidate, that has no finite embedding. None of them is right.
    """

    accuracy: MetricValue
    answers: Answers
    hits: Tensor
    tied: Tensor
    lost: Tensor


def choice_metrics(
    audio: Tensor,
    text: Tensor,
    candidates: Sequence[Sequence[int]],
    ids: Sequence[str] | None = None,
    origins: Sequence[str] | None = None,
) -> ChoiceResult:
    """Compute the share of questions whose right candidate has the highest cosine.

    Args:
        audio: (n, E) embeddings of the clips.
        text: (m, E) embeddings of the different candidates, each once.
        candidates: the rows of `text` that each of the n questions offers, at least two, the right one first.
        ids: n ids of the clips, which are put in their order. Default: the clips are in that order.
        origins: the origin of each clip, over which intervals are, see `slap.metrics.bootstrap.units_of`.

    Raises:
        ValueError: there are no questions, or one has fewer than two candidates.

    Example:
        >>> text = torch.eye(3)
        >>> found = choice_metrics(text[[0, 1]], text, [[0, 1], [0, 1, 2]])
        >>> found.hits.tolist(), found.accuracy.value, round(found.accuracy.chance, 1)
        ([True, False], 50.0, 41.7)
    """
    sizes = torch.tensor([len(offered) for offered in candidates])
    if not len(sizes) or int(sizes.min()) < 2:
        raise UserError(f"a question needs at least two candidates; got {min(sizes.tolist(), default='no question')}")
    owner = torch.arange(len(sizes)).repeat_interleave(sizes)
    item = torch.tensor([row for offered in candidates for row in offered])
    lost = ~sound_rows(audio)
    lost[owner[~sound_rows(text)[item]]] = True
    cosines = (audio[owner] * text[item]).sum(1).nan_to_num()
    first = sizes.cumsum(0) - sizes
    right, wrong = cosines[first], cosines.index_fill(0, first, -torch.inf)
    ahead = right - torch.full_like(right, -torch.inf).scatter_reduce(0, owner, wrong, "amax")
    hits, tied = (ahead > TIE) & ~lost, (ahead.abs() <= TIE) & ~lost
    order = torch.arange(len(hits)) if ids is None else order_of(ids)
    unit = units_of(origins, order)
    accuracy = mean_over_clips(hits[order], unit, (100 / sizes.double()).mean().item(), over=kind_of(unit))
    return ChoiceResult(accuracy, Answers(hits[order], unit, accuracy.over), hits, tied, lost)


class Candidates:
    """Embeddings of candidates, of which each text is embedded once.

    Args:
        questions: the candidates of each question, the right one first.
        embed: texts to embeddings, (number of texts, E).

    Attributes:
        texts: the m different texts.
        embeddings: (m, E) float32 on the CPU.
    """

    def __init__(self, questions: Sequence[Sequence[str]], embed: Callable[[list[str]], Tensor]) -> None:
        self.texts = list(dict.fromkeys(text for offered in questions for text in offered))
        self.embeddings = embed(self.texts).float().cpu()
        self._place: Mapping[str, int] = {text: row for row, text in enumerate(self.texts)}

    def rows(self, questions: Sequence[Sequence[str]]) -> list[list[int]]:
        """Return the rows of `embeddings` that are the candidates of some of the questions."""
        return [[self._place[text] for text in offered] for offered in questions]


def tied_line(task: str, tied: int, count: int) -> str:
    """Write a line on questions whose candidates a model does not tell apart.

    Example:
        >>> tied_line("order", 3, 4)
        'order: 3 of 4 questions have a wrong candidate exactly as near as the right one, which counts as not right'
    """
    return (
        f"{task}: {tied} of {count} questions have a wrong candidate exactly as near as the right one, which counts "
        "as not right"
    )
