"""Text-to-audio and audio-to-text retrieval with any number of captions per clip, in bounded memory.

B clips, C captions, E shared dimension.
"""

from __future__ import annotations

from itertools import product
from math import comb
from typing import Literal

import torch
from torch import Tensor

CHUNK = 1024
"""Queries compared at once, ..."""

SCORES = 1 << 22
"""... fewer where they would have more scores than this together: 16 MB, and a few times that for comparing them."""

DivideBy = Literal["all", "found"]
"""What average precision is divided by, see `average_precision_at`."""


def text_to_audio_ranks(audio: Tensor, text: Tensor, clip: Tensor) -> Tensor:
    """For each caption the rank of its clip among all clips, from 0.

    A clip that scores the same as the right one counts as better, so that a collapsed model, to which everything is
    alike, does not look perfect.

    Args:
        audio: (B, E) embeddings of clips.
        text: (C, E) embeddings of captions.
        clip: (C,) int64, the clip of each caption.

    Returns:
        (C,) int64.
    """
    ranks = torch.empty_like(clip)
    size = _queries(len(audio))
    room = audio.new_empty(min(size, len(text)), len(audio))
    for start in range(0, len(text), size):
        scores = _product(text[start : start + size], audio, room)
        right = scores.gather(1, clip[start : start + size, None])
        ranks[start : start + size] = _ones(scores.ge_(right)) - 1
    return ranks


def audio_to_text_ranks(audio: Tensor, text: Tensor, clip: Tensor) -> Tensor:
    """For each clip the best rank of its captions among all captions, from 0; equal scores count as better.

    Args:
        audio: (B, E) embeddings of clips; every clip has a caption.
        text: (C, E) embeddings of captions.
        clip: (C,) int64, the clip of each caption.

    Returns:
        (B,) int64.
    """
    ranks = torch.empty(len(audio), dtype=torch.int64, device=clip.device)
    size = _queries(len(text))
    room = audio.new_empty(min(size, len(audio)), len(text))
    for start in range(0, len(audio), size):
        scores = _product(audio[start : start + size], text, room)
        own = clip == torch.arange(start, start + len(scores), device=clip.device)[:, None]
        best = scores.masked_fill(~own, -torch.inf).amax(1, keepdim=True)
        ranks[start : start + size] = _ones(scores.ge_(best).masked_fill_(own, 0))
    return ranks


def caption_ranks(audio: Tensor, text: Tensor, clip: Tensor) -> Tensor:
    """For each caption its rank among all captions when its own clip is the query, from 0.

    A caption of another clip that scores the same counts as better; equal ones of the same clip stand in their order.

    Args:
        audio: (B, E) embeddings of clips.
        text: (C, E) embeddings of captions.
        clip: (C,) int64, the clip of each caption.

    Returns:
        (C,) int64.
    """
    ranks = torch.empty_like(clip)
    size = _queries(len(text))
    room, more = (audio.new_empty(min(size, len(audio)), len(text)) for _ in range(2))
    for start in range(0, len(audio), size):
        scores = _product(audio[start : start + size], text, room)
        own = ((clip >= start) & (clip < start + len(scores))).nonzero().squeeze(1)
        query = clip[own] - start
        ranks[own] = _not_below(scores, scores[query, own], query, more) - 1
    # Equal captions of a clip have the rank of the last of them by now.
    key = clip * len(text) + ranks
    order = key.argsort(stable=True)
    _, alike = key[order].unique_consecutive(return_counts=True)
    ranks[order] -= alike.cumsum(0).repeat_interleave(alike) - 1 - torch.arange(len(key), device=key.device)
    return ranks


def _queries(items: int) -> int:
    """How many queries are compared with so many items at once."""
    return max(1, min(CHUNK, SCORES // max(items, 1)))


def _product(queries: Tensor, items: Tensor, room: Tensor) -> Tensor:
    """Scores, (n, m), in memory that is there: blocks of this size that come and go would scatter the memory."""
    return torch.mm(queries, items.T, out=room[: len(queries)])


def _not_below(scores: Tensor, values: Tensor, row: Tensor, room: Tensor) -> Tensor:
    """How many entries of a row are not below a value: (B, C), (n,), (n,) int64, memory for (B, C) -> (n,)."""
    counts = torch.empty_like(row)
    for start in range(0, len(row), len(room)):
        part = slice(start, start + len(room))
        wanted = values[part, None]
        counts[part] = _ones(torch.index_select(scores, 0, row[part], out=room[: len(wanted)]).ge_(wanted))
    return counts


def _ones(marks: Tensor) -> Tensor:
    """How many entries of each row are 1, where the others are 0: (n, m) -> (n,) int64.

    Marks take the place of scores, since torch takes eight bytes an entry to add up booleans. Single precision counts
    exactly up to 2^24; beyond it the sum is one in double precision.
    """
    return marks.sum(1, dtype=torch.float64 if marks.shape[1] > 1 << 24 else None).long()


def average_precision_at(k: int, ranks: Tensor, query: Tensor, divide_by: DivideBy = "all") -> Tensor:
    """Average precision at k of each query: the sum over right items in the first k of i / rank_i, divided.

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
    """What `average_precision_at` is in the mean over random orders, in percent; exact, by going through all 2^k."""
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
    """Chance, in percent, that one of `right` items is among the first k of `items` in random order."""
    k = min(k, items)
    return 100 * (1 - comb(items - right, k) / comb(items, k))
