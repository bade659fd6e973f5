"""Logging of the training step: losses, weights, gradient norm, learning rate, and losses by source of the clips.

B clips, S sources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from slap.core.distributed import all_sum
from slap.core.errors import UserError
from slap.training.lightning_network import LightningNetwork
from slap.training.step import StepOutput


class LossLogger:
    """Logs each step, and adds up the losses of clips by objective and source until a row of the logs is due.

    The tensor that processes exchange has one size, whatever the batches hold, so none waits for another.

    Args:
        objectives: their names.
        sources: the names of the sources of training clips; none if clips have no sources, and then no losses of clips
            are kept.
    """

    def __init__(self, objectives: Sequence[str], sources: Sequence[str] = ()) -> None:
        self.objectives, self.sources = tuple(objectives), tuple(sources)
        self._sums: Tensor | None = None  # (objectives, S, 2): sum and number of losses

    def log_step(self, module: LightningNetwork, output: StepOutput, source: Tensor) -> None:
        """Log the losses of a step, their weights and what else the objectives gave, and add up losses by source.

        Args:
            module: logs.
            output: of the step.
            source: (B,) int64, the source of each clip.
        """
        for name, losses in output.by_clip.items():
            self.add(name, losses, source)
        clips = max(len(output.ids), 1)
        for name, loss in output.losses.items():
            module.log(f"train/{name}", loss, batch_size=clips)
            module.log(f"train/weight/{name}", _on_device(module, module.weights[name]), batch_size=clips)
            for extra, value in output.extras[name].items():
                module.log(f"train/{name}/{extra}", value.detach(), batch_size=clips)
        module.log("train/clips", output.clips.float(), batch_size=1)  # of all processes: what a step learns from
        # Lightning reads back what is for its progress bar at every step, drawn or not; for GPUs see
        # `slap.training.callbacks.progress_bar`.
        module.log("train/loss", output.loss, prog_bar=module.device.type == "cpu", batch_size=clips)

    def log_gradient(self, module: LightningNetwork, norm: Tensor, optimizer: Optimizer) -> None:
        """Log the norm of the gradient before it is clipped, and the learning rate, the highest of all groups."""
        module.log("train/grad_norm", norm)
        module.log("train/lr", _on_device(module, max(group["lr"] for group in optimizer.param_groups)))

    def log_sources(self, module: LightningNetwork) -> None:
        """Log the mean losses by source since the last row, if a row of the logs is due."""
        trainer: Any = module.trainer
        if (trainer.global_step + 1) % max(trainer.log_every_n_steps, 1) == 0:
            module.log_dict({f"train/{name}": mean for name, mean in self.take(module.device).items()})

    def add(self, objective: str, losses: Tensor, source: Tensor) -> None:
        """Add up the losses of a batch.

        Args:
            objective: its name.
            losses: (B,) the loss of each clip, NaN where a clip has none.
            source: (B,) int64, the source of each clip.

        Raises:
            ValueError: the losses are not one per clip.
        """
        if not self.sources:
            return
        if losses.shape != source.shape:
            raise UserError(
                f"objective {objective!r} noted losses of shape {tuple(losses.shape)} for {len(source)} clips; "
                "it must be one for each clip"
            )
        if self._sums is None:
            self._sums = self._zeros(losses.device)
        self._sums = self._sums.to(losses.device)
        rows = torch.stack([losses.nan_to_num(0.0), ~losses.isnan()], 1).double()
        self._sums[self.objectives.index(objective)].index_add_(0, source, rows)

    def take(self, device: torch.device) -> dict[str, Tensor]:
        """Return the means over all processes since the last time, by `<objective>/<source>`, and begin anew.

        Every process must call it at the same step.

        Args:
            device: the device on which processes exchange tensors.
        """
        if not self.sources:
            return {}
        sums = self._zeros(device) if self._sums is None else self._sums.to(device)
        self._sums = None
        total = all_sum(sums).cpu()
        return {
            f"{objective}/{source}": (total[i, j, 0] / total[i, j, 1]).float()
            for i, objective in enumerate(self.objectives)
            for j, source in enumerate(self.sources)
            if total[i, j, 1]
        }

    def rank_state(self) -> dict[str, Any]:
        """Return the sums of this process so far, for a checkpoint."""
        return {"sums": self._sums}

    def load_rank_state(self, state: Mapping[str, Any]) -> None:
        """Continue from these sums."""
        self._sums = state["sums"]

    def _zeros(self, device: torch.device) -> Tensor:
        return torch.zeros(len(self.objectives), len(self.sources), 2, dtype=torch.float64, device=device)


def _on_device(module: LightningNetwork, value: float) -> Tensor:
    """Write a number on the device: a copy from the host would wait for what the GPU is doing."""
    return torch.full((), value, device=module.device)
