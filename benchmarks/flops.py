"""Floating-point operations that the encoder `transformer` needs, counted on paper: rows that are real, pairs that see.

What norms, rotations and softmax take is not counted, nor what is computed on padding.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from slap.model.network import Network
from slap.nn.layers import Block


def weights_of(module: nn.Module) -> int:
    """Count the weights of all linear layers."""
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear))


def pairs(sizes: Sequence[int], window: int | None) -> int:
    """Count the rows that each row attends to, summed over all rows."""
    if window is None:
        return sum(size * size for size in sizes)
    reach = window // 2
    total = 0
    for size in sizes:
        near = min(reach, size - 1)
        total += size * (2 * near + 1) - near * (near + 1)
    return total


def block(layer: Block, sizes: Sequence[int], width: int) -> int:
    """Count the operations of one transformer block on items of these sizes."""
    return 2 * sum(sizes) * weights_of(layer) + 4 * width * pairs(sizes, layer.attention.window)


def encode(network: Network, sizes: Sequence[int]) -> int:
    """Count the operations from patches to embeddings; `sizes` are the patches of each clip."""
    encoder, pool = network.audio, network.audio_pool
    total = 2 * sum(sizes) * (encoder.embed.weight.numel() + pool.attention.kv.weight.numel())
    total += sum(block(layer, sizes, encoder.width) for layer in encoder.blocks)
    each = weights_of(pool) - pool.attention.kv.weight.numel()
    return total + 2 * len(sizes) * each + 4 * encoder.width * sum(sizes)
