"""Modules that stay in full precision when the model around them is cast to a lower one, as by `bf16-true`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class FullPrecision(nn.Module):
    """Base of modules whose parameters and buffers keep at least their precision: `to` moves them, but rounds nothing.

    A moving average, or a scalar that learns in small steps, would stand still in bfloat16: a step below 1/256 of a
    value is rounded away.

    Example:
        >>> import torch
        >>> class Kept(FullPrecision):
        ...     def __init__(self) -> None:
        ...         super().__init__()
        ...         self.weight = nn.Parameter(torch.ones(1))
        >>> nn.ModuleList([Kept(), nn.Linear(1, 1)]).bfloat16()[0].weight.dtype
        torch.float32
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        def kept(tensor: Tensor) -> Tensor:
            changed = fn(tensor)
            if not tensor.is_floating_point() or changed.element_size() >= tensor.element_size():
                return changed
            return tensor.to(changed.device)

        # Children are cast one by one, so each is wrapped: the method of this class would not be asked.
        for module in self.modules() if recurse else [self]:
            nn.Module._apply(module, kept, recurse=False)
        return self
