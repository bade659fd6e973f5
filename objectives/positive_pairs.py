"""Positives: clips and captions that belong together, also when they never stood in one row of the manifest.

B clips, C captions, K pairs of a clip and a caption.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slap.core.distributed import all_sum


def positives(clips: Tensor, captions: Tensor, pairs: Tensor) -> Tensor:
    """Find the pairs of a clip and a caption that a loss must not push apart.

    A clip and a caption are positives if a caption with that key is known to describe a clip with that key. So a
    caption that several clips share is a positive of each, and so are all captions of one clip.

    Args:
        clips: (B,) int64 keys of clips.
        captions: (C,) int64 keys of captions.
        pairs: (K, 2) int64 keys of clip and caption, see `Batch.pairs`, of the global batch.

    Returns:
        (B, C) bool.

    Example:
        >>> clips, captions = torch.tensor([10, 11]), torch.tensor([7, 8, 7])
        >>> pairs = torch.tensor([[10, 7], [10, 8], [11, 7]])  # both clips are described by caption 7
        >>> positives(clips, captions, pairs).int().tolist()
        [[1, 1, 1], [1, 0, 1]]
    """
    # Small integers in place of keys make this a look-up, O(B C), where comparing all keys would be O(B C K). They are
    # the places of keys in sorted order: torch.unique could find them too, but makes the host wait for a GPU.
    if not len(clips) or not len(captions):
        return torch.zeros(len(clips), len(captions), dtype=torch.bool, device=clips.device)
    clip, clip_of_pair = _places(clips, pairs[:, 0])
    caption, caption_of_pair = _places(captions, pairs[:, 1])
    known = torch.zeros(len(clips) + 1, len(captions) + 1, dtype=torch.bool, device=clips.device)
    known[clip_of_pair, caption_of_pair] = known.new_ones(())  # True would come from the host, and be waited for
    return known[clip][:, caption]


def negatives(own: Tensor, clips: Tensor, captions: Tensor, pairs: Tensor, chunks: int) -> Tensor:
    """Return the mean number of captions that are no positives of a clip, over the global batch, 0-dimensional.

    Args:
        own: (n,) int64 keys of the clips of this process.
        clips: (B,) int64 keys of clips of all processes.
        captions: (C,) int64 keys of captions of all processes.
        pairs: as for `positives`.
        chunks: number of parts of `own` to compute one after the other.
    """
    known = [positives(chunk, captions, pairs).sum() for chunk in own.tensor_split(chunks)]
    found = torch.stack(known).sum()
    return len(captions) - all_sum(found).float() / max(len(clips), 1)


def _places(own: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Number keys, (n,), and others, (K,), so that equal keys have equal numbers; others not among the keys get n."""
    ordered = own.sort().values
    place = torch.searchsorted(ordered, others.contiguous()).clamp(max=len(own) - 1)
    return torch.searchsorted(ordered, own), torch.where(ordered[place] == others, place, len(own))
