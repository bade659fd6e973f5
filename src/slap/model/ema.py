"""The EMA teacher: frozen copies that follow the modules they were made from (mean teacher, arXiv 1703.01780)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from math import cos, pi
from typing import Any

import torch
from torch import Tensor, nn

from slap.core.errors import UserError
from slap.core.sharded_tensors import local
from slap.nn.precision import FullPrecision


class EMATeacher(FullPrecision):
    """Exponential moving averages of some modules of a model.

    The teacher follows the audio encoder and its pooling; an objective adds its own heads by `track`. It also follows
    the other parts that a model in use has (text encoder, its pooling, objectives that are used after training), so
    that the averages are a whole model. The copies have no gradient, stay in evaluation mode and in at least float32,
    and are saved with the model.

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
        self.copies.append(_frozen(module))
        self._sources += (module,)

    def names(self, model: nn.Module) -> list[str]:
        """Return the names that the followed modules have in their model, in the order of the copies."""
        found = {id(module): name for name, module in model.named_modules()}
        return [found[id(source)] for source in self._sources]

    def refresh(self) -> None:
        """Copy anew the modules that have got other parameters since, e.g. a head for the classes that it learned."""
        for place, (source, copy) in enumerate(zip(self._sources, self.copies, strict=True)):
            if [p.shape for p in source.parameters()] != [p.shape for p in copy.parameters()]:
                self.copies[place] = _frozen(source)

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
    def lend(self) -> None:
        """Give all sources the values of their copies, to evaluate or use the averages."""
        for source, copy in zip(self._sources, self.copies, strict=True):
            here, there = ([*module.parameters(), *module.buffers()] for module in (source, copy))
            for new, old in zip(local(here), local(there), strict=True):
                new.copy_(old)

    @torch.no_grad()
    def reset(self) -> None:
        """Start again from the present values of all sources, e.g. after weights were loaded into them."""
        for source, copy in zip(self._sources, self.copies, strict=True):
            copy.load_state_dict(source.state_dict())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        """Load; copies that are absent, as in checkpoints that averaged the audio side alone, begin at their source.

        A model loads its teacher last, so the sources have their weights already.
        """
        there = {name.removeprefix(f"{prefix}copies.").split(".")[0] for name in state_dict if name.startswith(prefix)}
        for place, source in enumerate(self._sources):
            if there and str(place) not in there:
                state_dict |= {f"{prefix}copies.{place}.{name}": value for name, value in source.state_dict().items()}
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def train(self, mode: bool = True) -> EMATeacher:
        """Stay in evaluation mode even if `mode` is True: a teacher has no dropout and no SpecAugment."""
        del mode
        return super().train(False)


def averaged_state(state: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Return the state of a model with the averages in place of the weights that they follow.

    Args:
        state: of a model with a teacher named `teacher`.
        names: see `EMATeacher.names`.
    """
    averaged = dict(state)
    for place, name in enumerate(names):
        start = f"teacher.copies.{place}."
        own = {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}
        # A tokenizer is learned after the copies are made, and is no average.
        averaged |= {f"{name}.{key}": value for key, value in own.items() if not key.endswith("_extra_state")}
    return averaged


def _frozen(module: nn.Module) -> nn.Module:
    copy = deepcopy(module).requires_grad_(False).eval()
    # Created in a lower precision, it would move in steps that are too small for it.
    return copy._apply(lambda values: values.float() if values.dtype in (torch.bfloat16, torch.float16) else values)


def _move(copies: list[Tensor], sources: list[Tensor], weight: float | Tensor) -> None:
    sources = [source.to(copy.dtype) for source, copy in zip(sources, copies, strict=True)]
    torch._foreach_lerp_(copies, sources, [weight] * len(copies) if isinstance(weight, Tensor) else weight)
