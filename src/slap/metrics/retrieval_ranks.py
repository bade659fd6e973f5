"""Ranks of the right clip or caption among all, in bounded memory.

B clips, C captions, E shared dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 1024
"""Queries compared at once, ..."""

SCORES = 1 << 22
"""... fewer where they would have more scores than this together: 16 MB, and a few times that for comparing them."""


def text_to_audio_ranks(audio: Tensor, text: Tensor, clip: Tensor) -> Tensor:
    """Rank the clip of each caption among all clips, from 0.

    A clip that scores the same as the right one counts as better, so that a collapsed model, which gives everything
    the same embedding, does not look perfect.

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
    """Rank the best caption of each clip among all captions, from 0; equal scores count as better.

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
    """Rank each caption among all captions with its own clip as the query, from 0.

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
    """Return the number of queries that are compared with so many items at once."""
    return max(1, min(CHUNK, SCORES // max(items, 1)))


def _product(queries: Tensor, items: Tensor, room: Tensor) -> Tensor:
    """Compute scores, (n, m), in memory that is there: blocks of this size that come and go would scatter it."""
    return torch.mm(queries, items.T, out=room[: len(queries)])


def _not_below(scores: Tensor, values: Tensor, row: Tensor, room: Tensor) -> Tensor:
    """Count the entries of a row that are not below a value: (B, C), (n,), (n,) int64, room for (B, C) -> (n,)."""
    counts = torch.empty_like(row)
    for start in range(0, len(row), len(room)):
        part = slice(start, start + len(room))
        wanted = values[part, None]
        counts[part] = _ones(torch.index_select(scores, 0, row[part], out=room[: len(wanted)]).ge_(wanted))
    return counts


def _ones(marks: Tensor) -> Tensor:
    """Count the entries of each row that are 1, where the others are 0: (n, m) -> (n,) int64.

    Marks take the place of scores, since torch takes eight bytes an entry to add up booleans. Single precision counts
    exactly up to 2^24; beyond it the sum is one in double precision.
    """
    return marks.sum(1, dtype=torch.float64 if marks.shape[1] > 1 << 24 else None).long()
