"""Text-to-audio and audio-to-text retrieval with any number of captions per clip, in bounded memory.

B clips, C captions, E shared dimension.
"""

from __future__ import annotations

from math import comb

import torch
from torch import Tensor

CHUNK = 1024
"""Queries compared at once."""


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
    ranks = []
    for queries, owners in zip(text.split(CHUNK), clip.split(CHUNK), strict=True):
        scores = queries @ audio.T
        right = scores.gather(1, owners[:, None])
        ranks.append((scores >= right).sum(1) - 1)
    return torch.cat(ranks)


def audio_to_text_ranks(audio: Tensor, text: Tensor, clip: Tensor) -> Tensor:
    """For each clip the best rank of its captions among all captions, from 0; equal scores count as better.

    Args:
        audio: (B, E) embeddings of clips; every clip has a caption.
        text: (C, E) embeddings of captions.
        clip: (C,) int64, the clip of each caption.

    Returns:
        (B,) int64.
    """
    ranks = []
    for start in range(0, len(audio), CHUNK):
        scores = audio[start : start + CHUNK] @ text.T
        own = clip == torch.arange(start, start + len(scores), device=clip.device)[:, None]
        best = scores.masked_fill(~own, -torch.inf).amax(1, keepdim=True)
        ranks.append(((scores >= best) & ~own).sum(1))
    return torch.cat(ranks)


def chance_recall(k: int, items: int, right: int) -> float:
    """Chance, in percent, that one of `right` items is among the first k of `items` in random order."""
    k = min(k, items)
    return 100 * (1 - comb(items - right, k) / comb(items, k))
