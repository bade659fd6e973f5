"""What all processes decide together at a step, without waiting for each other.

R processes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist


class Consensus:
    """The elementwise maximum, over processes, of a few whole numbers; each process gives its own at every step.

    The exchange of a step is collected at the next one, when it is long done, so it costs no time, and every process
    gets the same answer at the same step. It goes over a group of its own on the CPU: a GPU is not asked, and
    nothing waits for it.

    Args:
        count: of numbers.

    Attributes:
        group: all processes, on the CPU; None if there is one.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.group: Any = None
        self._pending: tuple[Any, torch.Tensor] | None = None

    def open(self) -> None:
        """Meet; every process must call it, in the same order with whatever else it exchanges."""
        if self.group is None and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            self.group = dist.new_group(backend="gloo")

    def exchange(self, numbers: list[int]) -> list[int]:
        """Give the numbers of this step; get what was agreed on at the step before, at first zeros.

        With one process they are agreed on at once.
        """
        if self.group is None:
            return numbers
        agreed = self.collect()
        mine = torch.tensor(numbers, dtype=torch.int64)
        self._pending = dist.all_reduce(mine, dist.ReduceOp.MAX, self.group, async_op=True), mine
        return agreed

    def collect(self) -> list[int]:
        """What was agreed on at the last step; zeros if there was none."""
        if self._pending is None:
            return [0] * self.count
        work, agreed = self._pending
        self._pending = None
        work.wait()
        return agreed.tolist()

    def close(self) -> None:
        """Part, without waiting for anybody."""
        self._pending = self.group = None
