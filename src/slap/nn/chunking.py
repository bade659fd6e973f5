"""Functions of rows that are computed in chunks of rows, to save time on a CPU or memory anywhere.

N rows.

The intermediate results of a feed-forward layer are eight times as large as its input. For a batch of two minutes they
are 70 MB, which a CPU writes to memory and reads again for each operation, and which the system has to clear first. In
chunks they stay in the processor's caches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

ROWS = 768
"""Maximal rows per chunk. Chunks are of equal size, so at least half of this, which is as fast per row."""


def chunking_pays(x: Tensor) -> bool:
    """Return whether chunks of rows are faster: on a CPU, without gradient, and outside of graphs that are traced."""
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def in_row_chunks(function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> tuple[Tensor, ...]:
    """Compute `function(*inputs)`, in chunks of rows where that is faster.

    Args:
        function: takes tensors, (N, ...), and gives tensors, (N, ...); each row of a result depends on the same row of
            the inputs alone.
        inputs: (N, ...) each.

    Example:
        >>> import torch
        >>> with torch.no_grad():
        ...     total, = in_row_chunks(lambda a, b: (a + b,), torch.ones(1000, 2), torch.ones(1000, 2))
        >>> total.shape, total.sum().item()
        (torch.Size([1000, 2]), 4000.0)
    """
    # In this order: a traced graph holds for any number of rows, and asking for the number would end that.
    if not chunking_pays(inputs[0]) or len(inputs[0]) <= ROWS:
        return function(*inputs)
    count = len(inputs[0])
    size = -(-count // -(-count // ROWS))  # chunks of equal size, for a short last one would be slow
    wholes: tuple[Tensor, ...] = ()
    for start in range(0, count, size):
        parts = function(*(one[start : start + size] for one in inputs))
        wholes = wholes or tuple(part.new_empty(count, *part.shape[1:]) for part in parts)
        for whole, part in zip(wholes, parts, strict=True):
            whole[start : start + size] = part
    return wholes


def checkpointed_chunks(function: Callable[..., Tensor], rows: Sequence[Tensor], chunks: int) -> Tensor:
    """Compute `function(*rows)` in chunks, so that its intermediate results never exist for all rows at once.

    Args:
        function: takes `rows` and gives (N, ...); each row of the result depends on the same row of the arguments
            alone. It may use other tensors as a whole, and draws no random numbers.
        rows: (N, ...) each.
        chunks: with more than one, the backward pass computes each chunk's intermediate results again.

    Example:
        >>> checkpointed_chunks(lambda x, y: x + y, [torch.arange(4), torch.ones(4)], chunks=3).tolist()
        [1.0, 2.0, 3.0, 4.0]
    """
    if chunks == 1:
        return function(*rows)
    parts = zip(*(part.tensor_split(chunks) for part in rows), strict=True)
    return torch.cat([checkpoint(function, *part, use_reentrant=False, preserve_rng_state=False) for part in parts])
