"""The same encoder as it is usually written: clips padded to the longest of the batch, attention with masks.

It gives the same embeddings as the packed one (checked when it is measured), by computing more.

B clips, L patches of the longest, D width, H heads, E width of a head.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from slap.core.packed import Packed
from slap.model.network import Network
from slap.nn.layers import Block, rotary, rotate


@torch.no_grad()
def embed(network: Network, patches: Packed) -> Tensor:
    """Patches to embeddings, (B, E)."""
    encoder = network.audio
    sizes = torch.tensor(patches.sizes)
    longest = int(sizes.max())
    real = torch.arange(longest) < sizes[:, None]  # (B, L)
    values = torch.zeros(*real.shape, patches.values.shape[1], dtype=patches.values.dtype)
    values[real] = patches.values
    places = torch.zeros(*real.shape, 2, dtype=patches.positions.dtype)
    places[real] = patches.positions
    rotation = rotary(places.flatten(0, 1), encoder.head_width)
    x = encoder.embed(values)
    if encoder.row_embedding is not None:
        x = x + encoder.row_embedding[places[..., 1]]
    for block in encoder.blocks:
        x = _block(block, x, rotation, _mask(real, block.attention.window))
    return network.audio_pool(patches.replace(encoder.norm(x)[real]))


def _mask(real: Tensor, window: int | None) -> Tensor:
    """(B, 1, L, L) or (B, 1, 1, L): which keys a query sees. Padding sees itself, since nobody may see nothing."""
    if window is None:
        return real[:, None, None]
    place = torch.arange(real.shape[1])
    near = (place[:, None] - place).abs() <= window // 2
    return (near & real[:, None] | torch.eye(real.shape[1], dtype=torch.bool))[:, None]


def _block(layer: Block, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
    own = layer.attention
    qkv = own.qkv(layer.attention_norm(x))
    q, k, v = rearrange(qkv, "b l (three h e) -> three (b l) h e", three=3, h=own.heads)
    q, k = rotate(q, rotation), rotate(k, rotation)
    q, k, v = (rearrange(part, "(b l) h e -> b h l e", b=len(x)) for part in (q, k, v))
    mixed = scaled_dot_product_attention(q, k, v, mask)
    x = x + own.out(rearrange(mixed, "b h l e -> b l (h e)"))
    gate, value = layer.feed_forward.enter(layer.feed_forward_norm(x)).chunk(2, dim=-1)
    return x + layer.feed_forward.leave(torch.nn.functional.silu(gate) * value)
