"""SLAP's packed attention for the layers of the `transformers` library, which find an attention function by its name.

With it the layers need no padding and no flash-attn package.

N rows of all items, H heads, E width of a head.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from slap.core.packed import Layout
from slap.encoders.hf.pretrained import require_transformers
from slap.nn.attention import attention
from slap.nn.single_clip import attend

ATTENTION = "slap_packed"
"""The name by which transformers finds `packed_attention`."""


def use_packed_attention() -> None:
    """Register `packed_attention` with transformers, in this process.

    Raises:
        ImportError: transformers is missing or too old.
    """
    require_transformers()
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, packed_attention)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    layout: Layout | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """Compute attention within items, with the arguments that transformers passes.

    Args:
        module: the layer that calls.
        query: (1, H, N, E), after the position embedding.
        key: (1, H, N, E), after the position embedding.
        value: (1, H, N, E).
        attention_mask: always None.
        layout: the layout of the items; None for a single item in a graph that is traced.
        scaling: factor on the products of query and key. Default: 1 / sqrt(E).
        sliding_window: a row attends to rows nearer than this; None: to all of its item.
        settings: a dropout, which the encoders keep at 0, and hints for other attention functions; ignored.

    Returns:
        (1, N, H, E), and no attention weights.
    """
    del module, attention_mask, settings
    window = None if sliding_window is None else 2 * (sliding_window - 1)
    q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))
    usual = q.shape[-1] ** -0.5
    if scaling is not None and scaling != usual:
        q = q * (scaling / usual)
    if layout is None:
        return attend(q, k, v, window)[None], None
    return attention(q, k, v, layout, window=window)[None], None
