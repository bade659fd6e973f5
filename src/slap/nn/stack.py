"""Running the blocks of a transformer over packed rows: compiled or not, recomputed in the backward pass or not.

N packed rows, D width.

Compiled code is one graph for batches of all shapes: rows, items and the longest item's length are symbols in it. Rows
are filled up to a multiple of `BUCKET` besides, which keeps the sizes of matrix products and of memory blocks few and
even. The filling is an item of its own at the end: nothing attends to it, and what becomes of it is cut off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from slap.core.packed import Layout

BUCKET = 512
"""Compiled blocks are given a multiple of so many rows: 0.4 % more of them on average in a batch of 64k."""

GRAPHS = 64
"""As many graphs of one function as a model may need, with all kinds of its blocks; torch allows 8."""


def compile_blocks(module: nn.Module, backend: str | Callable[..., Any] = "inductor") -> int:
    """Compile, each by itself, all parts of a module that say so by an attribute `compiles = True`.

    Blocks of one kind share their graphs, so that twelve take no longer to compile than one. The step as a whole is
    left alone: it is full of what compilers break at.

    Args:
        module: with its parts; those that are compiled already stay as they are.
        backend: of `torch.compile`.

    Returns:
        How many parts are compiled.
    """
    import torch._dynamo.config as settings  # takes a second, which those who do not compile should not wait
    import torch.fx.experimental._config as symbols

    settings.recompile_limit = max(settings.recompile_limit, GRAPHS)
    # Two numbers that happen to be equal in the first batch, such as rows of captions and of audio, are two symbols.
    symbols.use_duck_shape = False
    parts = [part for part in module.modules() if getattr(part, "compiles", False)]
    for part in parts:
        if part._compiled_call_impl is None:
            part.compile(dynamic=True, backend=backend)
    return len(parts)


def is_compiled(blocks: nn.ModuleList) -> bool:
    """Whether `compile_blocks` has been at work."""
    return len(blocks) > 0 and blocks[0]._compiled_call_impl is not None


def pad_to_bucket(layout: Layout, *rows: Tensor) -> tuple[Any, ...]:
    """A layout with one more item, see `Layout.filled`, and tensors, (N, ...), with rows of zeros for it."""
    filled = layout.filled(BUCKET)
    more = filled.total - layout.total
    return filled, *(pad(part, (0, 0) * (part.dim() - 1) + (0, more)) for part in rows)


def run_blocks(
    blocks: nn.ModuleList, x: Tensor, layout: Layout, rotation: tuple[Tensor, Tensor], recompute: bool = False
) -> Tensor:
    """The rows after all blocks.

    Args:
        blocks: each takes rows, layout and rotation, and gives rows.
        x: (N, D).
        layout: of the rows.
        rotation: from `slap.nn.layers.rotary`.
        recompute: keep no activations within blocks; compute them again in the backward pass.

    Returns:
        (N, D).
    """
    total = len(x)
    compiled = is_compiled(blocks)
    if compiled:
        layout, x, cos, sin = pad_to_bucket(layout, x, *rotation)
        rotation = cos, sin
    for block in blocks:
        if recompute:  # no block draws random numbers
            x = checkpoint(block, x, layout, rotation, use_reentrant=False, preserve_rng_state=False)
        else:
            x = block(x, layout, rotation)
    return x[:total] if compiled else x
