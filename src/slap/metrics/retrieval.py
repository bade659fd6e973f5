"""Text-to-audio and audio-to-text retrieval with any number of captions per clip, in bounded memory.

B clips, C captions, Q clips with a caption, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import comb
from typing import Literal

import torch
from torch import Tensor

from slap.metrics.bootstrap import MetricValue, mean_over_clips, order_of
from slap.metrics.median_rank import median_ranks
from slap.metrics.retrieval_ranks import caption_ranks, text_to_audio_ranks

CUTOFFS = (1, 5, 10)

DivideBy = Literal["all", "found"]
"""The divisor of average precision, see `average_precision_at`."""

DIVISORS: dict[str, DivideBy] = {"mAP@10": "all", "mAP@10_found": "found"}
"""The divisor of audio-to-text average precision under each of the two metrics that are published as mAP@10."""

DEFINITIONS = {
    **{f"t2a_R@{k}": f"share of captions whose clip is among the {k} nearest clips" for k in CUTOFFS},
    **{f"a2t_R@{k}": f"share of clips with one of their captions among the {k} nearest captions" for k in CUTOFFS},
    "t2a_mAP@10": "mean over captions of 1 / rank of their clip, 0 beyond rank 10",
    "a2t_mAP@10": "mean over clips of the sum over their captions within rank 10 of i / rank_i, divided by all "
    "captions of the clip",
    "a2t_mAP@10_found": "the same, divided by the captions found within rank 10",
    "t2a_median_rank": "median over captions of the rank of their clip, from 1",
    "a2t_median_rank": "median over clips of the best rank of their captions, from 1",
}
"""How each metric is computed, in words."""


@dataclass(frozen=True)
class RetrievalResult:
    """The retrieval metrics of a set, and what plots need.

    Attributes:
        metrics: by the names of `DEFINITIONS`; in percent, but for ranks.
        clips: (Q,) int64, the clips that have a caption, in the order of their ids: the audio-to-text queries.
        audio_ranks: (Q,) int64, the best rank of the captions of each of them, from 0.
    """

    metrics: dict[str, MetricValue]
    clips: Tensor
    audio_ranks: Tensor


def retrieval_metrics(audio: Tensor, text: Tensor, clip: Tensor, ids: Sequence[str] | None = None) -> RetrievalResult:
    """Compute recall, mAP@10 and median ranks in both directions, with intervals over clips and chance.

    Args:
        audio: (B, E) embeddings of clips.
        text: (C, E) embeddings of captions; a clip may have any number of captions, also none.
        clip: (C,) int64, the clip of each caption.
        ids: B ids of the clips, which are put in their order, so that the result does not depend on the order in which
            they are given. Default: the clips are in that order.

    Example:
        >>> audio, text = torch.eye(3), torch.eye(3)[[0, 0, 1, 1]]
        >>> result = retrieval_metrics(audio, text, torch.tensor([0, 0, 1, 2]), ["a", "b", "c"])
        >>> result.metrics["t2a_R@1"].value, round(result.metrics["t2a_R@1"].chance, 1)
        (75.0, 33.3)
    """
    order = torch.arange(len(audio)) if ids is None else order_of(ids)
    if ids is not None:
        audio, text, clip = _in_order(audio, text, clip, order)
    clips, captions = len(audio), len(text)
    text_ranks = text_to_audio_ranks(audio, text, clip)
    captioned, place = clip.unique(return_inverse=True)  # a clip without caption is no query
    ranks = caption_ranks(audio[captioned], text, place)
    # Of equal captions of a clip the first counts, so the least rank is that of `audio_to_text_ranks`.
    best = torch.full((len(captioned),), captions).scatter_reduce(0, place, ranks, "amin")
    queries = torch.arange(len(captioned))
    sizes, frequency = place.bincount().unique(return_counts=True)
    each = list(zip(sizes.tolist(), (frequency / frequency.sum()).tolist(), strict=True))
    metrics: dict[str, MetricValue] = {}
    for k in CUTOFFS:
        metrics[f"t2a_R@{k}"] = mean_over_clips(text_ranks < k, place, chance_recall(k, clips, 1))
    for k in CUTOFFS:
        chance = sum(share * chance_recall(k, captions, size) for size, share in each)
        metrics[f"a2t_R@{k}"] = mean_over_clips(best < k, queries, chance)
    precision = average_precision_at(10, text_ranks, torch.arange(captions))
    metrics["t2a_mAP@10"] = mean_over_clips(precision, place, chance_average_precision(10, clips, 1))
    for name, divide_by in DIVISORS.items():
        chance = sum(share * chance_average_precision(10, captions, size, divide_by) for size, share in each)
        metrics[f"a2t_{name}"] = mean_over_clips(average_precision_at(10, ranks, place, divide_by), queries, chance)
    metrics |= median_ranks(text_ranks, best, clip, clips)
    return RetrievalResult(metrics, order[captioned], best)


def _in_order(audio: Tensor, text: Tensor, clip: Tensor, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Put clips in an order, and captions in that of their clips; nothing is copied where they are in it already."""
    if not torch.equal(order, torch.arange(len(order))):
        audio, clip = audio[order], order.argsort()[clip]
    captions = clip.argsort(stable=True)
    if not torch.equal(captions, torch.arange(len(captions))):
        text, clip = text[captions], clip[captions]
    return audio, text, clip


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
