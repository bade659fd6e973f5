"""Ranks of right items among all, in bounded memory.

n queries, m items, P pairs of a query and an item that is right for it, E shared dimension.

The rule of ties: a wrong item that scores the same as a right one, up to `TIE`, counts as better (the pessimistic
rank), so that a collapsed model, which gives everything the same embedding, does not look perfect. Right items are not
compared with each other. What is not finite ranks last.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slap.metrics.finite import sound_rows

CHUNK = 1024
"""Queries compared at once, ..."""

SCORES = 1 << 22
"""... fewer where they would have more scores than this together: 16 MB, and a few times that for comparing them."""

TIE = 1e-5
"""C that differ by less are equal. The same clip or text in two batches differs by some 1e-7 of rounding, so no
rank depends on the batches; in a retrieval set, hardly two different ones are so near."""


def right_ranks(queries: Tensor, items: Tensor, query: Tensor, item: Tensor) -> Tensor:
    """Rank each right item among all items in the order of its query, from 0.

    The rank is the number of wrong items that do not score lower, and of right ones of the query that stand before it.

    Args:
        queries: (n, E) embeddings.
        items: (m, E) embeddings.
        query: (P,) int64, the query of each pair, ascending; a pair comes once.
        item: (P,) int64, the right item of each pair.

    Returns:
        (P,) int64. The ranks of a query differ; its first right item is the least of them.

    Example:
        >>> right_ranks(torch.eye(2), torch.eye(2), torch.tensor([0, 1]), torch.tensor([0, 1])).tolist()
        [0, 0]
    """
    wrong, value = torch.empty_like(query), queries.new_empty(len(query))
    size = max(1, min(CHUNK, SCORES // max(len(items), 1)))
    room, more = (queries.new_empty(min(size, len(queries)), len(items)) for _ in range(2))
    lost_queries, lost_items = ~sound_rows(queries), (~sound_rows(items)).nonzero().squeeze(1)
    ends = torch.searchsorted(query, torch.arange(0, len(queries) + size, size, device=query.device)).tolist()
    for number, start in enumerate(range(0, len(queries), size)):
        scores = torch.mm(queries[start : start + size], items.T, out=room[: len(queries[start : start + size])])
        scores[lost_queries[start : start + size]] = -torch.inf
        scores[:, lost_items] = -torch.inf
        own = slice(ends[number], ends[number + 1])
        row, column = query[own] - start, item[own]
        value[own] = scores[row, column]
        scores[row, column] = torch.nan  # which no comparison holds for: only wrong items are counted
        wrong[own] = _not_below(scores, value[own] - TIE, row, more)
    return wrong + _place(query, value)


def first_ranks(ranks: Tensor, query: Tensor, count: int) -> Tensor:
    """Return the rank of the first right item of each query, (count,) int64, from the ranks of pairs, (P,)."""
    far = torch.full((count,), torch.iinfo(torch.int64).max, dtype=torch.int64, device=ranks.device)
    return far.scatter_reduce(0, query, ranks, "amin")


def _place(query: Tensor, value: Tensor) -> Tensor:
    """Number the right items of each query by their scores, the highest first, from 0: (P,), (P,) -> (P,)."""
    order = value.argsort(descending=True, stable=True)
    order = order[query[order].argsort(stable=True)]
    sizes = query.bincount()
    place = torch.empty_like(query)
    place[order] = torch.arange(len(query), device=query.device) - (sizes.cumsum(0) - sizes)[query[order]]
    return place


def _not_below(scores: Tensor, values: Tensor, row: Tensor, room: Tensor) -> Tensor:
    """Count the entries of a row that are not below a value: (n, m), (k,), (k,) int64, room for (n, m) -> (k,).

    Marks take the place of scores, since torch takes eight bytes an entry to add up booleans. Single precision counts
    exactly up to 2^24; beyond it the sum is one in double precision.
    """
    counts = torch.empty_like(row)
    exact = torch.float64 if scores.shape[1] > 1 << 24 else None
    for start in range(0, len(row), len(room)):
        part = slice(start, start + len(room))
        wanted = values[part, None]
        marks = torch.index_select(scores, 0, row[part], out=room[: len(wanted)]).ge_(wanted)
        counts[part] = marks.sum(1, dtype=exact).long()
    return counts
