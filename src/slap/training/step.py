"""One training step: the weighted sum of the objectives on the views of a batch, and its parts for the logs.

B clips of this process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.optim import Optimizer

from slap.core.distributed import all_sum, world_size
from slap.model.captioned import SeenBy
from slap.model.network import Network
from slap.model.views import Views
from slap.training.nonfinite import BufferSnapshot, nan_unless_finite, skip_step


@dataclass(eq=False)
class StepOutput:
    """The results of one training step. None of them has a gradient.

    Attributes:
        ids: the ids of the B clips.
        loss: the weighted sum, the same on every process.
        losses: the loss of each objective, by its name, the same on every process.
        extras: by objective, the other numbers that it gave to log.
        by_clip: the loss of each clip, (B,), by objectives that note it; NaN where a clip has none.
        patches: the number of patches that the audio encoder made.
        kept: the model's buffers as they were before the step.
        nonfinite: 0-dimensional bool, whether the step was skipped; None before that is known.
    """

    ids: tuple[str, ...]
    loss: Tensor
    losses: dict[str, Tensor]
    extras: dict[str, Mapping[str, Tensor]]
    by_clip: dict[str, Tensor]
    patches: int
    kept: BufferSnapshot
    nonfinite: Tensor | None = field(default=None)

    def skip_unless_finite(self, optimizer: Optimizer, norm: Tensor) -> None:
        """Make the step change nothing at all unless the norm of the gradient is finite; it is the same everywhere."""
        self.nonfinite = ~norm.isfinite()
        skip_step(optimizer, self.nonfinite)
        self.kept.restore(self.nonfinite)


@runtime_checkable
class KeepsLastStep(Protocol):
    """A module that keeps the output of its last training step, for the callbacks that watch a run."""

    last_step: StepOutput | None


def last_step_of(module: object) -> StepOutput | None:
    """Return the output of a module's last training step; None before the first, and where a module keeps none."""
    return module.last_step if isinstance(module, KeepsLastStep) else None


def compute(model: Network, views: Views) -> tuple[Tensor, StepOutput]:
    """Return the loss of this process, with its gradient, and the results of the step.

    The average of the losses over processes is the loss of the joined batch. If it is not finite on one process, no
    process gets a finite gradient, see `slap.training.nonfinite`.
    """
    kept = BufferSnapshot(model, ("teacher",))
    total = torch.zeros((), device=views.batch.clip.device)
    shares: list[Tensor] = []
    extras: dict[str, Mapping[str, Tensor]] = {}
    by_clip: dict[str, Tensor] = {}
    seen = SeenBy(views)
    for name, objective in model.objectives.items():
        loss, extras[name] = _with_extras(objective(seen.of(objective)))  # type: ignore[arg-type]
        total = total + model.weights[name] * loss
        shares.append(loss.detach())
        noted = views.noted()
        if noted is not None:
            by_clip[name] = noted
    losses = torch.stack([share.to(total.dtype) for share in shares])
    if world_size() > 1:
        losses = all_sum(losses) / world_size()
    by_name = dict(zip(model.objectives, losses.unbind(), strict=True))
    loss = torch.zeros_like(losses[0])
    for name, value in by_name.items():
        loss = loss + model.weights[name] * value
    output = StepOutput(views.batch.ids, loss, by_name, extras, by_clip, views.patch_count, kept)
    return nan_unless_finite(total), output


def _with_extras(output: Tensor | tuple[Tensor, dict[str, Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
    return output if isinstance(output, tuple) else (output, {})
