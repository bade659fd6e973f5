"""Scores of written captions: BLEU, ROUGE-L, METEOR and CIDEr-D, by their authors' or coco-caption's code.

G clips, S samples of them, F numbers that are added up over clips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from slap.core.errors import UserError
from slap.metrics.captioning.meteor import added, meteor_of
from slap.metrics.captioning.ptb import meteor

TINY, SMALL = 1e-15, 1e-9
"""Numbers that coco-caption's BLEU adds to numerators and denominators."""

LENGTH = 4
"""BLEU counts n-grams of one word up to so many."""


@dataclass(frozen=True, eq=False)
class Totals:
    """A metric of a corpus that is no mean over clips, but follows from sums over clips.

    Attributes:
        each: (G, F) float64, the numbers that each clip adds.
        value: sums, (S, F), to the metric, (S,).
    """

    each: Tensor
    value: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class CaptionScore:
    """One metric over a set of written captions.

    Attributes:
        corpus: its value for the set; for BLEU and METEOR not the mean over clips.
        clips: G values, one a clip.
        totals: the sums that `corpus` follows from, where it is not the mean over clips.
    """

    corpus: float
    clips: tuple[float, ...]
    totals: Totals | None = field(default=None, compare=False)


def check(written: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Raise a `ValueError` unless there is one written caption, and a reference, for each clip."""
    if not written or len(written) != len(references) or not all(references):
        raise UserError(
            f"each clip needs one written caption and at least one reference; got {len(written)} written captions and "
            f"{len(references)} groups of references, {sum(not group for group in references)} of them empty"
        )


def tokenized(
    written: Sequence[str], references: Sequence[Sequence[str]], tokenize: Callable[[Sequence[str]], list[str]]
) -> tuple[list[str], list[list[str]]]:
    """Tokenize everything in one run of the tokenizer, since starting Java takes longer than its work."""
    tokens = tokenize([*written, *(caption for group in references for caption in group)])
    rest = iter(tokens[len(written) :])
    return tokens[: len(written)], [[next(rest) for _ in group] for group in references]


def mean_of(clips: Sequence[float]) -> CaptionScore:
    """Make a metric whose value for the corpus is the mean over clips."""
    return CaptionScore(sum(clips) / len(clips), tuple(clips))


def part_of(score: CaptionScore, clips: slice) -> CaptionScore:
    """Restrict a metric to some of the clips, where a clip's value does not depend on the others'."""
    if score.totals is None:
        return mean_of(score.clips[clips])
    each = score.totals.each[clips]
    corpus = float(score.totals.value(each.sum(0, keepdim=True)))
    return CaptionScore(corpus, score.clips[clips], Totals(each, score.totals.value))


def bleu(written: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, CaptionScore]:
    """BLEU-1 to BLEU-4 of tokens, by coco-caption's code."""
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=LENGTH)
    for caption, group in zip(written, references, strict=True):
        scorer += (caption, list(group))
    corpus, clips = scorer.compute_score(option="closest", verbose=0)
    each = torch.tensor([_bleu_counts(clip) for clip in scorer.ctest], dtype=torch.float64)
    return {
        f"bleu_{n}": CaptionScore(
            float(corpus[n - 1]),
            tuple(map(float, clips[n - 1])),
            Totals(each, lambda sums, n=n: bleu_of(sums, n)),  # type: ignore[misc]
        )
        for n in range(1, LENGTH + 1)
    }


def _bleu_counts(clip: Mapping[str, list[int] | int]) -> list[int]:
    """Return coco-caption's counts of a clip: n-grams that match, n-grams, words, words of the nearest reference."""
    words, lengths = clip["testlen"], clip["reflen"]
    assert isinstance(lengths, list)
    nearest = min((abs(length - words), length) for length in lengths)[1]  # type: ignore[operator]
    return [*clip["correct"], *clip["guess"], words, nearest]  # type: ignore[misc, list-item]


def bleu_of(sums: Tensor, n: int) -> Tensor:
    """BLEU-n of sums of counts, (S, 2 x 4 + 2) -> (S,), with coco-caption's ways to avoid zero."""
    precision = (sums[:, :n] + TINY) / (sums[:, LENGTH : LENGTH + n] + SMALL)
    ratio = (sums[:, -2] + TINY) / (sums[:, -1] + SMALL)
    return precision.log().mean(1).exp() * (1 - 1 / ratio).clamp(max=0).exp()


def rouge_l(written: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionScore:
    """ROUGE-L of tokens, by coco-caption's code."""
    from pycocoevalcap.rouge.rouge import Rouge

    ours = {clip: [caption] for clip, caption in enumerate(written)}
    corpus, clips = Rouge().compute_score(dict(enumerate(map(list, references))), ours)
    return CaptionScore(float(corpus), tuple(map(float, clips)))


def meteor_score(written: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionScore:
    """METEOR of tokens, by its authors' program."""
    found = meteor(written, references)
    totals = Totals(added(torch.tensor(found.counts)), meteor_of)
    return CaptionScore(found.corpus, tuple(found.clips), totals)
