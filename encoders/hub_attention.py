"""SLAP's packed attention in the layers of the `transformers` library, which look their attention up by name.

The layers then need no padding and no flash-attn package.

N tokens of all captions, H heads, E width of a head.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from slap.attention import attention
from slap.packed import Layout

ATTENTION = "slap_packed"
"""The name by which transformers finds `packed_attention`."""


def use_packed_attention() -> None:
    """Make `packed_attention` known to transformers, in this process.

    Raises:
        ImportError: transformers is missing or too old.
    """
    try:
        import transformers
        from packaging.version import Version
    except ImportError as error:
        raise ImportError("the text encoder `modernbert` needs transformers: pip install 'slap-audio[hf]'") from error
    if Version(transformers.__version__) < Version("5.1"):
        raise ImportError(
            f"the text encoder `modernbert` needs transformers 5.1 or newer, this is {transformers.__version__}: "
            "pip install --upgrade 'slap-audio[hf]'"
        )
    transformers.AttentionInterface.register(ATTENTION, packed_attention)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    layout: Layout,
    sliding_window: int | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """Attention within captions, as transformers calls it.

    Args:
        module: the layer that calls.
        query: (1, H, N, E), rotated.
        key: (1, H, N, E), rotated.
        value: (1, H, N, E).
        attention_mask: none.
        layout: of the captions.
        sliding_window: a row sees rows nearer than this; None: all of its caption.
        settings: transformers passes a scale, which is 1 / sqrt(E) here too, a dropout, which the constructor keeps at
            0, and hints to other attention functions.

    Returns:
        (1, N, H, E), and no attention weights.
    """
    del module, attention_mask, settings
    window = None if sliding_window is None else 2 * (sliding_window - 1)
    q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))
    return attention(q, k, v, layout, window=window)[None], None


def recompute(model: Any) -> None:
    """Have a model of transformers recompute its layers in the backward pass."""
    # The older name warns where the newer one is there.
    newer = getattr(model, "activation_checkpointing_enable", None)
    (newer or model.gradient_checkpointing_enable)({"use_reentrant": False})
