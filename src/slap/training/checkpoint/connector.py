"""The choice of the checkpoint that a training continues from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector
from lightning.pytorch.trainer.states import TrainerFn

from slap.core.checkpoint_file import newest_good
from slap.training.checkpoint.run_lock import job
from slap.training.checkpoint.run_record import RunRecord


class CheckpointConnector(_CheckpointConnector):
    """Lightning's choice of a checkpoint, which on SLURM takes none of another job.

    Lightning takes up any `hpc_ckpt_N.ckpt` in the folder where no checkpoint is named, also one of a run that is to be
    replaced, and also when newer checkpoints lie beside it.

    Attributes:
        asked: the checkpoint of the present command; None without one.
    """

    asked: Any = None

    @classmethod
    def put_into(cls, trainer: Trainer) -> None:
        """Replace a trainer's connector before it runs."""
        trainer._checkpoint_connector = cls(trainer)

    def _select_ckpt_path(self, *args: Any, **kwargs: Any) -> Any:
        self.asked = super()._select_ckpt_path(*args, **kwargs)
        return self.asked

    @property
    def _hpc_resume_path(self) -> str | None:
        """The newest checkpoint of a run whose job was requeued, where this is the same job."""
        if self.trainer.state.fn != TrainerFn.FITTING or super()._hpc_resume_path is None:
            return None
        folder, mine = Path(self.trainer.default_root_dir), job()
        record = RunRecord.of(folder)
        if record is None or mine is None or record.job != mine[0]:
            return None
        newest = newest_good(folder)
        return None if newest is None else str(newest)


def asked_checkpoint(trainer: Trainer) -> Any:
    """Return the checkpoint from which a trainer's present command continues, before it is loaded; None without one."""
    connector = trainer._checkpoint_connector
    return connector.asked if isinstance(connector, CheckpointConnector) else trainer.ckpt_path
