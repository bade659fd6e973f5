"""Embeddings of clips from the batches of a prediction run on each process.

W windows, B clips, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from slap.core.distributed import world_size
from slap.core.merging import merge_by_name

Predicted = dict[str, Any]
"""The prediction for a batch: W `ids`; `spans`, the samples of its clip that each row is; `embeddings`, (W, E)."""


def windows_elsewhere(batches: Sequence[Predicted]) -> list[Predicted]:
    """Return the windows that other processes have of clips with windows on several; every process must call this."""
    if world_size() == 1:
        return []
    # The process with the first window of a clip keeps the clip, and needs all other windows of it.
    mine = [
        row
        for batch in batches
        for row in zip(batch["ids"], batch["spans"], batch["embeddings"].cpu(), strict=True)
        if row[1][0] > 0
    ]
    by_rank: list[list[tuple[str, tuple[int, int], Tensor]]] = [[] for _ in range(world_size())]
    dist.all_gather_object(by_rank, mine)
    others = [row for rank, theirs in enumerate(by_rank) if rank != dist.get_rank() for row in theirs]
    return [{"ids": [name], "spans": [span], "embeddings": embedding[None]} for name, span, embedding in others]


def whole_clips(batches: Sequence[Predicted], elsewhere: Sequence[Predicted] = ()) -> tuple[list[str], Tensor]:
    """Return the clips whose first window is in the batches, with their embeddings.

    Args:
        batches: the predictions of this process.
        elsewhere: the windows that other processes predicted.

    Returns:
        B ids, and (B, E).
    """
    own = {name for batch in batches for name, span in zip(batch["ids"], batch["spans"], strict=True) if span[0] == 0}
    parts = [*batches, *elsewhere]
    names = [name for part in parts for name in part["ids"]]
    spans = [tuple(span) for part in parts for span in part["spans"]]
    rows = [row for row, name in enumerate(names) if name in own]
    if not rows:
        return [], torch.zeros(0, 0)
    embeddings = torch.cat([part["embeddings"].cpu() for part in parts])[rows]
    merged = merge_by_name([names[row] for row in rows], [spans[row] for row in rows], embeddings)
    return [names[rows[i]] for i in merged.first], merged.embeddings
