"""Numbers on their way from the device to the host, read when reading them makes nobody wait."""

from __future__ import annotations

from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class AsyncScalars(Generic[T]):
    """Hands out what was put in: at once from a CPU, and from a GPU with the next call, when the copy is long done.

    So a GPU always has a step's work ahead, and all processes learn of a number at the same step.
    """

    def __init__(self) -> None:
        self._waiting: tuple[Tensor, torch.cuda.Event, T] | None = None

    def put(self, values: Tensor, note: T) -> list[tuple[list[float], T]]:
        """Send numbers to the host.

        Args:
            values: (n,).
            note: comes out along with them.

        Returns:
            What has arrived, in the order in which it was put in.
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
        """What is still on its way; waits for it."""
        if self._waiting is None:
            return []
        host, event, note = self._waiting
        self._waiting = None
        event.synchronize()
        return [(host.tolist(), note)]
