"""Computing rows in portions that stay in a processor's caches, where nothing has to be kept for a gradient.

N rows.

The intermediate results of a feed-forward layer are eight times as large as its input. For a batch of two minutes they
are 70 MB, which a CPU writes to memory and reads again for each operation, and which the system has to clear first.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

ROWS = 768
"""The most rows of a portion. Half as many, the least that comes of even portions, are multiplied at full speed too."""


def chunking_pays(x: Tensor) -> bool:
    """Whether rows are better computed in portions: on a CPU, without gradient, and in no graph that is being made."""
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def in_row_chunks(function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> tuple[Tensor, ...]:
    """`function(*inputs)`, in portions of rows where that is faster.

    Args:
        function: of tensors with a row each for the same things, (N, ...); a row of its results, (N, ...), depends on
            that row of its inputs alone.
        inputs: (N, ...) each.

    Example:
        >>> import torch
        >>> with torch.no_grad():
        ...     total, = in_row_chunks(lambda a, b: (a + b,), torch.ones(1000, 2), torch.ones(1000, 2))
        >>> total.shape, total.sum().item()
        (torch.Size([1000, 2]), 4000.0)
    """
    # In this order: a graph that is being made holds for any number of rows, which asking for it would end.
    if not chunking_pays(inputs[0]) or len(inputs[0]) <= ROWS:
        return function(*inputs)
    count = len(inputs[0])
    size = -(-count // -(-count // ROWS))  # even portions, for a short last one would be slow
    wholes: tuple[Tensor, ...] = ()
    for start in range(0, count, size):
        parts = function(*(one[start : start + size] for one in inputs))
        wholes = wholes or tuple(part.new_empty(count, *part.shape[1:]) for part in parts)
        for whole, part in zip(wholes, parts, strict=True):
            whole[start : start + size] = part
    return wholes
