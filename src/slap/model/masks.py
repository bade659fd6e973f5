"""Random masks of patches, for the views that hide some of them.

B clips, N audio patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from slap.core.errors import UserError
from slap.core.packed import Layout, Packed


def random_mask(patches: Packed, ratio: float, block: int = 0) -> Tensor:
    """Hide a random share of each clip's patches.

    The paper hides "a random half" without saying how; by default we draw single patches, without replacement.

    Args:
        patches: packed, N rows, with the time step of each as the first of its `positions` if there is a `block`.
        ratio: share to hide, 0 to 1. Of each clip round(ratio x patches) are hidden, but never all of its patches.
        block: time steps of a block; then whole blocks are hidden, in all bands, but for one that is cut where the
            share is reached. 0 draws single patches.

    Returns:
        (N,) bool, True where hidden.
    """
    noise = torch.rand(len(patches.values), device=patches.values.device)
    if block:
        noise = noise[_block_rows(patches, block)]
    # Sorted by clip, then by noise: a row's place in its clip is then a random rank. Rows of a block keep their order.
    order = torch.argsort(patches.item + noise.double(), stable=True)
    rank = torch.empty_like(order)
    rank[order] = patches.index  # the sort moves rows only within their clip, so places line up
    return rank < hidden_sizes(patches.lengths, ratio)[patches.item]


def _block_rows(patches: Packed, block: int) -> Tensor:
    """Return for each patch, (N,), a row that stands for its block: of each clip, the one of the block's number."""
    if patches.positions is None:
        raise UserError("blocks of patches are hidden by their time, but the audio encoder gives them no positions")
    # The first block of a clip is cut at random, so that blocks do not begin at the same times in all clips.
    start = torch.randint(block, (len(patches),), device=patches.values.device)
    number = (patches.positions[:, 0].long() + start[patches.item]) // block
    number = torch.minimum(number, patches.lengths.long()[patches.item] - 1)
    return patches.cu_seqlens[:-1].long()[patches.item] + number


def shown(patches: Packed, hidden: Tensor, ratio: float) -> Packed:
    """Return the patches that are not hidden, with their positions; at least one of each clip.

    Args:
        patches: packed, N rows.
        hidden: (N,) bool, from `random_mask`.
        ratio: its share, which says on the host how many are left.
    """
    sizes = tuple((torch.tensor(patches.sizes) - hidden_sizes(patches.sizes, ratio)).tolist())
    rows = torch.nonzero_static(~hidden, size=sum(sizes)).squeeze(1)
    lengths = patches.lengths - hidden_sizes(patches.lengths, ratio).int()
    positions = None if patches.positions is None else patches.positions.index_select(0, rows)
    return Packed(patches.values.index_select(0, rows), lengths, positions, Layout(lengths, sizes))


def hidden_sizes(lengths: Tensor | Sequence[int], ratio: float) -> Tensor:
    """Return the number of patches that `random_mask` hides of each clip, (B,) int64.

    Args:
        lengths: (B,) patches of each clip.
        ratio: see `random_mask`.
    """
    lengths = torch.as_tensor(lengths, dtype=torch.int32)
    return torch.minimum((lengths * ratio).round().long(), lengths.long() - 1)
