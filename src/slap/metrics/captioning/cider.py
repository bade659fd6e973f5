"""CIDEr-D (arXiv 1411.5726, eq. 5-6), in Python alone.

G clips, each with one written caption and some references.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import exp, log, sqrt

from slap.core.errors import UserError

NGRAMS = 4
"""n-grams of one word up to so many."""

SIGMA = 6.0
"""Width of the penalty on a difference in length."""

Ngrams = Counter[tuple[str, ...]]


def cider_d(written: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Compute CIDEr-D of each clip; their mean is that of the corpus.

    The numbers are those of coco-caption's scorer on the same tokens. Where that differs from the paper, so does this:
    the length that is compared is the number of bigrams, and terms are counted, not divided by their number.

    Inverse document frequencies are those of the references given, so scores of different sets cannot be compared, and
    one clip alone scores 0. Papers on audio captioning call this CIDEr, most of them times 100.

    Args:
        written: G captions, tokens separated by spaces; the PTB tokenizer's for comparable scores.
        references: for each of them one or more captions, likewise.

    Returns:
        G scores, 0 to 10.

    Raises:
        ValueError: the numbers do not match, or a clip has no reference.

    Example:
        >>> scores = cider_d(["a dog barks", "rain falls"], [["a dog barks loudly"], ["rain falls", "it rains"]])
        >>> [round(score, 3) for score in scores]
        [5.892, 2.5]
    """
    if len(written) != len(references) or not all(references):
        raise UserError(
            f"each written caption needs references: got {len(written)} captions, {len(references)} groups of "
            f"references, {sum(not group for group in references)} of them empty"
        )
    counted = [[_ngrams(reference) for reference in group] for group in references]
    frequency = Counter(gram for group in counted for gram in set().union(*group))
    clips = log(len(references)) if references else 0.0
    idf = {gram: clips - log(count) for gram, count in frequency.items()}
    vectors = [[_Vector(ngrams, idf, clips) for ngrams in group] for group in counted]
    hypotheses = [_Vector(_ngrams(caption), idf, clips) for caption in written]
    return [
        10 * sum(_similarity(hypothesis, reference) for reference in group) / len(group)
        for hypothesis, group in zip(hypotheses, vectors, strict=True)
    ]


def _ngrams(caption: str) -> Ngrams:
    words = caption.split()
    return Counter(tuple(words[i : i + n]) for n in range(1, NGRAMS + 1) for i in range(len(words) - n + 1))


class _Vector:
    """Weights of a caption's n-grams, by n, with their norms."""

    def __init__(self, ngrams: Ngrams, idf: dict[tuple[str, ...], float], unseen: float) -> None:
        self.weights: list[dict[tuple[str, ...], float]] = [{} for _ in range(NGRAMS)]
        for gram, count in ngrams.items():
            self.weights[len(gram) - 1][gram] = count * idf.get(gram, unseen)
        self.norms = [sqrt(sum(weight**2 for weight in weights.values())) for weights in self.weights]
        self.bigrams = sum(count for gram, count in ngrams.items() if len(gram) == 2)


def _similarity(hypothesis: _Vector, reference: _Vector) -> float:
    """Compute the mean over n of the clipped cosines, times the penalty on the difference in length."""
    total = 0.0
    for n in range(NGRAMS):
        ours, theirs = hypothesis.weights[n], reference.weights[n]
        norm = hypothesis.norms[n] * reference.norms[n]
        if norm:
            shared = sum(min(weight, theirs[gram]) * theirs[gram] for gram, weight in ours.items() if gram in theirs)
            total += shared / norm
    penalty = exp(-((hypothesis.bigrams - reference.bigrams) ** 2) / (2 * SIGMA**2))
    return penalty * total / NGRAMS
