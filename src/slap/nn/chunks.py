"""A function of rows, piece by piece, so that what it makes on the way never exists for all rows at once.

n rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def checkpointed_chunks(function: Callable[..., Tensor], rows: Sequence[Tensor], pieces: int) -> Tensor:
    """`function(*rows)`, where each row of the result depends on the same row of the arguments alone.

    Args:
        function: takes `rows`, gives (n, ...). It may hold tensors that stay whole, and draws no random numbers.
        rows: (n, ...) each.
        pieces: with more than one, what a piece needs for its gradient is not kept but computed again.

    Example:
        >>> checkpointed_chunks(lambda x, y: x + y, [torch.arange(4), torch.ones(4)], pieces=3).tolist()
        [1.0, 2.0, 3.0, 4.0]
    """
    if pieces == 1:
        return function(*rows)
    parts = zip(*(part.tensor_split(pieces) for part in rows), strict=True)
    return torch.cat([checkpoint(function, *part, use_reentrant=False, preserve_rng_state=False) for part in parts])
