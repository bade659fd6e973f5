"""Times that can be compared: what is compared takes turns, in one process, and the best matrix multiplication with it.

A machine that does other things makes some turns slow, so the median over the turns is taken. With one thread,
`clock="processor"` counts the time that the process computed, which others change little.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

SIDE = 2048
"""Of the square matrices that show what the machine can do."""

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}


@dataclass
class Turns:
    """Functions that take turns.

    Attributes:
        clock: of `CLOCKS`.
        seconds: by name, what each turn took.
    """

    clock: str = "wall"
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def take(self, name: str, function: Callable[[], Any]) -> Any:
        """Measure one call, and return the result of the function."""
        now = CLOCKS[self.clock]
        begun = now()
        result = function()
        self.seconds.setdefault(name, []).append(now() - begun)
        return result

    def median(self, name: str) -> float:
        """Seconds of the usual turn."""
        return statistics.median(self.seconds[name])

    def total(self, name: str) -> float:
        """Seconds of all turns together."""
        return sum(self.seconds[name])


class Matmul:
    """Multiplication of square matrices, which shows what the machine can do at best.

    Args:
        dtype: of the matrices.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.name = f"matmul {str(dtype).removeprefix('torch.')}"
        self._a, self._b = (torch.randn(SIDE, SIDE).to(dtype) for _ in range(2))

    def turn(self, turns: Turns, times: int = 5) -> None:
        """Measure several functions, one call each."""
        for _ in range(times):
            turns.take(self.name, self)

    def rate(self, turns: Turns) -> float:
        """Floating-point operations a second."""
        return 2 * SIDE**3 / turns.median(self.name)

    def __call__(self) -> Tensor:
        """Run one multiplication."""
        return self._a @ self._b


def peak_megabytes() -> float:
    """Return the peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
