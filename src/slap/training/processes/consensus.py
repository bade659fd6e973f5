"""Decisions of all processes at a step, without waiting for each other.

R processes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist


class Consensus:
    """The elementwise maximum, over processes, of a few whole numbers; each process gives its own at every step.

    The exchange of a step is collected at the next step, when it has long been made, so it costs no time, and every
    process gets the same answer at the same step. It has a group of its own on the CPU, so that no GPU is waited for.

    Args:
        count: the number of numbers.

    Attributes:
        group: the group of all processes, on the CPU; None if there is one process.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.group: Any = None
        self._pending: tuple[Any, torch.Tensor] | None = None

    def open(self) -> None:
        """Make the group; every process must call it, in the same order with all other exchanges."""
        if self.group is None and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            self.group = dist.new_group(backend="gloo")

    def exchange(self, numbers: list[int]) -> list[int]:
        """Give the numbers of this step, and return those that were agreed on at the step before, at first zeros.

        With one process they are agreed on at once.
        """
        if self.group is None:
            return numbers
        agreed = self.collect()
        mine = torch.tensor(numbers, dtype=torch.int64)
        self._pending = dist.all_reduce(mine, dist.ReduceOp.MAX, self.group, async_op=True), mine
        return agreed

    def collect(self) -> list[int]:
        """Return the numbers that were agreed on at the last step; zeros if there was none."""
        if self._pending is None:
            return [0] * self.count
        work, agreed = self._pending
        self._pending = None
        work.wait()
        return agreed.tolist()

    def close(self) -> None:
        """Give up the group, without waiting for other processes."""
        self._pending = self.group = None
