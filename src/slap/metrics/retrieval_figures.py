"""All figures of retrieval, from embeddings; in bounded memory.

B clips, C captions, E shared dimension.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from slap.metrics.bootstrap import MetricValue, bootstrapped
from slap.metrics.retrieval import (
    DivideBy,
    average_precision_at,
    caption_ranks,
    chance_average_precision,
    chance_recall,
    text_to_audio_ranks,
)

CUTOFFS = (1, 5, 10)

DEFINITIONS: dict[str, DivideBy] = {"mAP@10": "all", "mAP@10_found": "found"}
"""What average precision of audio to text is divided by, both published as mAP@10; see `average_precision_at`."""

IN_WORDS = {
    **{f"t2a_R@{k}": f"share of captions whose clip is among the {k} nearest clips" for k in CUTOFFS},
    **{f"a2t_R@{k}": f"share of clips with one of their captions among the {k} nearest captions" for k in CUTOFFS},
    "t2a_mAP@10": "mean over captions of 1 / rank of their clip, 0 beyond rank 10",
    "a2t_mAP@10": "mean over clips of the sum over their captions within rank 10 of i / rank_i, divided by all "
    "captions of the clip",
    "a2t_mAP@10_found": "the same, divided by the captions found within rank 10",
    "t2a_median_rank": "median over captions of the rank of their clip, from 1",
    "a2t_median_rank": "median over clips of the best rank of their captions, from 1",
}
"""How each figure is computed."""


@dataclass(frozen=True)
class Retrieved:
    """The figures of a set, and what plots need.

    Attributes:
        results: by name; in percent, but for ranks.
        captioned: (Q,) int64, the clips that have a caption: the queries of audio to text.
        audio_ranks: (Q,) int64, the best rank of each one's captions, from 0.
        text_ranks: (C,) int64, for each caption the rank of its clip, from 0.
    """

    results: dict[str, MetricValue]
    captioned: Tensor
    audio_ranks: Tensor
    text_ranks: Tensor


def retrieval_figures(audio: Tensor, text: Tensor, clip: Tensor) -> Retrieved:
    """Recall and mAP@10 in both directions, with intervals over clips and chance.

    Args:
        audio: (B, E) embeddings of clips.
        text: (C, E) embeddings of captions; a clip may have any number, also none.
        clip: (C,) int64, the clip of each caption.
    """
    clips, captions = len(audio), len(text)
    results: dict[str, MetricValue] = {}
    text_ranks = text_to_audio_ranks(audio, text, clip)
    captioned, place = clip.unique(return_inverse=True)  # a clip without caption is no query
    ranks = caption_ranks(audio[captioned], text, place)
    # Of equal captions of a clip the first counts, so the least rank is that of `audio_to_text_ranks`.
    best = torch.full((len(captioned),), captions).scatter_reduce(0, place, ranks, "amin")
    queries = torch.arange(len(captioned))
    sizes, frequency = place.bincount().unique(return_counts=True)
    shares = (frequency / frequency.sum()).tolist()
    each = list(zip(sizes.tolist(), shares, strict=True))
    for k in CUTOFFS:
        results[f"t2a_R@{k}"] = bootstrapped(text_ranks < k, place, chance_recall(k, clips, 1))
    for k in CUTOFFS:
        chance = sum(share * chance_recall(k, captions, size) for size, share in each)
        results[f"a2t_R@{k}"] = bootstrapped(best < k, queries, chance)
    precision = average_precision_at(10, text_ranks, torch.arange(captions))
    results["t2a_mAP@10"] = bootstrapped(precision, place, chance_average_precision(10, clips, 1))
    for name, divide_by in DEFINITIONS.items():
        chance = sum(share * chance_average_precision(10, captions, size, divide_by) for size, share in each)
        precision = average_precision_at(10, ranks, place, divide_by)
        results[f"a2t_{name}"] = bootstrapped(precision, queries, chance)
    return Retrieved(results, captioned, best, text_ranks)
