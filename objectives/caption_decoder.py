"""The caption decoder: a transformer that reads a clip's dense features while it writes, token by token.

C captions, M of their tokens, B clips, N audio tokens, D' width of these, D width of the decoder, H heads, E = D / H,
V vocabulary. While it generates: S rows, i.e. S / B captions begun for each clip, and T tokens that each has so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from slap.core.packed import Layout, Packed
from slap.nn.attention import attention
from slap.nn.layers import CrossAttention, RMSNorm, Rotation, SelfAttention, SwiGLU, rotary, rotate
from slap.nn.stack import is_compiled, pad_to_bucket

KeysValues = tuple[Tensor, Tensor]
"""Keys and values of one layer."""


@dataclass(eq=False)
class Cache:
    """What generation keeps between tokens, layer by layer.

    Attributes:
        rows: layout of the S rows, those of one clip together.
        audio: layout of the audio tokens.
        heard: keys and values of the audio tokens, (N, H, E); rows of one clip share them.
        written: keys and values of the tokens so far, (S, T, H, E).
    """

    rows: Layout
    audio: Layout
    heard: list[KeysValues]
    written: list[KeysValues]

    def select(self, rows: Tensor) -> None:
        """Go on from other rows: row i continues what row `rows[i]` wrote, (S,) int64, of the same clip."""
        self.written = [(keys[rows], values[rows]) for keys, values in self.written]


class DecoderBlock(nn.Module):
    """Causal self-attention, cross-attention to the audio tokens, SwiGLU; each after an RMSNorm; no biases.

    Args:
        width: D.
        heads: H.
        hidden: of the feed-forward layer.
        context_width: D'.
    """

    compiles = True  # see slap.nn.stack
    entrances = ("hear", "step")  # see slap.training.fsdp

    def __init__(self, width: int, heads: int, hidden: int, context_width: int) -> None:
        super().__init__()
        self.self_norm = RMSNorm(width)
        self.self_attention = SelfAttention(width, heads, causal=True)
        self.cross_norm = RMSNorm(width)
        self.cross_attention = CrossAttention(width, heads, context_width)
        self.feed_forward_norm = RMSNorm(width)
        self.feed_forward = SwiGLU(width, hidden)

    def forward(self, x: Tensor, layout: Layout, rotation: Rotation, context: Tensor, context_layout: Layout) -> Tensor:
        """(M, D) and audio tokens, (N, D'), -> (M, D): all tokens at once."""
        x = x + self.self_attention(self.self_norm(x), layout, rotation)
        x = x + self.cross_attention(self.cross_norm(x), layout, context, context_layout)
        return x + self.feed_forward(self.feed_forward_norm(x))

    def hear(self, context: Tensor) -> KeysValues:
        """Keys and values of the audio tokens: (N, D') -> (N, H, E) twice."""
        heads = self.cross_attention.heads
        keys, values = rearrange(self.cross_attention.kv(context), "n (two h e) -> two n h e", two=2, h=heads)
        return keys, values

    def step(self, x: Tensor, rotation: Rotation, cache: Cache, layer: int) -> Tensor:
        """(S, D) -> (S, D): one more token of each row, which `cache` takes in."""
        x = x + self._attend_to_written(self.self_norm(x), rotation, cache, layer)
        cross = self.cross_attention
        q = rearrange(cross.q(self.cross_norm(x)), "s (h e) -> s h e", h=cross.heads)
        heard = attention(q, *cache.heard[layer], cache.rows, cache.audio)
        x = x + cross.out(rearrange(heard, "s h e -> s (h e)"))
        return x + self.feed_forward(self.feed_forward_norm(x))

    def _attend_to_written(self, x: Tensor, rotation: Rotation, cache: Cache, layer: int) -> Tensor:
        module = self.self_attention
        q, k, v = rearrange(module.qkv(x), "s (three h e) -> three s h e", three=3, h=module.heads)
        keys, values = cache.written[layer]
        keys = torch.cat([keys, rotate(k, rotation)[:, None]], 1)
        values = torch.cat([values, v[:, None]], 1)
        cache.written[layer] = keys, values
        mixed = scaled_dot_product_attention(
            rotate(q, rotation)[:, :, None], keys.transpose(1, 2), values.transpose(1, 2)
        )
        return module.out(mixed.flatten(1))


class Decoder(nn.Module):
    """Predicts each next token of a caption from those before it and from the clip's dense features.

    The defaults are the paper's: 8 layers, 8 heads, width 512. Not stated there, and our choice: the rest of the
    block as in the audio encoder (RMSNorm, SwiGLU, rotary positions, no biases), a feed-forward layer four times as
    wide, and one table of tokens for input and output.

    Args:
        vocab_size: V.
        context_width: D'.
        layers: number of blocks.
        heads: H.
        width: D.
        hidden: of the feed-forward layers.
    """

    entrances = ("begin", "step")  # see slap.training.fsdp

    def __init__(
        self,
        vocab_size: int,
        context_width: int,
        layers: int = 8,
        heads: int = 8,
        width: int = 512,
        hidden: int = 2048,
    ) -> None:
        super().__init__()
        self.head_width = width // heads
        self.embedding = nn.Embedding(vocab_size, width)
        # As an output this gives logits of unit scale; as an input it is multiplied to unit scale.
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.context_norm = RMSNorm(context_width)
        self.blocks = nn.ModuleList(DecoderBlock(width, heads, hidden, context_width) for _ in range(layers))
        self.norm = RMSNorm(width)

    def forward(self, tokens: Packed, context: Packed) -> Tensor:
        """The logits of the token after each token, all at once.

        Args:
            tokens: (M,) int64, C captions from their beginning.
            context: (N, D') audio tokens, C items: those of each caption's clip.

        Returns:
            (M, V).
        """
        x = self._embed(tokens.values)
        rotation = rotary(tokens.index[:, None], self.head_width)
        heard = self.context_norm(context.values)
        layout, heard_layout = tokens.layout, context.layout
        if is_compiled(self.blocks):
            layout, x, cos, sin = pad_to_bucket(layout, x, *rotation)
            rotation = cos, sin
            heard_layout, heard = pad_to_bucket(heard_layout, heard)
        for block in self._blocks():
            x = block(x, layout, rotation, heard, heard_layout)
        return self._logits(x[: len(tokens.values)])

    def begin(self, context: Packed, rows: int = 1) -> Cache:
        """Listen to clips, (N, D') in B items, and get ready to write `rows` captions for each: S = B x rows."""
        audio = self.context_norm(context.values)
        heard = [block.hear(audio) for block in self._blocks()]
        layout = Layout(torch.full_like(context.lengths, rows), (rows,) * len(context))
        written = [(keys.new_empty(layout.total, 0, *keys.shape[1:]),) * 2 for keys, _ in heard]
        return Cache(layout, context.layout, heard, written)

    def step(self, tokens: Tensor, cache: Cache) -> Tensor:
        """The logits of the token after `tokens`, which `cache` takes in.

        Args:
            tokens: (S,) int64, the newest token of each row.
            cache: from `begin`, with what came before.

        Returns:
            (S, V).
        """
        x = self._embed(tokens)
        place = cache.written[0][0].shape[1]
        rotation = rotary(torch.full((1, 1), place, device=x.device), self.head_width)
        for layer, block in enumerate(self._blocks()):
            x = block.step(x, rotation, cache, layer)
        return self._logits(x)

    def _blocks(self) -> list[DecoderBlock]:
        return cast("list[DecoderBlock]", list(self.blocks))

    def _embed(self, tokens: Tensor) -> Tensor:
        return self.embedding(tokens) * self.embedding.embedding_dim**0.5

    def _logits(self, x: Tensor) -> Tensor:
        return self.norm(x) @ self.embedding.weight.T
