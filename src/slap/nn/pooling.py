"""Attention pooling: one embedding per item from dense features.

B items, N rows, D width, E shared dimension.
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from slap.core.packed import Layout, Packed
from slap.nn.layers import CrossAttention, RMSNorm, SwiGLU, linear

PERIODS = (16.0, 8.0, 4.0, 2.0)
"""Octaves per wave of `log_features` (our choice): 16 octaves go from one patch to 44 minutes."""


class AttentionPooling(nn.Module):
    """Multi-head attention pooling (MAP, arXiv 1810.00825), a projection, and normalization to length 1.

    One learned query attends to all rows of an item; a feed-forward layer follows, as in ViT's MAP heads.

    Args:
        width: D of the dense features.
        out: E, the dimension that audio and text share.
        heads: number of attention heads, a divisor of D.
        duration: add a learned function of the number of rows. A softmax over rows gives shares, which do not depend on
            their number, and rotary positions give distances; so nothing else says how long an item is.
    """

    def __init__(self, width: int, out: int, heads: int = 8, duration: bool = False) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, width) * 0.02)
        self.context_norm = RMSNorm(width)
        self.attention = CrossAttention(width, heads, width)
        self.norm = RMSNorm(width)
        self.feed_forward = SwiGLU(width, 2 * width)
        self.project = linear(width, out)
        self.duration = nn.Linear(1 + 2 * len(PERIODS), width, bias=False) if duration else None
        if self.duration is not None:
            nn.init.zeros_(self.duration.weight)  # a model that gets one begins as it was

    def forward(self, tokens: Packed, lengths: Tensor | None = None) -> Tensor:
        """Pool packed rows, (N, D), to (B, E), each row of length 1.

        Args:
            tokens: B items.
            lengths: (B,) rows of the whole items, of which `tokens` may be a part. Default: as many as there are.
        """
        ones = torch.ones_like(tokens.lengths)
        single = Layout(ones, (1,) * len(tokens))
        query = self.query.expand(len(tokens), -1)
        pooled = self.attention(query, single, self.context_norm(tokens.values), tokens.layout)
        if self.duration is not None:
            pooled = pooled + self.duration(log_features(tokens.lengths if lengths is None else lengths).to(pooled))
        pooled = pooled + self.feed_forward(self.norm(pooled))
        projected = self.project(pooled)
        return normalize(projected.to(torch.promote_types(projected.dtype, torch.float32)), dim=-1)


def log_features(lengths: Tensor) -> Tensor:
    """Describe numbers of rows, (B,), by their logarithm to the base 2 and its waves of `PERIODS`, (B, 9) float32."""
    octaves = torch.log2(lengths.float())[:, None]
    angles = 2 * pi * octaves / torch.tensor(PERIODS, device=octaves.device)
    return torch.cat([octaves / PERIODS[0], angles.sin(), angles.cos()], 1)
