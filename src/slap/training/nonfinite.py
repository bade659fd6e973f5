"""Steps whose loss or gradient is not finite: every process skips them alike, and nothing changes.

The processes agree without an exchange of their own. A loss that is not finite makes the gradient of its process NaN
(`nan_unless_finite`), the strategy adds up gradients over processes as always, and so the norm of the gradient, which
clipping needs anyway, is not finite on any process. On a GPU the host does not wait for that norm: the fused optimizer
and the teacher read on the device whether they change anything.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def nan_unless_finite(loss: Tensor) -> Tensor:
    """Return a loss, a scalar, whose whole gradient is NaN if the loss is not finite.

    A loss may be infinite, or NaN for one clip of many, and still have a gradient that looks sound.
    """
    return loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan)


def skip_step(optimizer: Optimizer, bad: Tensor) -> None:
    """Make the optimizer's next step change neither parameters nor its own state, if `bad`.

    Args:
        optimizer: a fused one reads a flag on its device, any other finds no gradients.
        bad: 0-dimensional bool.
    """
    if optimizer.defaults.get("fused"):
        optimizer.found_inf = bad.float()  # type: ignore[attr-defined]  # where torch's fused optimizers look
    elif bad:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None


class BufferSnapshot:
    """A copy of the buffers that a forward pass may change in a model: running statistics and centers.

    Args:
        model: the model whose persistent buffers are copied, but for those of the modules in `but`.
        but: names of child modules whose buffers do not change before the optimizer's step.
    """

    def __init__(self, model: nn.Module, but: tuple[str, ...] = ()) -> None:
        self._copies = [(buffer, buffer.clone()) for buffer in _persistent(model, but)]

    @torch.no_grad()
    def restore(self, bad: Tensor) -> None:
        """Undo the changes, if `bad`, 0-dimensional bool."""
        for buffer, before in self._copies:
            buffer.copy_(torch.where(bad, before, buffer))


def _persistent(model: nn.Module, but: tuple[str, ...]) -> Iterator[Tensor]:
    for name, module in model.named_modules():
        if name.split(".")[0] in but:
            continue
        for own, buffer in module._buffers.items():
            if buffer is not None and own not in module._non_persistent_buffers_set:
                yield buffer
