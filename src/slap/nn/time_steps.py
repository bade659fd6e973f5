"""Time steps of dense audio features: the rows of a step, e.g. its frequency bands, pooled to one.

N rows, F time steps of all items, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from slap.core.errors import UserError
from slap.core.packed import Packed

SPAN = 1 << 31
"""More time steps than any item has."""


class TimeSteps(NamedTuple):
    """The time steps of packed rows, by item and then by time.

    Attributes:
        item: (F,) int64, the item of each.
        time: (F,) int64, its number within the item.
        row: (N,) int64, the time step of each row.
    """

    item: Tensor
    time: Tensor
    row: Tensor


def time_steps(tokens: Packed) -> TimeSteps:
    """Find the time steps of packed rows, whose first coordinate is the time; on a GPU the host waits.

    Raises:
        ValueError: the rows have no coordinates.

    Example:
        >>> lengths, times = torch.tensor([3, 1], dtype=torch.int32), torch.tensor([[0], [1], [0], [0]])
        >>> [part.tolist() for part in time_steps(Packed(torch.zeros(4, 2), lengths, times))]
        [[0, 0, 1], [0, 1, 0], [0, 1, 0, 2]]
    """
    if tokens.positions is None:
        raise UserError("the audio encoder's features have no positions, so it is not known when they are")
    key, row = torch.unique(tokens.item * SPAN + tokens.positions[:, 0].long(), return_inverse=True)
    return TimeSteps(key // SPAN, key % SPAN, row)


def mean_of_steps(values: Tensor, steps: TimeSteps) -> Tensor:
    """Compute the mean of the rows of each time step, (N, D) -> (F, D)."""
    count = torch.zeros(len(steps.item), dtype=values.dtype, device=values.device)
    count = count.index_add(0, steps.row, torch.ones_like(values[:, 0]))
    sums = torch.zeros(len(steps.item), values.shape[1], dtype=values.dtype, device=values.device)
    return sums.index_add(0, steps.row, values) / count[:, None]
