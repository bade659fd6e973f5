"""The launcher of a process: torchrun, or the process that Lightning started the others from."""

from __future__ import annotations

import os

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Trainer

from slap.core.launched import PARENT

STARTER = "SLAP_STARTER"
"""Variable with the id of the process that starts others by Lightning; these inherit it."""


class Launcher:
    """The process that started this one and ends it, as far as there is such a process.

    Attributes:
        elastic: whether it is torchrun.
        known: whether there is such a process; the end of another parent, as a shell, means nothing.
        name: the launcher, in words.
    """

    def __init__(self, trainer: Trainer) -> None:
        environment = getattr(trainer.strategy, "cluster_environment", None)
        self.elastic = isinstance(environment, TorchElasticEnvironment)
        self.known = self.elastic
        self.name = f"torchrun, which started rank {trainer.global_rank},"
        if isinstance(environment, LightningEnvironment) and trainer.local_rank:
            self.known = os.environ.get(STARTER) == str(PARENT)
            self.name = f"rank {trainer.global_rank - trainer.local_rank}"

    @property
    def gone(self) -> bool:
        """True if the launcher has ended."""
        return self.known and os.getppid() != PARENT


def announce_starter(trainer: Trainer) -> None:
    """Let the processes that Lightning starts from this one know that it is their launcher."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if isinstance(environment, LightningEnvironment) and trainer.world_size > 1 and not trainer.local_rank:
        os.environ[STARTER] = str(os.getpid())
