"""The best matches of many queries among any number of items, exact and in bounded memory.

Q queries, N items, E shared dimension, k matches.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

QUERIES = 1024
ITEMS = 16_384
"""So many queries are compared with so many items at once: 64 MB of scores, whatever Q and N are."""


class Matches(NamedTuple):
    """The best items of each query, best first.

    Attributes:
        scores: (Q, k) dot products; cosines if the embeddings have length 1.
        items: (Q, k) int64, numbers of the items.
    """

    scores: Tensor
    items: Tensor


def topk(queries: Tensor, items: Tensor | Iterable[Tensor], k: int) -> Matches:
    """Find the k items with the largest dot product for each query.

    The matrix of all scores, (Q, N), never exists: the memory is that of `Matches`, and 64 MB. The choice among equal
    items in the last places is not defined.

    Args:
        queries: (Q, E).
        items: (N, E), or parts of it, (N_i, E), in order, read one after the other, e.g. from a file.
        k: at least 1; fewer columns come back where there are fewer items.

    Raises:
        ValueError: k below 1, no items, or items of another dimension than the queries.

    Example:
        >>> import torch
        >>> topk(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.0], [0.0, 1.0], [1.0, 0.0]]), k=2)
        Matches(scores=tensor([[1.0000, 0.5000]]), items=tensor([[2, 0]]))
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    best: list[Matches | None] = [None for _ in queries.split(QUERIES)]
    start = 0
    for part in [items] if isinstance(items, Tensor) else items:
        if part.shape[1] != queries.shape[1]:
            raise ValueError(f"the items have {part.shape[1]} dimensions and the queries {queries.shape[1]}")
        for chunk in part.split(ITEMS):
            for i, some in enumerate(queries.split(QUERIES)):
                best[i] = _better(best[i], some @ chunk.T, start, k)
            start += len(chunk)
    found = [matches for matches in best if matches is not None]
    if not found:
        raise ValueError(f"there is nothing to search: {len(queries)} queries, {start} items")
    return Matches(torch.cat([one.scores for one in found]), torch.cat([one.items for one in found]))


def _better(best: Matches | None, scores: Tensor, start: int, k: int) -> Matches:
    """Merge the best matches so far with the scores of the items from number `start` on, (Q, n)."""
    values, places = scores.topk(min(k, scores.shape[1]))
    items = places + start
    if best is not None:
        values, items = torch.cat([best.scores, values], 1), torch.cat([best.items, items], 1)
    order = values.argsort(dim=1, descending=True, stable=True)[:, :k]
    return Matches(values.gather(1, order), items.gather(1, order))
