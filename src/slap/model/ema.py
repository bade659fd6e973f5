"""The EMA teacher: frozen copies that follow the modules they were made from (mean teacher, arXiv 1703.01780)."""

from __future__ import annotations

from copy import deepcopy
from math import cos, pi

import torch
from torch import Tensor, nn

from slap.core.errors import UserError
from slap.core.sharded_tensors import local


class EMATeacher(nn.Module):
    """Exponential moving averages of some modules of a model.

    The teacher follows the audio encoder and its pooling; an objective adds its own heads by `track`. The copies have
    no gradient, stay in evaluation mode and are saved with the model.

    Args:
        momentum: its value at the start and at the end of training; cosine schedule in between (the paper: 0.994 to 1).
    """

    def __init__(self, momentum: tuple[float, float] = (0.994, 1.0)) -> None:
        super().__init__()
        if not 0 <= momentum[0] <= momentum[1] <= 1:
            raise UserError(f"momentum must rise from its first to its second value within 0 to 1, got {momentum}")
        self.first, self.last = momentum
        self.copies = nn.ModuleList()
        # In a tuple, so that the sources stay the model's alone: registered here too, they would be saved twice.
        self._sources: tuple[nn.Module, ...] = ()

    def track(self, module: nn.Module) -> None:
        """Follow one more module, starting from its present values."""
        self.copies.append(deepcopy(module).requires_grad_(False).eval())
        self._sources += (module,)

    def copy_of(self, module: nn.Module) -> nn.Module:
        """Return the copy that follows a module.

        Raises:
            KeyError: the teacher does not follow it.
        """
        for source, copy in zip(self._sources, self.copies, strict=True):
            if source is module:
                return copy
        raise KeyError(f"the teacher does not follow this {type(module).__name__}: call `model.teacher.track` in setup")

    def momentum(self, progress: float) -> float:
        """Return the share of the old average that is kept, at a progress of training from 0 to 1."""
        return self.last - (self.last - self.first) * (1 + cos(pi * min(max(progress, 0.0), 1.0))) / 2

    @torch.no_grad()
    def update(self, progress: float, bad: Tensor | None = None) -> None:
        """Move all copies towards their sources; call it once after each optimizer step.

        Args:
            progress: of training, from 0 to 1.
            bad: 0-dimensional bool, True where the optimizer skipped its step; then the copies stay as they are. The
                host does not wait for its value on a GPU.
        """
        weight: float | Tensor = 1 - self.momentum(progress)
        if bad is not None and bad.device.type != "cpu":
            weight = weight * ~bad
        elif bad is not None and bad:
            return
        for source, copy in zip(self._sources, self.copies, strict=True):
            # Where processes hold parts of both, the average of the parts is the part of the average.
            _move(local(copy.parameters()), local(p.detach() for p in source.parameters()), weight)
            for old, new in zip(copy.buffers(), source.buffers(), strict=True):
                old.copy_(new)

    @torch.no_grad()
    def reset(self) -> None:
        """Start again from the present values of all sources, e.g. after weights were loaded into them."""
        for source, copy in zip(self._sources, self.copies, strict=True):
            copy.load_state_dict(source.state_dict())

    def train(self, mode: bool = True) -> EMATeacher:
        """Stay in evaluation mode even if `mode` is True: a teacher has no dropout and no SpecAugment."""
        del mode
        return super().train(False)


def _move(copies: list[Tensor], sources: list[Tensor], weight: float | Tensor) -> None:
    torch._foreach_lerp_(copies, sources, [weight] * len(copies) if isinstance(weight, Tensor) else weight)
