"""Pairs of clips and captions that are right for each other, and the best ranks that any model can give them.

B clips, C captions of theirs, D different captions, P pairs, Q clips with a caption.

Clips may share a caption, word for word. By default each of them is right for it, as in training, and a caption is one
item however often it stands in the set. Published protocols know the caption's own clip alone, and count each caption
of the set: equal captions of other clips then stand in the way of any model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RIGHT = {
    False: "a clip is right for every caption that is equal to one of its own; each different caption is one item",
    True: "a caption's own clip alone is right, as published, also where other clips have the same caption",
}
"""The two rules in words, by `own_only`."""


@dataclass(frozen=True)
class Pairs:
    """Queries, items and right pairs in both directions.

    Attributes:
        text: (D,) or (C,) int64, the captions that are queries and items: those that stand for each different caption
            first, or all.
        of_caption: (C,) int64, the place in `text` of each caption.
        text_query: (P,) int64, for text to audio the query of each pair, ascending; a place in `text`.
        clip: (P,) int64, the clip of each such pair.
        audio_query: (P,) int64, for audio to text the query of each pair, ascending; a place in `captioned`.
        item: (P,) int64, the place in `text` of each such pair.
        captioned: (Q,) int64, the clips with a caption.
        best_text_ranks: (C,) int64, for each caption the least rank of its clip that a model can reach.
        best_pair_ranks: (P,) int64, likewise of the captions of each clip, in the order of `audio_query`.
    """

    text: Tensor
    of_caption: Tensor
    text_query: Tensor
    clip: Tensor
    audio_query: Tensor
    item: Tensor
    captioned: Tensor
    best_text_ranks: Tensor
    best_pair_ranks: Tensor


def pairs_of(clip: Tensor, caption: Tensor, clips: int, own_only: bool) -> Pairs:
    """Find the right pairs.

    Args:
        clip: (C,) int64, the clip of each caption, ascending.
        caption: (C,) int64, equal for equal captions, numbered from 0 without gaps in the order of their first places.
        clips: B.
        own_only: whether a caption's own clip alone is right for it.
    """
    each = torch.arange(len(clip))
    captioned, query = clip.unique(return_inverse=True)
    if own_only:
        best = _best_of_shared_queries(clip, caption, clips), _best_among_copies(query, caption)
        return Pairs(first_places(caption)[caption], each, each, clip, query, each, captioned, *best)
    kinds = int(caption.max()) + 1
    by_text, by_clip = (caption * clips + clip).unique(), (query * kinds + caption).unique()
    pairs = by_text // clips, by_text % clips, by_clip // kinds, by_clip % kinds
    best = torch.zeros_like(clip), place_in_group(pairs[2])
    return Pairs(first_places(caption), caption, *pairs, captioned, *best)


def first_places(number: Tensor) -> Tensor:
    """Return the first place of each number, (D,) int64, of (C,) int64 from 0 without gaps."""
    first = torch.full((int(number.max()) + 1,), len(number))
    return first.scatter_reduce(0, number, torch.arange(len(number)), "amin")


def place_in_group(group: Tensor) -> Tensor:
    """Number the entries of each group from 0, in their order: (P,) int64, ascending -> (P,) int64."""
    sizes = group.bincount()
    return torch.arange(len(group)) - (sizes.cumsum(0) - sizes)[group]


def _best_of_shared_queries(clip: Tensor, caption: Tensor, clips: int) -> Tensor:
    """Return the least ranks of captions' own clips: clips of one text stand in one order, so one of them is first."""
    owner, inverse, times = (caption * clips + clip).unique(return_inverse=True, return_counts=True)
    order = times.argsort(descending=True, stable=True)  # the clip that is asked for most often comes first
    order = order[(owner[order] // clips).argsort(stable=True)]
    place = torch.empty_like(owner)
    place[order] = place_in_group((owner // clips)[order])
    return place[inverse]


def _best_among_copies(query: Tensor, caption: Tensor) -> Tensor:
    """Return the least ranks of a clip's captions, where copies of them that other clips have count as better."""
    kinds = int(caption.max()) + 1
    pair = query * kinds + caption
    _, inverse, times = pair.unique(return_inverse=True, return_counts=True)
    copies = caption.bincount()[caption] - times[inverse]
    order = pair.argsort(stable=True)
    order = order[copies[order].argsort(stable=True)]
    order = order[query[order].argsort(stable=True)]  # by query, then those with the fewest copies, then by text
    again = torch.zeros_like(pair, dtype=torch.bool)
    again[1:] = pair[order][1:] == pair[order][:-1]
    ahead = copies[order].masked_fill(again, 0).cumsum(0)
    before = torch.cat([ahead.new_zeros(1), ahead[:-1]])
    start = before[first_places(query)][query[order]]
    ranks = torch.empty_like(pair)
    ranks[order] = ahead - start + place_in_group(query[order])
    return ranks
