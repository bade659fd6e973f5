"""Losses over a batch that is spread unevenly over processes, with the gradients of one process.

R processes, n_r rows on process r. Lightning's DDP averages gradients over processes, so a loss term that sums over
the rows of one process is multiplied by R and divided by the global number of rows: then the average over processes
is the mean over the joined batch, whatever the n_r. Every function here also works in a single process.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Return R, the number of processes; 1 when nothing is distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_sum(values: Tensor) -> Tensor:
    """Return the sum over all processes, without gradient."""
    values = values.detach().clone()
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def all_max(values: Tensor) -> Tensor:
    """Return the elementwise maximum over all processes, without gradient."""
    values = values.detach().clone()
    if world_size() > 1:
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return values


def global_mean(values: Tensor) -> Tensor:
    """Return this process's share of the mean over the rows of all processes.

    Args:
        values: (n_r, ...) one loss per row; may be empty on some processes.

    Returns:
        A scalar. Its average over processes, in value and in gradient, is the mean over all rows; 0 if there are none.
    """
    count = all_sum(torch.full((), float(values.numel()), device=values.device))
    return values.sum() * world_size() / count.clamp(min=1)  # in this order, so that float64 stays exact


def gather(values: Tensor) -> Tensor:
    """Return the rows of all processes, in the order of the processes, with gradients back to each.

    Args:
        values: (n_r, ...), any n_r.

    Returns:
        (n_1 + ... + n_R, ...), the same on every process.
    """
    return values if world_size() == 1 else _Gather.apply(values)


class _Gather(torch.autograd.Function):
    """Padded all-gather: with rows of unequal number, gloo aborts on one process and corrupts rows on the others."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        counts = torch.zeros(world_size(), dtype=torch.int64, device=values.device)
        counts[dist.get_rank()] = len(values)
        dist.all_reduce(counts)
        sizes = counts.tolist()
        padded = values.new_zeros(max(sizes), *values.shape[1:])
        padded[: len(values)] = values
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        ctx.start = sum(sizes[: dist.get_rank()])
        ctx.size = len(values)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # Each process holds the gradient of its own loss; the sum belongs to the process that sent the rows.
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.start : ctx.start + ctx.size]
