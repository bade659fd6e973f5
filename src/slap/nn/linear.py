"""Linear layers with prepacked weights, which are faster on a CPU once the weights no longer change.

N rows, D inputs, O outputs.

`torch.nn.functional.linear` multiplies by weights in their plain order in memory. oneDNN, which is part of torch,
multiplies faster by weights that were packed into blocks before. Compiled models do so on a CPU; this module does it
without compiling. benchmarks/encode.py measures it; the results are in docs/log.md.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from slap.nn.chunking import chunking_pays

LARGE = 131_072
"""Least number of weights for which prepacking pays: in smaller layers, the overhead of a call outweighs it."""


class Linear(nn.Linear):
    """`nn.Linear` without bias, which can keep a second copy of its weights, prepacked for the CPU.

    Args:
        inputs: D.
        outputs: O.

    Attributes:
        prepacked: whether to compute from the second copy where possible; see `prepack`.
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
        """Return the second copy. It is made at its first use, and again when the weights were assigned or changed."""
        weight = self.weight.data
        version = None if self.weight.is_inference() else self.weight._version
        now = (weight.data_ptr(), weight.dtype, version)
        if self._copy is None or self._copy[0] != now:
            self._copy = now, torch.ops.mkldnn._reorder_linear_weight(weight)
        return self._copy[1]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the second copy, which belongs to these weights in this memory."""
        return {**self.__dict__, "_copy": None}


def prepack(module: nn.Module) -> None:
    """Let all large linear layers of a module keep a second, prepacked copy of their weights, from their next use on.

    It is used on a CPU in float32 without gradient; everything else is computed as before. It takes the memory of
    these weights once more.

    Args:
        module: a module whose weights no longer change.
    """
    available = torch.backends.mkldnn.is_available()
    for part in module.modules():
        if isinstance(part, Linear):
            part.prepacked = available and part.weight.numel() >= LARGE
