"""Layers of transformers on packed rows, for encoders and decoders.

B items, N rows, D width, H heads, E = D / H width of a head, P coordinates of a row.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import rms_norm, silu

from slap.core.errors import UserError
from slap.core.packed import Layout
from slap.nn.attention import attention
from slap.nn.chunking import chunking_pays, in_row_chunks
from slap.nn.linear import Linear

Rotation = tuple[Tensor, Tensor]
"""C and sines, (N, E / 2) each, from `rotary`."""


def rotary(positions: Tensor, head_width: int, base: float = 10_000.0) -> Rotation:
    """Compute the rotary position embedding (RoFormer, arXiv 2104.09864), with a part of the head for each axis.

    Args:
        positions: (N, P) coordinates.
        head_width: E, a multiple of 2P. Each axis rotates E / 2P of its E / 2 pairs of channels.
        base: the longest wavelength is about 2 pi times this.

    Returns:
        C and sines, (N, E / 2) each, float32.

    Raises:
        ValueError: the axes do not divide the width of the head.
    """
    axes = positions.shape[1]
    if head_width % (2 * axes):
        raise UserError(f"a head of width {head_width} cannot be shared by {axes} axes: take a multiple of {2 * axes}")
    pairs = head_width // (2 * axes)
    frequencies = base ** -(torch.arange(pairs, device=positions.device, dtype=torch.float32) / pairs)
    angles = (positions.float()[:, :, None] * frequencies).flatten(1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate each pair of channels (c, c + E / 2) by its row's angle.

    Args:
        x: (N, H, E).
        rotation: from `rotary`.
    """
    cos, sin = (part[:, None].to(x.dtype) for part in rotation)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def rotate_(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate in place, which is faster, and valid where no gradient is needed."""
    cos, sin = (part[:, None].to(x.dtype) for part in rotation)
    first, second = x.chunk(2, dim=-1)
    crossed = first * sin
    first.mul_(cos).sub_(second * sin)
    second.mul_(cos).add_(crossed)
    return x


def linear(inputs: int, outputs: int) -> Linear:
    """Make a linear layer without bias, initialized so that it keeps the scale of its input (our choice)."""
    layer = Linear(inputs, outputs)
    nn.init.trunc_normal_(layer.weight, std=inputs**-0.5)
    return layer


class RMSNorm(nn.RMSNorm):
    """Root-mean-square norm (arXiv 1910.07467) that keeps the precision of its input under autocast.

    The norm of torch takes a slow path, with a warning, when input and weight differ in precision.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, D)."""
        return in_row_chunks(self._rows, x)[0]

    def _rows(self, x: Tensor) -> tuple[Tensor]:
        assert self.weight is not None
        return (rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps),)


class SwiGLU(nn.Module):
    """Gated feed-forward layer (arXiv 2002.05202), without biases.

    Args:
        width: D.
        hidden: width between its two linear layers.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.enter = linear(width, 2 * hidden)
        self.leave = linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, D)."""
        return in_row_chunks(self._rows, x)[0]

    def _rows(self, x: Tensor) -> tuple[Tensor]:
        gate, value = self.enter(x).chunk(2, dim=-1)
        if chunking_pays(x):  # in place, since new memory would have to be cleared
            return (self.leave(silu(gate, inplace=True).mul_(value)),)
        return (self.leave(silu(gate) * value),)


class SelfAttention(nn.Module):
    """Multi-head self-attention within the items of a packed batch, with rotary positions.

    Args:
        width: D.
        heads: H, a divisor of D.
        window: see `attention`.
        causal: see `attention`.
    """

    def __init__(self, width: int, heads: int, window: int | None = None, causal: bool = False) -> None:
        super().__init__()
        if width % heads:
            raise UserError(f"{heads} heads do not divide a width of {width}")
        self.heads = heads
        self.window = window
        self.causal = causal
        self.qkv = linear(width, 3 * width)
        self.out = linear(width, width)

    def forward(self, x: Tensor, layout: Layout, rotation: Rotation) -> Tensor:
        """(N, D) -> (N, D)."""
        q, k, v = in_row_chunks(self.project, x, *rotation)
        return self.out(self.mix(q, k, v, layout))

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project rows, (N, D), with their rotation, to queries, keys and values, (N, H, E) each."""
        q, k, v = rearrange(self.qkv(x), "n (three h e) -> three n h e", three=3, h=self.heads)
        rotated = rotate_ if chunking_pays(x) else rotate
        return rotated(q, (cos, sin)), rotated(k, (cos, sin)), v

    def mix(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        """Mix values within items: queries, keys and values, (N, H, E) each, -> (N, D)."""
        mixed = attention(q, k, v, layout, window=self.window, causal=self.causal)
        return rearrange(mixed, "n h e -> n (h e)")


class CrossAttention(nn.Module):
    """Multi-head attention from the rows of one packed batch to those of another, item by item.

    Args:
        width: D of the queries and of the result.
        heads: H, a divisor of D.
        context_width: D', the width of the rows attended to.
    """

    def __init__(self, width: int, heads: int, context_width: int) -> None:
        super().__init__()
        if width % heads:
            raise UserError(f"{heads} heads do not divide a width of {width}")
        self.heads = heads
        self.q = linear(width, width)
        self.kv = linear(context_width, 2 * width)
        self.out = linear(width, width)

    def forward(self, x: Tensor, layout: Layout, context: Tensor, context_layout: Layout) -> Tensor:
        """(N, D) and a context of (M, D') -> (N, D)."""
        q = rearrange(self.q(x), "n (h e) -> n h e", h=self.heads)
        k, v = rearrange(self.kv(context), "m (two h e) -> two m h e", two=2, h=self.heads)
        return self.out(rearrange(attention(q, k, v, layout, context_layout), "n h e -> n (h e)"))


class Block(nn.Module):
    """Pre-norm transformer block: RMSNorm, attention, RMSNorm, SwiGLU; no biases.

    Args:
        width: D.
        heads: H.
        hidden: width of the feed-forward layer.
        window: window of local attention, in rows; None attends to the whole item.
    """

    compiles = True  # see slap.nn.stack

    def __init__(self, width: int, heads: int, hidden: int, window: int | None = None) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(width)
        self.attention = SelfAttention(width, heads, window)
        self.feed_forward_norm = RMSNorm(width)
        self.feed_forward = SwiGLU(width, hidden)

    def forward(self, x: Tensor, layout: Layout, rotation: Rotation) -> Tensor:
        """(N, D) -> (N, D)."""
        q, k, v = in_row_chunks(self._before, x, *rotation)
        mixed = self.attention.mix(q, k, v, layout)
        return in_row_chunks(self._after, x, mixed)[0]

    def _before(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the part of the block before attention, row by row."""
        return self.attention.project(self.attention_norm(x), cos, sin)

    def _after(self, x: Tensor, mixed: Tensor) -> tuple[Tensor]:
        """Compute the part of the block after attention, row by row."""
        x = x + self.attention.out(mixed)
        return (x + self.feed_forward(self.feed_forward_norm(x)),)
