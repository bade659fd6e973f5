"""Predictor of patches that the encoder has not seen, from the features of the others.

N patches, D width of the encoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slap.core.packed import Packed
from slap.nn.layers import Block, RMSNorm, rotary
from slap.nn.stack import run_blocks
from slap.objectives.head_sizes import heads_of


class Predictor(nn.Module):
    """Transformer blocks that fill in hidden patches from the features of the others (MAE's decoder, 2111.06377).

    Args:
        width: D.
        layers: number of blocks.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        heads = heads_of(width)
        self.head_width = width // heads
        self.token = nn.Parameter(torch.randn(width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads, 2 * width) for _ in range(layers))
        self.norm = RMSNorm(width)

    def forward(self, visible: Packed, patches: Packed, hidden: Tensor) -> Tensor:
        """Compute features of all patches, (N, D).

        Args:
            visible: features of the patches that are not hidden, in their order.
            patches: N patches, with positions; their values are not read.
            hidden: (N,) bool.
        """
        assert patches.positions is not None
        if not len(patches):  # as `NoItems`: gradients are 0, not absent
            alone = Packed.pack([self.token[None]])
            return self._run(alone.values, alone, patches.positions.new_zeros(1, patches.positions.shape[1]))[:0]
        rows = torch.nonzero_static(~hidden, size=len(visible.values)).squeeze(1)
        token = self.token.to(visible.values.dtype).expand(len(hidden), -1)
        return self._run(token.index_copy(0, rows, visible.values), patches, patches.positions)

    def _run(self, x: Tensor, items: Packed, positions: Tensor) -> Tensor:
        return self.norm(run_blocks(self.blocks, x, items.layout, rotary(positions, self.head_width)))
