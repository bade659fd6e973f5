"""Linear layers that a CPU computes as fast as it can, once their weights do not change any more.

N rows, D inputs, O outputs.

`torch.nn.functional.linear` multiplies by weights as they lie in memory. oneDNN, which is part of torch, multiplies
faster by weights that it has laid out in blocks before; that is what compiled models do on a CPU, and here it is done
without compiling. Measured by benchmarks/encode.py; figures in docs/log.md.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from slap.nn.chunking import chunking_pays

LARGE = 131_072
"""Weights of a layer from which on laying them out pays: below, what a call costs weighs more."""


class Linear(nn.Linear):
    """`nn.Linear` without bias, which can keep its weights a second time, laid out for the CPU.

    Args:
        inputs: D.
        outputs: O.

    Attributes:
        prepacked: compute from the second copy where that is possible; see `prepack`.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.prepacked = False
        self._copy: tuple[tuple[Any, ...], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., O)."""
        single = x.dtype == self.weight.dtype == torch.float32
        if self.prepacked and single and chunking_pays(x) and not torch.is_autocast_enabled("cpu"):
            return torch.ops.mkldnn._linear_pointwise(x, self._blocks(), None, "none", [], "")
        return linear(x, self.weight)

    def _blocks(self) -> Tensor:
        """The second copy, made at its first use and when the weights are others: by assignment, or in place."""
        weight = self.weight.data
        version = None if self.weight.is_inference() else self.weight._version
        now = (weight.data_ptr(), weight.dtype, version)
        if self._copy is None or self._copy[0] != now:
            self._copy = now, torch.ops.mkldnn._reorder_linear_weight(weight)
        return self._copy[1]

    def __getstate__(self) -> dict[str, Any]:
        """Without the second copy, which belongs to these very weights."""
        return {**self.__dict__, "_copy": None}


def prepack(module: nn.Module) -> None:
    """Have all large linear layers of a module keep their weights a second time, from their next use on a CPU on.

    For float32 without gradient; anything else is computed as before. Costs the memory of these weights once more.

    Args:
        module: whose weights do not change any more.
    """
    there = torch.backends.mkldnn.is_available()
    for part in module.modules():
        if isinstance(part, Linear):
            part.prepacked = there and part.weight.numel() >= LARGE
