"""Composed queries: a sound or a text, with something and without something else.

p embeddings with, m without, E shared dimension.
"""

from __future__ import annotations

from torch import Tensor

from slap.core.errors import UserError

SHORTEST = 1e-3
"""Smallest length of a sum that still has a direction."""


class CancelledError(UserError):
    """A composed query of which nothing is left."""


def compose(plus: Tensor, minus: Tensor) -> Tensor:
    """Compose a query, (E,) of length 1, from unit embeddings: those with are added, those without subtracted.

    All have the same weight, which is our choice: one word counts as much as a sound. Sums of embeddings are a
    heuristic that models were not trained for, and subtracting makes a sound less near, not impossible.

    Args:
        plus: (p, E), to be near to.
        minus: (m, E), to be away from.

    Raises:
        CancelledError: nothing is left of the sum.

    Example:
        >>> import torch
        >>> dog, rain, thunder = torch.eye(3)
        >>> compose(torch.stack([dog, rain]), thunder[None]).mul(3**0.5).round().tolist()
        [1.0, 1.0, -1.0]
    """
    whole = plus.sum(0) - minus.sum(0)
    length = float(whole.norm())
    if not length > SHORTEST:
        raise CancelledError(
            "nothing is left of this query: its parts with and without cancel each other; change one of them"
        )
    return whole / length
