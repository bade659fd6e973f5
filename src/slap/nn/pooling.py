"""Attention pooling: one embedding per item from dense features.

B items, N rows, D width, E shared dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from slap.core.packed import Layout, Packed
from slap.nn.layers import CrossAttention, RMSNorm, SwiGLU, linear


class AttentionPooling(nn.Module):
    """Multi-head attention pooling (MAP, arXiv 1810.00825), a projection, and normalization to length 1.

    One learned query attends to all rows of an item; a feed-forward layer follows, as in ViT's MAP heads.

    Args:
        width: D of the dense features.
        out: E, the dimension that audio and text share.
        heads: number of attention heads, a divisor of D.
    """

    def __init__(self, width: int, out: int, heads: int = 8) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, width) * 0.02)
        self.context_norm = RMSNorm(width)
        self.attention = CrossAttention(width, heads, width)
        self.norm = RMSNorm(width)
        self.feed_forward = SwiGLU(width, 2 * width)
        self.project = linear(width, out)

    def forward(self, tokens: Packed) -> Tensor:
        """Pool packed rows, (N, D), to (B, E), each row of length 1."""
        ones = torch.ones_like(tokens.lengths)
        single = Layout(ones, (1,) * len(tokens))
        query = self.query.expand(len(tokens), -1)
        pooled = self.attention(query, single, self.context_norm(tokens.values), tokens.layout)
        pooled = pooled + self.feed_forward(self.norm(pooled))
        projected = self.project(pooled)
        return normalize(projected.to(torch.promote_types(projected.dtype, torch.float32)), dim=-1)
