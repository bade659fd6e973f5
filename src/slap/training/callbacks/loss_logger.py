"""The losses of each objective by the source of the clips, for the logs.

B clips, S sources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from slap.core.distributed import all_sum


class SourceLosses:
    """Adds up the losses of clips by objective and source until they are asked for.

    What the processes exchange has one size, whatever the batches hold, so none waits for another.

    Args:
        objectives: their names.
        sources: their names; none if clips have no sources to tell apart, and then nothing is kept.
    """

    def __init__(self, objectives: Sequence[str], sources: Sequence[str]) -> None:
        self.objectives, self.sources = tuple(objectives), tuple(sources)
        self._sums: Tensor | None = None  # (objectives, S, 2): sum and number of losses

    def add(self, objective: str, losses: Tensor | None, source: Tensor) -> None:
        """Take note of a batch.

        Args:
            objective: its name.
            losses: (B,) the loss of each clip, NaN where a clip has none; None if the objective does not tell.
            source: (B,) int64, the source of each clip.

        Raises:
            ValueError: not one loss a clip.
        """
        if not self.sources or losses is None:
            return
        if losses.shape != source.shape:
            raise ValueError(
                f"objective {objective!r} noted losses of shape {tuple(losses.shape)} for {len(source)} clips; "
                "it must be one for each clip"
            )
        if self._sums is None:
            shape = len(self.objectives), len(self.sources), 2
            self._sums = torch.zeros(shape, dtype=torch.float64, device=losses.device)
        self._sums = self._sums.to(losses.device)
        told = ~losses.isnan()
        rows = torch.stack([losses.nan_to_num(0.0), told], 1).double()
        self._sums[self.objectives.index(objective)].index_add_(0, source, rows)

    def rank_state(self) -> dict[str, Any]:
        """The sums of this process so far, for a checkpoint."""
        return {"sums": self._sums}

    def load_rank_state(self, state: Mapping[str, Any]) -> None:
        """Go on from these."""
        self._sums = state["sums"]

    def take(self, device: torch.device) -> dict[str, Tensor]:
        """The means over all processes since the last time, by `<objective>/<source>`, and begin anew.

        Every process must call it at the same step.

        Args:
            device: that processes exchange tensors on.
        """
        if not self.sources:
            return {}
        shape = len(self.objectives), len(self.sources), 2
        sums = torch.zeros(shape, dtype=torch.float64, device=device) if self._sums is None else self._sums.to(device)
        self._sums = None
        total = all_sum(sums).cpu()
        return {
            f"{objective}/{source}": (total[i, j, 0] / total[i, j, 1]).float()
            for i, objective in enumerate(self.objectives)
            for j, source in enumerate(self.sources)
            if total[i, j, 1]
        }
