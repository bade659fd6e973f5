"""Text-to-audio and audio-to-text retrieval with any number of captions per clip, in bounded memory.

B clips, C captions, Q clips with a caption, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import comb
from typing import Literal

import torch
from torch import Tensor

from slap.metrics.bootstrap import MetricValue, kind_of, mean_over_clips, order_of, units_of
from slap.metrics.median_rank import chance_best_rank, median_rank
from slap.metrics.paired import Answers
from slap.metrics.retrieval_pairs import first_places, pairs_of
from slap.metrics.retrieval_ranks import first_ranks, right_ranks

CUTOFFS = (1, 5, 10)

DivideBy = Literal["all", "found"]
"""The divisor of average precision, see `average_precision_at`."""

DIVISORS: dict[str, DivideBy] = {"mAP@10": "all", "mAP@10_found": "found"}
"""The divisor of audio-to-text average precision under each of the two metrics that are published as mAP@10."""

DEFINITIONS = {
    **{f"t2a_R@{k}": f"share of captions with a right clip among the {k} nearest clips" for k in CUTOFFS},
    **{f"a2t_R@{k}": f"share of clips with a right caption among the {k} nearest captions" for k in CUTOFFS},
    "t2a_mAP@10": "mean over captions of 1 / rank of their nearest right clip, 0 beyond rank 10",
    "a2t_mAP@10": "mean over clips of the sum over their right captions within rank 10 of i / rank_i, divided by all "
    "right captions of the clip",
    "a2t_mAP@10_found": "the same, divided by the right captions found within rank 10",
    "t2a_median_rank": "median over captions of the rank of their nearest right clip, from 1",
    "a2t_median_rank": "median over clips of the best rank of their right captions, from 1",
}
"""How each metric is computed, in words; `slap.metrics.retrieval_pairs.RIGHT` says what is right."""


@dataclass(frozen=True)
class RetrievalResult:
    """The retrieval metrics of a set, and what plots need.

    Attributes:
        metrics: by the names of `DEFINITIONS`; in percent, but for ranks.
        clips: (Q,) int64, the clips that have a caption, in the order of their ids: the audio-to-text queries.
        audio_ranks: (Q,) int64, the best rank of the captions of each of them, from 0.
        answers: what is behind each metric but the median ranks, for its change to another condition, see
            `slap.metrics.paired`.
    """

    metrics: dict[str, MetricValue]
    clips: Tensor
    audio_ranks: Tensor
    answers: dict[str, Answers]


def retrieval_metrics(
    audio: Tensor,
    text: Tensor,
    clip: Tensor,
    ids: Sequence[str] | None = None,
    caption: Tensor | None = None,
    own_only: bool = False,
    origins: Sequence[str] | None = None,
) -> RetrievalResult:
    """Compute recall, mAP@10 and median ranks in both directions, with intervals, chance and the best that is possible.

    Args:
        audio: (B, E) embeddings of clips.
        text: (C, E) embeddings of captions; a clip may have any number of captions, also none. Of equal captions the
            first one's stands for all.
        clip: (C,) int64, the clip of each caption.
        ids: B ids of the clips, which are put in their order, so that the result does not depend on the order in which
            they are given. Default: the clips are in that order.
        caption: (C,) int64, equal for equal captions. Default: all captions differ.
        own_only: whether a caption's own clip alone is right for it, see `slap.metrics.retrieval_pairs`.
        origins: the origin of each of the B clips, over which intervals are, see `units_of`.

    Example:
        >>> audio, text = torch.eye(3), torch.eye(3)[[0, 0, 1, 1]]
        >>> result = retrieval_metrics(audio, text, torch.tensor([0, 0, 1, 2]), ["a", "b", "c"])
        >>> result.metrics["t2a_R@1"].value, round(result.metrics["t2a_R@1"].chance, 1)
        (75.0, 33.3)
    """
    order = torch.arange(len(audio)) if ids is None else order_of(ids)
    unit = units_of(origins, order)
    caption = torch.arange(len(text)) if caption is None else caption
    audio, text, clip, caption = _in_order(audio, text, clip, caption, order)
    pairs = pairs_of(clip, _renumbered(caption), len(audio), own_only)
    text = text if torch.equal(pairs.text, torch.arange(len(text))) else text[pairs.text]
    of_text = first_ranks(right_ranks(text, audio, pairs.text_query, pairs.clip), pairs.text_query, len(text))
    text_ranks = of_text[pairs.of_caption]
    queries = audio if len(pairs.captioned) == len(audio) else audio[pairs.captioned]  # one without caption is none
    ranks = right_ranks(queries, text, pairs.audio_query, pairs.item)
    of_captions, of_clips = (unit[rows].unique(return_inverse=True)[1] for rows in (clip, pairs.captioned))
    units = _Units(of_captions, of_clips, kind_of(unit))
    right = pairs.text_query.bincount()[pairs.of_caption]
    metrics = _of_text(text_ranks, pairs.best_text_ranks, right, len(audio), units)
    metrics |= _of_audio(ranks, pairs.best_pair_ranks, pairs.audio_query, len(text), units)
    names = [name for name in DEFINITIONS if name in metrics]
    best = first_ranks(ranks, pairs.audio_query, len(queries))
    answers = {name: Answers(values, units.text, units.kind) for name, values in _text_values(text_ranks).items()}
    for name, values in _audio_values(ranks, pairs.audio_query).items():
        answers[name] = Answers(values, units.audio, units.kind)
    return RetrievalResult({name: metrics[name] for name in names}, order[pairs.captioned], best, answers)


@dataclass(frozen=True)
class _Units:
    """The units of the C captions and of the Q clips with a caption, each counted from 0, and the word for them."""

    text: Tensor
    audio: Tensor
    kind: str


def _of_text(ranks: Tensor, ideal: Tensor, right: Tensor, clips: int, units: _Units) -> dict[str, MetricValue]:
    """Compute the metrics of text to audio from the ranks of captions, (C,), and numbers of right clips, (C,)."""
    kinds = _shares(right)
    chances = {f"t2a_R@{k}": _mean_chance(kinds, partial(chance_recall, k, clips)) for k in CUTOFFS}
    chances["t2a_mAP@10"] = _mean_chance(kinds, partial(chance_reciprocal_rank, 10, clips))
    best = _text_values(ideal)
    found = {
        name: mean_over_clips(values, units.text, chances[name], best=_mean(best[name]), over=units.kind)
        for name, values in _text_values(ranks).items()
    }
    middle = (clips + 1) / 2 if int(right.max()) == 1 else chance_best_rank(clips, right)
    found["t2a_median_rank"] = median_rank(ranks, units.text, middle, best=ideal, over=units.kind)
    return found


def _text_values(ranks: Tensor) -> dict[str, Tensor]:
    """Return the value of each caption, (C,), by metric, from its rank."""
    return {**{f"t2a_R@{k}": ranks < k for k in CUTOFFS}, "t2a_mAP@10": _reciprocal(ranks, 10)}


def _of_audio(
    pair_ranks: Tensor, ideal_ranks: Tensor, query: Tensor, captions: int, units: _Units
) -> dict[str, MetricValue]:
    """Compute the metrics of audio to text from the ranks of right captions, (P,), of each query, (P,)."""
    sizes = query.bincount()
    first, ideal = (first_ranks(ranks, query, len(sizes)) for ranks in (pair_ranks, ideal_ranks))
    kinds = _shares(sizes)
    chances = {f"a2t_R@{k}": _mean_chance(kinds, partial(chance_recall, k, captions)) for k in CUTOFFS}
    for name, divide_by in DIVISORS.items():
        of_size = partial(chance_average_precision, 10, captions, divide_by=divide_by)
        chances[f"a2t_{name}"] = _mean_chance(kinds, of_size)
    best = _audio_values(ideal_ranks, query)
    # Where the divisor is what is found, a model may find the first alone.
    best["a2t_mAP@10_found"] = torch.maximum(best["a2t_mAP@10_found"], _reciprocal(ideal, 10))
    found = {
        name: mean_over_clips(values, units.audio, chances[name], best=_mean(best[name]), over=units.kind)
        for name, values in _audio_values(pair_ranks, query).items()
    }
    middle = chance_best_rank(captions, sizes)
    found["a2t_median_rank"] = median_rank(first, units.audio, middle, best=ideal, over=units.kind)
    return found


def _audio_values(pair_ranks: Tensor, query: Tensor) -> dict[str, Tensor]:
    """Return the value of each clip with a caption, (Q,), by metric, from the ranks of its right captions, (P,)."""
    first = first_ranks(pair_ranks, query, int(query.max()) + 1)
    found = {f"a2t_R@{k}": first < k for k in CUTOFFS}
    return found | {f"a2t_{name}": average_precision_at(10, pair_ranks, query, by) for name, by in DIVISORS.items()}


def _mean_chance(kinds: Sequence[tuple[int, float]], chance: Callable[[int], float]) -> float:
    """Return the mean chance of queries, of which each number of right items has a share."""
    return sum(share * chance(size) for size, share in kinds)


def _mean(values: Tensor) -> float:
    return values.double().mean().item()


def _shares(sizes: Tensor) -> list[tuple[int, float]]:
    """Return each number among (n,) int64 with its share."""
    numbers, times = sizes.unique(return_counts=True)
    return list(zip(numbers.tolist(), (times / times.sum()).tolist(), strict=True))


def _reciprocal(ranks: Tensor, k: int) -> Tensor:
    """Return 1 / rank from 1, 0 from rank k on: (n,) int64 -> (n,) float64."""
    return torch.where(ranks < k, 1 / (ranks.double() + 1), 0.0)


def _renumbered(caption: Tensor) -> Tensor:
    """Number captions, (C,) int64, from 0 without gaps in the order of their first places."""
    number = caption.unique(return_inverse=True)[1]
    return first_places(number).argsort().argsort()[number]


def _in_order(
    audio: Tensor, text: Tensor, clip: Tensor, caption: Tensor, order: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Put clips in an order, and captions in that of their clips; nothing is copied where they are in it already."""
    if not torch.equal(order, torch.arange(len(order))):
        audio, clip = audio[order], order.argsort()[clip]
    captions = clip.argsort(stable=True)
    if not torch.equal(captions, torch.arange(len(captions))):
        text, clip, caption = text[captions], clip[captions], caption[captions]
    return audio, text, clip, caption


