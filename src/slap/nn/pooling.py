"""Pooling: one embedding per item from dense features, by attention where an encoder has no pooling of its own.

B items, N rows, D width, E shared dimension.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import pi

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from slap.core.packed import Layout, Packed
from slap.nn import single_clip
from slap.nn.layers import CrossAttention, RMSNorm, SwiGLU, linear

PERIODS = (16.0, 8.0, 4.0, 2.0)
"""Octaves per wave of `log_features` (our choice): 16 octaves go from one patch to 44 minutes."""

LOG_FEATURES = 1 + 2 * len(PERIODS)
"""Numbers of `log_features`."""


class Pooling(nn.Module, ABC):
    """Base of heads that pool the dense features of an item to one embedding of length 1."""

    @property
    def device(self) -> torch.device:
        """The device of its weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of its weights."""
        return next(self.parameters()).dtype

    @abstractmethod
    def forward(self, tokens: Packed, lengths: Tensor | None = None) -> Tensor:
        """Pool packed rows, (N, D), to (B, E), each row of length 1.

        Args:
            tokens: B items.
            lengths: (B,) rows of the whole items, of which `tokens` may be a part. Default: as many as there are.
        """

    @abstractmethod
    def single(self, rows: Tensor) -> Tensor:
        """Pool one item, (N, D), to (E,), by operations that torch.export and ONNX trace for any length."""


class AttentionPooling(Pooling):
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
        self.duration = nn.Linear(LOG_FEATURES, width, bias=False) if duration else None
        if self.duration is not None:
            nn.init.zeros_(self.duration.weight)  # a model that gets one begins as it was

    def forward(self, tokens: Packed, lengths: Tensor | None = None) -> Tensor:
        """Pool packed rows, (N, D), to (B, E), see `Pooling`."""
        ones = torch.ones_like(tokens.lengths)
        single = Layout(ones, (1,) * len(tokens))
        query = self.query.expand(len(tokens), -1)
        pooled = self.attention(query, single, self.context_norm(tokens.values), tokens.layout)
        if self.duration is not None:
            pooled = pooled + self.duration(log_features(tokens.lengths if lengths is None else lengths).to(pooled))
        pooled = pooled + self.feed_forward(self.norm(pooled))
        return unit(self.project(pooled))

    def single(self, rows: Tensor) -> Tensor:
        """Pool one item, (N, D), to (E,), see `Pooling`."""
        pooled = single_clip.cross_attention(self.attention, self.query, self.context_norm(rows))
        if self.duration is not None:
            pooled = pooled + self.duration(log_features(torch.ones_like(rows[:, 0]).sum()[None]))
        pooled = pooled + self.feed_forward(self.norm(pooled))
        return unit(self.project(pooled))[0]


def unit(embeddings: Tensor) -> Tensor:
    """Scale embeddings, (B, E), to length 1, in float32 at least."""
    return normalize(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), dim=-1)


def log_features(lengths: Tensor) -> Tensor:
    """Describe numbers of rows, (B,), by their logarithm to the base 2 and its waves of `PERIODS`, (B, 9) float32."""
    octaves = torch.log2(lengths.float())[:, None]
    angles = 2 * pi * octaves / torch.tensor(PERIODS, device=octaves.device)
    return torch.cat([octaves / PERIODS[0], angles.sin(), angles.cos()], 1)
