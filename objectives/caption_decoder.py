"""The caption decoder: a transformer that attends to a clip's dense features while it writes tokens.

C captions, M of their tokens, B clips, N audio tokens, D' width of these, D width of the decoder, H heads, E = D / H,
V vocabulary. In generation: S rows, i.e. S / B captions per clip, of T tokens each so far.
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
    """Keys and values that generation keeps between tokens, for each layer.

    Attributes:
        rows: layout of the S rows, with the rows of one clip together.
        audio: layout of the audio tokens.
        audio_kv: keys and values of the audio tokens, (N, H, E); the rows of a clip share them.
        text_kv: keys and values of the tokens so far, (S, T, H, E).
    """

    rows: Layout
    audio: Layout
    audio_kv: list[KeysValues]
    text_kv: list[KeysValues]

    def select(self, rows: Tensor) -> None:
        """Continue other rows: row i continues the tokens of row `rows[i]`, (S,) int64, of the same clip."""
        self.text_kv = [(keys[rows], values[rows]) for keys, values in self.text_kv]


class DecoderBlock(nn.Module):
    """Causal self-attention, cross-attention to the audio tokens, SwiGLU; each after an RMSNorm; no biases.

    Args:
        width: D.
        heads: H.
        hidden: width of the feed-forward layer.
        context_width: D'.
    """

    compiles = True  # see slap.nn.stack
    entrances = ("project_audio", "step")  # see slap.training.fsdp

    def __init__(self, width: int, heads: int, hidden: int, context_width: int) -> None:
        super().__init__()
        self.self_norm = RMSNorm(width)
        self.self_attention = SelfAttention(width, heads, causal=True)
        self.cross_norm = RMSNorm(width)
        self.cross_attention = CrossAttention(width, heads, context_width)
        self.feed_forward_norm = RMSNorm(width)
        self.feed_forward = SwiGLU(width, hidden)

    def forward(self, x: Tensor, layout: Layout, rotation: Rotation, context: Tensor, context_layout: Layout) -> Tensor:
        """Compute all tokens at once: (M, D) and audio tokens, (N, D'), -> (M, D)."""
        x = x + self.self_attention(self.self_norm(x), layout, rotation)
        x = x + self.cross_attention(self.cross_norm(x), layout, context, context_layout)
        return x + self.feed_forward(self.feed_forward_norm(x))

    def project_audio(self, context: Tensor) -> KeysValues:
        """Compute keys and values of the audio tokens: (N, D') -> (N, H, E) twice."""
        heads = self.cross_attention.heads
        keys, values = rearrange(self.cross_attention.kv(context), "n (two h e) -> two n h e", two=2, h=heads)
        return keys, values

    def step(self, x: Tensor, rotation: Rotation, cache: Cache, layer: int) -> Tensor:
        """Compute one more token of each row, (S, D) -> (S, D), and add it to `cache`."""
        x = x + self._attend_to_text(self.self_norm(x), rotation, cache, layer)
        cross = self.cross_attention
        q = rearrange(cross.q(self.cross_norm(x)), "s (h e) -> s h e", h=cross.heads)
        mixed = attention(q, *cache.audio_kv[layer], cache.rows, cache.audio)
        x = x + cross.out(rearrange(mixed, "s h e -> s (h e)"))
        return x + self.feed_forward(self.feed_forward_norm(x))

    def _attend_to_text(self, x: Tensor, rotation: Rotation, cache: Cache, layer: int) -> Tensor:
        module = self.self_attention
        q, k, v = rearrange(module.qkv(x), "s (three h e) -> three s h e", three=3, h=module.heads)
        keys, values = cache.text_kv[layer]
        keys = torch.cat([keys, rotate(k, rotation)[:, None]], 1)
        values = torch.cat([values, v[:, None]], 1)
        cache.text_kv[layer] = keys, values
        mixed = scaled_dot_product_attention(
            rotate(q, rotation)[:, :, None], keys.transpose(1, 2), values.transpose(1, 2)
        )
        return module.out(mixed.flatten(1))


class Decoder(nn.Module):
    """Decoder that predicts each token of a caption from the tokens before it and the clip's dense features.

    The defaults are the paper's: 8 layers, 8 heads, width 512. It does not state the rest, which is our choice: blocks
    as in the audio encoder (RMSNorm, SwiGLU, rotary positions, no biases), a feed-forward layer of four times the
    width, and one embedding of tokens for input and output.

    Args:
        vocab_size: V.
        context_width: D'.
        layers: number of blocks.
        heads: H.
        width: D.
        hidden: width of the feed-forward layers.
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
        """Compute the logits of the token after each token, all at once.

        Args:
            tokens: (M,) int64, C captions from their beginning.
            context: (N, D') audio tokens, C items: those of each caption's clip.

        Returns:
            (M, V).
        """
        x = self._embed(tokens.values)
        rotation = rotary(tokens.index[:, None], self.head_width)
        audio = self.context_norm(context.values)
        layout, audio_layout = tokens.layout, context.layout
        if is_compiled(self.blocks):
            layout, x, cos, sin = pad_to_bucket(layout, x, *rotation)
            rotation = cos, sin
            audio_layout, audio = pad_to_bucket(audio_layout, audio)
        for block in self._blocks():
            x = block(x, layout, rotation, audio, audio_layout)
        return self._logits(x[: len(tokens.values)])

    def begin(self, context: Packed, rows: int = 1) -> Cache:
        """Make the cache for `rows` captions of each clip: dense features, (N, D') in B items, and S = B x rows."""
        audio = self.context_norm(context.values)
        audio_kv = [block.project_audio(audio) for block in self._blocks()]
        layout = Layout(torch.full_like(context.lengths, rows), (rows,) * len(context))
        text_kv = [(keys.new_empty(layout.total, 0, *keys.shape[1:]),) * 2 for keys, _ in audio_kv]
        return Cache(layout, context.layout, audio_kv, text_kv)

    def step(self, tokens: Tensor, cache: Cache) -> Tensor:
        """Compute the logits of the token after `tokens`, and add `tokens` to `cache`.

        Args:
            tokens: (S,) int64, the newest token of each row.
            cache: from `begin`, with the tokens before.

        Returns:
            (S, V).
        """
        x = self._embed(tokens)
        place = cache.text_kv[0][0].shape[1]
        rotation = rotary(torch.full((1, 1), place, device=x.device), self.head_width)
        for layer, block in enumerate(self._blocks()):
            x = block.step(x, rotation, cache, layer)
        return self._logits(x)

    def _blocks(self) -> list[DecoderBlock]:
        return cast("list[DecoderBlock]", list(self.blocks))

    def _embed(self, tokens: Tensor) -> Tensor:
        return self.embedding(tokens) * self.embedding.embedding_dim**0.5

    def _logits(self, x: Tensor) -> Tensor:
        """Compute logits, (M, D) -> (M, V), in at least float32: bfloat16 keeps three digits of them."""
        with torch.autocast(x.device.type, enabled=False):
            x = self.norm(x)
            precise = torch.promote_types(x.dtype, torch.float32)
            return x.to(precise) @ self.embedding.weight.to(precise).T
