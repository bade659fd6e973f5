"""Numbers on their way from the device to the host, read when reading them takes no waiting."""

from __future__ import annotations

from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class AsyncScalars(Generic[T]):
    """A queue of numbers that are copied to the host: from a CPU at once, from a GPU by the next call.

    By then the copy has long been made. So a GPU always has the work of a step ahead, and all processes get a number at
    the same step.
    """

    def __init__(self) -> None:
        self._waiting: tuple[Tensor, torch.cuda.Event, T] | None = None

    def put(self, values: Tensor, note: T) -> list[tuple[list[float], T]]:
        """Send numbers to the host.

        Args:
            values: (n,).
            note: returned along with them.

        Returns:
            The numbers and notes that have arrived, in the order in which they were put in.
        """
        arrived = self.flush()
        if values.device.type != "cuda":
            return [*arrived, (values.tolist(), note)]
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._waiting = host, event, note
        return arrived

    def flush(self) -> list[tuple[list[float], T]]:
        """Wait for the numbers that are still on their way, and return them."""
        if self._waiting is None:
            return []
        host, event, note = self._waiting
        self._waiting = None
        event.synchronize()
        return [(host.tolist(), note)]
