"""Stacks of transformer blocks on packed rows: compiled or not, recomputed in the backward pass or not.

N packed rows, D width.

Compiled code is one graph for batches of all shapes: the numbers of rows and items and the longest length are symbols
in it. Besides, rows are padded to a multiple of `BUCKET`, so that matrix products and memory blocks have few sizes. The
padding is a separate item at the end: no other row attends to it, and its result is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from slap.core.packed import Layout

BUCKET = 512
"""Compiled blocks run on a multiple of this number of rows: 0.4 % more rows on average in a batch of 64k."""

GRAPHS = 64
"""Maximal number of graphs per function, enough for all kinds of blocks of a model; torch allows 8."""


def compile_blocks(module: nn.Module, backend: str | Callable[..., Any] = "inductor") -> int:
    """Compile each submodule that has the attribute `compiles = True`, separately.

    Blocks of one kind share their graphs, so that twelve take no longer to compile than one. The training step as a
    whole is not compiled: it has many operations that break graphs.

    Args:
        module: the module; submodules that are compiled already stay as they are.
        backend: backend of `torch.compile`.

    Returns:
        The number of compiled submodules.
    """
    import torch._dynamo.config as settings  # takes a second, for which runs without compiling should not wait
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
    """Return whether `compile_blocks` compiled these blocks."""
    return len(blocks) > 0 and blocks[0]._compiled_call_impl is not None


def pad_to_bucket(layout: Layout, *rows: Tensor) -> tuple[Any, ...]:
    """Return a layout with one more item, see `Layout.filled`, and tensors, (N, ...), with rows of zeros for it."""
    filled = layout.filled(BUCKET)
    more = filled.total - layout.total
    return filled, *(pad(part, (0, 0) * (part.dim() - 1) + (0, more)) for part in rows)


def run_blocks(
    blocks: nn.ModuleList, x: Tensor, layout: Layout, rotation: tuple[Tensor, Tensor], recompute: bool = False
) -> Tensor:
    """Run rows through all blocks.

    Args:
        blocks: modules that take rows, layout and rotation, and give rows.
        x: (N, D).
        layout: the layout of the rows.
        rotation: from `slap.nn.layers.rotary`.
        recompute: whether to compute activations within blocks again in the backward pass instead of keeping them.

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
