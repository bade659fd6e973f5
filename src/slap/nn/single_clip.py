"""The layers of `slap.nn.layers` on one item, by operations that torch.export and ONNX trace for any length.

N rows of the item, D width, H heads. Attention on packed batches follows a plan that Python makes
from the lengths of the batch, which an exported graph cannot do; one item needs no plan. These functions use the
weights of the layers, and tests compare the results.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from slap.nn.layers import Block, CrossAttention, Rotation, SelfAttention, rotate


def block(layer: Block, x: Tensor, rotation: Rotation) -> Tensor:
    """Apply a `Block` to (N, D)."""
    x = x + self_attention(layer.attention, layer.attention_norm(x), rotation)
    return x + layer.feed_forward(layer.feed_forward_norm(x))


def self_attention(layer: SelfAttention, x: Tensor, rotation: Rotation) -> Tensor:
    """Apply a `SelfAttention`, not causal, to (N, D). A window is a mask, so its cost grows with N x N."""
    q, k, v = layer.qkv(x).unflatten(-1, (3, layer.heads, -1)).unbind(1)
    return layer.out(attend(rotate(q, rotation), rotate(k, rotation), v, layer.window).flatten(1))


def cross_attention(layer: CrossAttention, x: Tensor, context: Tensor) -> Tensor:
    """Apply a `CrossAttention` to (N, D) and a context of (M, D')."""
    q = layer.q(x).unflatten(-1, (layer.heads, -1))
    k, v = layer.kv(context).unflatten(-1, (2, layer.heads, -1)).unbind(1)
    return layer.out(attend(q, k, v).flatten(1))


def attend(q: Tensor, k: Tensor, v: Tensor, window: int | None = None) -> Tensor:
    """Compute `slap.nn.attention.attention` of one item: (N, H, E), (M, H, E) and (M, H, E) to (N, H, E)."""
    mask = None
    if window is not None:
        place = torch.arange(q.shape[0], device=q.device)
        mask = (place[:, None] - place).abs() <= window // 2
    q, k, v = (part.transpose(0, 1)[None] for part in (q, k, v))
    return scaled_dot_product_attention(q, k, v, mask)[0].transpose(0, 1)
