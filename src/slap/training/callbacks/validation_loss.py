"""Losses of the objectives on the validation clips, for runs whose best checkpoint is selected by one of them.

B clips of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from slap.core.batch import Batch
from slap.model.captioned import SeenBy
from slap.model.network import Network
from slap.model.views import Views
from slap.training.step import loss_of


class ValidationLoss(Callback):
    """Logs `val/<objective>`, the mean loss of each objective over the validation clips.

    A loss that compares the clips of a batch, as the contrastive one, depends on the size of batches; a loss of single
    clips, as of captioning, does not. Each batch counts by its number of clips. This takes another pass of the
    encoders.
    """

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._clips = 0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self._sums, self._clips = {}, 0

    @torch.no_grad()
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Compute the losses of one batch."""
        assert isinstance(pl_module, Network)
        seen = SeenBy(Views(pl_module, batch))
        for name, objective in pl_module.objectives.items():
            loss, _ = loss_of(name, objective, seen.of(objective))  # type: ignore[arg-type]
            self._sums[name] = self._sums.get(name, 0.0) + float(loss) * len(batch)
        self._clips += len(batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means over all processes, each of whose losses is a share of the whole."""
        means: Mapping[str, float] = {name: total / max(self._clips, 1) for name, total in self._sums.items()}
        pl_module.log_dict({f"val/{name}": value for name, value in means.items()}, sync_dist=True)