def average_precision_at(k: int, ranks: Tensor, query: Tensor, divide_by: DivideBy = "all") -> Tensor:
    """Compute average precision at k of each query: the sum over right items in the first k of i / rank_i, divided.

    Both definitions are in use and differ, so name the one you report.

    Args:
        k: the cut-off.
        ranks: (C,) int64, the rank of each right item in its query's order, from 0; each rank of a query once.
        query: (C,) int64, the query of each, counted from 0 without gaps.
        divide_by: "all" right items of the query, as audio retrieval does (c captions: at most k / c when c > k), or
            those "found" in the first k, as torchmetrics does.

    Returns:
        (Q,) float64, 0 to 1.

    Example:
        >>> ranks, query = torch.tensor([0, 3, 25]), torch.tensor([0, 0, 0])
        >>> [round(average_precision_at(10, ranks, query, by).item(), 4) for by in ("all", "found")]
        [0.5, 0.75]
    """
    queries = int(query.max()) + 1
    order = torch.argsort(query * (int(ranks.max()) + 1) + ranks)
    ranks, query = ranks[order], query[order]
    size = torch.bincount(query, minlength=queries)
    place = torch.arange(len(ranks)) - (size.cumsum(0) - size)[query] + 1
    inside = ranks < k
    total = torch.zeros(queries, dtype=torch.float64).index_add_(0, query, inside * place.double() / (ranks + 1))
    found = torch.bincount(query[inside], minlength=queries)
    return total / (size if divide_by == "all" else found).clamp(min=1)


def chance_average_precision(k: int, items: int, right: int, divide_by: DivideBy = "all") -> float:
    """Compute the mean of `average_precision_at` over random orders, in percent; exact, by going through all 2^k."""
    k = min(k, items)
    total = 0.0
    for pattern in product((False, True), repeat=k):
        probability, found, score = 1.0, 0, 0.0
        for rank, hit in enumerate(pattern):
            share = (right - found) / (items - rank)
            probability *= share if hit else 1 - share
            found += hit
            score += hit * found / (rank + 1)
        total += probability * score / max(right if divide_by == "all" else found, 1)
    return 100 * total


def chance_recall(k: int, items: int, right: int) -> float:
    """Compute the chance, in percent, that one of `right` items is among the first k of `items` in random order."""
    k = min(k, items)
    return 100 * (1 - comb(items - right, k) / comb(items, k))


def chance_reciprocal_rank(k: int, items: int, right: int) -> float:
    """Compute the mean over random orders of 1 / rank of the first of `right` items, 0 beyond rank k, in percent."""
    reached = [0.0, *(chance_recall(rank, items, right) for rank in range(1, min(k, items) + 1))]
    return sum((reached[rank] - reached[rank - 1]) / rank for rank in range(1, len(reached)))
