"""Merged embeddings: those of a recording's windows become the recording's, by the rule of `slap.core.windows`.

W windows of all recordings, B recordings, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from slap.core.windows import window_weights


def merge(embeddings: Tensor, owner: Tensor, lengths: Tensor) -> Tensor:
    """Merge the embeddings of windows into one per recording.

    Args:
        embeddings: (W, E), each row of length 1.
        owner: (W,) int64, the index of each window's recording, from 0 without gaps.
        lengths: (W,) the number of samples that each window stands for, from `window_weights`.

    Returns:
        (B, E), each row of length 1; the row of a recording with one window is that window's, to the bit.
    """
    count = int(owner.max()) + 1
    weights = lengths.to(embeddings)[:, None]
    sums = embeddings.new_zeros(count, embeddings.shape[1]).index_add_(0, owner, embeddings * weights)
    merged = normalize(sums, dim=1)
    single = owner.bincount(minlength=count)[owner] == 1
    merged[owner[single]] = embeddings[single]
    return merged


@dataclass(frozen=True)
class Merged:
    """Merged embeddings of clips whose windows came in any order and batch, and perhaps more than once.

    Args:
        first: the row of each clip's first window; clips are in the order of their first row.
        last: the row of each clip's last window.
        embeddings: (B, E), each row of length 1.
    """

    first: list[int]
    last: list[int]
    embeddings: Tensor


def merge_by_name(names: Sequence[str], spans: Sequence[tuple[int, int]], embeddings: Tensor) -> Merged:
    """Merge the embeddings of all windows of each clip.

    Args:
        names: the name of each window's clip, W in all.
        spans: the start and the end of each window within its clip.
        embeddings: (W, E), each row of length 1.
    """
    rows: dict[str, dict[tuple[int, int], int]] = {}
    for row, (name, span) in enumerate(zip(names, spans, strict=True)):
        rows.setdefault(name, {}).setdefault(span, row)
    first, last, chosen, owner, weights = [], [], [], [], []
    for clip, found in enumerate(rows.values()):
        places = sorted(found)
        own = [found[span] for span in places]
        first.append(own[0])
        last.append(own[-1])
        chosen += own
        owner += [clip] * len(own)
        weights += window_weights(places)
    return Merged(first, last, merge(embeddings[chosen], torch.tensor(owner), torch.tensor(weights)))
