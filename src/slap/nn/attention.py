"""Attention within the items of packed batches: full, causal or in a sliding window. One function, two back ends.

B items, N query rows, M key rows, H heads, E width of a head. A group holds G items (or blocks of items) of similar
length, padded to L rows, P = G x L padded rows.

On CUDA in half precision the back end is torch's variable-length FlashAttention. Elsewhere rows are gathered into
padded groups for `scaled_dot_product_attention`; sliding windows are cut into blocks that attend only to their
neighbors, so that they cost O(N x window). Both equal a naive masked attention (tests/nn/test_attention.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.nn.functional import scaled_dot_product_attention

from slap.core.errors import UserError
from slap.core.packed import Layout

GROUP_WASTE = 1.25
"""Limit of padding: an item joins a group if the group then has at most this many times its real scores, ..."""

GROUP_SLACK = 16_384
"""... plus this number of scores, which take about the time of one more call."""


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    queries: Layout,
    keys: Layout | None = None,
    *,
    window: int | None = None,
    causal: bool = False,
) -> Tensor:
    """Compute softmax(q k' / sqrt(E)) v, for each item separately.

    Args:
        q: (N, H, E) packed queries.
        k: (M, H, E) packed keys.
        v: (M, H, E) packed values.
        queries: the layout of `q`.
        keys: the layout of `k` and `v`, with as many items as `queries`, none of them empty; by default that of `q`.
        window: row i attends to the rows j with |i - j| <= window // 2.
        causal: row i attends to the rows j <= i.

    Returns:
        (N, H, E); the rows of item b attend to the rows of item b alone. Without items it has no rows.

    Raises:
        ValueError: a window or a causal mask with two layouts, or both at once.
    """
    keys = queries if keys is None else keys
    if (window is not None or causal) and keys is not queries:
        raise UserError("a window or a causal mask needs queries and keys of one layout")
    if window is not None and causal:
        raise UserError("a window and a causal mask at once are not supported; choose one")
    k, v = k.to(q.dtype), v.to(q.dtype)
    if not q.shape[0]:  # no rows, but q, k and v still have a gradient of 0; the layout is not asked, since compiled
        # code would then depend on it
        return q + k.sum() + v.sum()
    if flashes(q):
        return flash_attention(q, k, v, queries, keys, window, causal)
    if torch.compiler.is_compiling():
        return _uncompiled(q, k, v, queries, keys, window, causal)
    return grouped_attention(q, k, v, queries, keys, window, causal)


def flashes(q: Tensor) -> bool:
    """Return whether `flash_attention` accepts such queries."""
    return q.is_cuda and q.dtype in (torch.float16, torch.bfloat16)


def flash_attention(
    q: Tensor, k: Tensor, v: Tensor, queries: Layout, keys: Layout, window: int | None, causal: bool
) -> Tensor:
    """Compute `attention` on CUDA in half precision."""
    from torch.nn.attention.varlen import varlen_attn

    half = -1 if window is None else window // 2
    bounds = (queries.cu_seqlens, keys.cu_seqlens, queries.reach, keys.reach)
    out = varlen_attn(q, k, v, *bounds, window_size=(half, 0 if causal else half))
    assert isinstance(out, Tensor)  # a tuple only when auxiliary outputs are asked for
    return out


def grouped_attention(
    q: Tensor, k: Tensor, v: Tensor, queries: Layout, keys: Layout, window: int | None, causal: bool
) -> Tensor:
    """Compute `attention` on any device and in any precision."""
    # None instead of the layout itself: a layout that holds itself would keep its masks until the garbage collector
    # runs, which counts objects and not their bytes.
    key = (None if keys is queries else keys, window, causal)
    if key not in queries.plans:  # once per batch: all layers, and all views of the same patches, share it
        queries.plans[key] = _grouped(queries, keys, causal) if window is None else _windowed(queries, window)
    plan: _Plan = queries.plans[key]
    return plan.run(q, k, v)


# Compiled code calls it outside of its graph, since a plan depends on the batch. Not by `torch.compiler.disable`, which
# imports the compiler at once, so that the use of a trained model would wait for it.
_uncompiled = _disable_dynamo(grouped_attention)


@dataclass(frozen=True, eq=False)
class _Rows:
    """The map between packed rows and padded places.

    Padding repeats a row of the same item, never of another one: the values of a clip, NaN included, stay within it.

    Attributes:
        source: (P,) int64, the packed row at each padded place.
        place: (N,) int64, the padded place of each packed row.
        padding: (P, 1, 1) bool, True for padding; None if there is none.
        again: (N,) int64, for keys of sliding windows: the second place of a row, in a neighboring block.
        alone: (N, 1, 1) bool, True for rows without a second place.
    """

    source: Tensor
    place: Tensor
    padding: Tensor | None = None
    again: Tensor | None = None
    alone: Tensor | None = None


class _Spread(torch.autograd.Function):
    """Copy of packed rows to padded places. Its gradient is a gather too, much faster than adding up by index."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rows: _Rows) -> Tensor:
        ctx.rows = rows
        return values.index_select(0, rows.source)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        rows: _Rows = ctx.rows
        grad = grads[0].index_select(0, rows.place)  # padding is masked: its gradient is 0
        if rows.again is not None:
            assert rows.alone is not None
            grad += grads[0].index_select(0, rows.again).masked_fill_(rows.alone, 0)
        return grad, None


class _Collect(torch.autograd.Function):
    """Copy of padded places back to packed rows."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rows: _Rows) -> Tensor:
        ctx.rows = rows
        return values.index_select(0, rows.place)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        grad = grads[0].index_select(0, ctx.rows.source)
        return grad if ctx.rows.padding is None else grad.masked_fill_(ctx.rows.padding, 0), None


@dataclass(frozen=True, eq=False)
class _Group:
    """Items (or blocks) that are computed by one call.

    Attributes:
        size: G.
        queries: padded query rows per item.
        keys: padded key rows per item.
        mask: (G, 1, queries, keys), True where a query attends to a key; None if all attend to all. Queries that are
            padding attend to everything, since a softmax over nothing is NaN.
    """

    size: int
    queries: int
    keys: int
    mask: Tensor | None


@dataclass(frozen=True, eq=False)
class _Plan:
    """The computation of attention for one layout: groups of rows, and their places."""

    q_rows: _Rows
    k_rows: _Rows
    groups: list[_Group]

    def run(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = _Spread.apply(q, self.q_rows), _Spread.apply(k, self.k_rows), _Spread.apply(v, self.k_rows)
        q_parts = q.split([group.size * group.queries for group in self.groups])
        k_parts = k.split([group.size * group.keys for group in self.groups])
        v_parts = v.split([group.size * group.keys for group in self.groups])
        outs = []
        for group, *parts in zip(self.groups, q_parts, k_parts, v_parts, strict=True):
            q, k, v = (part.unflatten(0, (group.size, -1)).transpose(1, 2) for part in parts)
            out = scaled_dot_product_attention(q, k, v, group.mask)
            outs.append(out.transpose(1, 2).flatten(0, 1))
        return _Collect.apply(outs[0] if len(outs) == 1 else torch.cat(outs), self.q_rows)


def _grouped(queries: Layout, keys: Layout, causal: bool) -> _Plan:
    """Plan full or causal attention, with items of similar length in one group."""
    device = queries.lengths.device
    members: list[list[int]] = []
    real = padded = longest = 0
    # From long to short: the first item of a group fixes its number of keys.
    for i in sorted(range(len(queries.sizes)), key=lambda i: (keys.sizes[i], queries.sizes[i]), reverse=True):
        scores = queries.sizes[i] * keys.sizes[i]
        if members:
            longest = max(longest, queries.sizes[i])
            padded = (len(members[-1]) + 1) * longest * keys.sizes[members[-1][0]]
        if not members or padded > GROUP_WASTE * (real + scores) + GROUP_SLACK:
            members.append([])
            real, longest = 0, queries.sizes[i]
        members[-1].append(i)
        real += scores
    order = torch.tensor([i for group in members for i in group], device=device)
    q_longest = [max(queries.sizes[i] for i in group) for group in members]
    k_longest = [max(keys.sizes[i] for i in group) for group in members]
    q_rows = _rows(queries, order, _repeat(q_longest, members, device))
    k_rows = q_rows if keys is queries else _rows(keys, order, _repeat(k_longest, members, device))
    groups = []
    for group, q_length, k_length in zip(members, q_longest, k_longest, strict=True):
        mask = None
        if causal or any(queries.sizes[i] != q_length or keys.sizes[i] != k_length for i in group):
            chosen = torch.tensor(group, device=device)
            row, column = torch.arange(q_length, device=device)[:, None], torch.arange(k_length, device=device)
            mask = column < keys.lengths[chosen].view(-1, 1, 1)
            mask = mask & (column <= row) if causal else mask
            mask = (mask | (row >= queries.lengths[chosen].view(-1, 1, 1)))[:, None]
        groups.append(_Group(len(group), q_length, k_length, mask))
    return _Plan(q_rows, k_rows, groups)


def _repeat(longest: list[int], members: list[list[int]], device: torch.device) -> Tensor:
    """Return the padded length of each item, in the order of the groups."""
    return torch.tensor([length for length, group in zip(longest, members, strict=True) for _ in group], device=device)


def _rows(layout: Layout, order: Tensor, padded: Tensor) -> _Rows:
    """Arrange items in an order, each padded to a length.

    Args:
        layout: the layout of the packed rows.
        order: (B,) int64, the items in their new order.
        padded: (B,) int64, the padded lengths in that order.
    """
    starts = layout.cu_seqlens[:-1].long()
    lengths = layout.lengths.long()
    ends = padded.cumsum(0)
    slot = torch.arange(len(order), device=padded.device).repeat_interleave(padded)
    within = torch.arange(len(slot), device=padded.device) - (ends - padded)[slot]
    item = order[slot]
    source = starts[item] + torch.minimum(within, (lengths[item] - 1).clamp(min=0))
    begin = torch.empty_like(starts)
    begin[order] = ends - padded
    padding = (within >= lengths[item]).view(-1, 1, 1) if len(slot) > layout.total else None
    return _Rows(source, begin[layout.item] + layout.index, padding)


def _windowed(layout: Layout, window: int) -> _Plan:
    """Plan attention in a sliding window, in blocks of the window's length.

    A block also attends to half a window of the blocks beside it. So a row is at two places at most among the keys: in
    its own block, and in the nearer neighbor.
    """
    reach, block = window // 2, max(window, 1)
    span = block + 2 * reach
    device = layout.lengths.device
    lengths, starts = layout.lengths.long(), layout.cu_seqlens[:-1].long()
    blocks = (lengths + block - 1) // block  # of each item
    count = sum(-(-size // block) for size in layout.sizes)
    q_rows = _rows(layout, torch.arange(len(lengths), device=device), blocks * block)
    item = torch.arange(len(lengths), device=device).repeat_interleave(blocks, output_size=count)
    first = (torch.arange(count, device=device) - (blocks.cumsum(0) - blocks)[item]) * block  # each block's first row
    i, j = torch.arange(block, device=device)[:, None], torch.arange(-reach, block + reach, device=device)
    row = first[:, None] + j  # (G, span), of the item
    inside = (row >= 0) & (row < lengths[item][:, None])
    source = starts[item][:, None] + torch.minimum(row.clamp(min=0), (lengths[item] - 1)[:, None])
    mask = ((i - j).abs() <= reach) & inside[:, None] | (first[:, None] + i.T >= lengths[item][:, None])[:, :, None]
    # Of each row: its block among all blocks, its place there, and the neighbor that attends to it.
    own, within = q_rows.place // block, q_rows.place % block
    other = (within >= block - reach).long() - (within < reach).long()
    neighbor = own + other
    alone = (other == 0) | (neighbor < 0) | (neighbor >= count)
    alone |= item[neighbor.clamp(0, count - 1)] != layout.item
    again = neighbor * span + within - other * block + reach
    k_rows = _Rows(
        source.flatten(), own * span + within + reach, None, again.masked_fill(alone, 0), alone.view(-1, 1, 1)
    )
    return _Plan(q_rows, k_rows, [_Group(count, block, span, mask[:, None])])
