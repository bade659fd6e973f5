"""One training step: the weighted sum of the objectives on the views of a batch, and its parts for the logs.

B clips of this process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from slap.core.distributed import all_sum, world_size
from slap.core.errors import UserError, suggest
from slap.model.captioned import SeenBy
from slap.model.contracts import Objective
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
        clips: the number of clips of all processes.
        kept: the model's buffers as they were before the step.
        nonfinite: 0-dimensional bool, whether the step was skipped; None before that is known.
    """

    ids: tuple[str, ...]
    loss: Tensor
    losses: dict[str, Tensor]
    extras: dict[str, Mapping[str, Tensor]]
    by_clip: dict[str, Tensor]
    patches: int
    clips: Tensor
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
        loss, extras[name] = loss_of(name, objective, seen.of(objective))  # type: ignore[arg-type]
        total = total + model.weights[name] * loss
        shares.append(loss.detach())
        noted = views.noted()
        if noted is not None:
            by_clip[name] = noted
    losses = torch.stack([share.to(total.dtype) for share in shares])
    clips = torch.full((1,), len(views.batch), dtype=losses.dtype, device=losses.device)
    if world_size() > 1:
        together = all_sum(torch.cat([losses, clips]))
        losses, clips = together[:-1] / world_size(), together[-1:]
    by_name = dict(zip(model.objectives, losses.unbind(), strict=True))
    loss = torch.zeros_like(losses[0])
    for name, value in by_name.items():
        loss = loss + model.weights[name] * value
    output = StepOutput(views.batch.ids, loss, by_name, extras, by_clip, views.patch_count, clips[0], kept)
    return nan_unless_finite(total), output


@torch.no_grad()
def constrain(model: Network) -> None:
    """Move the parameters of objectives back into their ranges, after an optimizer step."""
    for objective in model.objectives.values():
        assert isinstance(objective, Objective)
        objective.constrain()


def loss_of(name: str, objective: nn.Module, views: Views) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of an objective, a scalar, and its scalars to log.

    Args:
        name: the objective's name, for messages.
        objective: the objective.
        views: the views of a batch.

    Raises:
        ValueError: the objective reads a view that does not exist, or it returns something else than a loss that has a
            gradient.
    """
    try:
        output = objective(views)
    except AttributeError as error:
        if isinstance(error.obj, Views) and error.name:
            valid = sorted(member for member in dir(Views) if not member.startswith("_"))
            raise UserError(
                f"objective {name!r} ({type(objective).__name__}) reads `views.{error.name}`, which does not exist; "
                f"{suggest(error.name, valid)}"
            ) from error
        raise
    loss, extras = output if isinstance(output, tuple) and len(output) == 2 else (output, {})
    fault = _fault(loss, extras)
    if fault:
        raise UserError(
            f"objective {name!r} ({type(objective).__name__}) returned {fault}; its `forward` returns the loss, a "
            "0-dimensional tensor with a gradient, alone or in a tuple with a dict of scalars to log by name"
        )
    return loss, extras


def _fault(loss: Any, extras: Any) -> str:
    """Describe what makes the output of an objective no loss; "" if it is one."""
    if not isinstance(loss, Tensor):
        return f"a {type(loss).__name__}"
    if loss.dim():
        return f"a tensor of shape {tuple(loss.shape)}"
    if not loss.is_floating_point():
        return f"a tensor of {loss.dtype}"
    if not isinstance(extras, dict):
        return f"a loss with a {type(extras).__name__} beside it"
    if torch.is_grad_enabled() and not loss.requires_grad:
        return "a loss without gradient, detached from all parameters"
    return ""
