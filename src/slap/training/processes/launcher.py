"""The launcher of a process: torchrun, or the process that Lightning started the others from."""

from __future__ import annotations

import os
import socket
from typing import Any

from lightning.fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch import Trainer

PROCESS = "process/{}"
"""Key of a rank in the store: its machine and process id."""


class Launcher:
    """The process that started this one and ends it, as far as there is such a process.

    Attributes:
        environment: Lightning's description of the launcher.
        name: the launcher, in words.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.environment = getattr(trainer.strategy, "cluster_environment", None)
        self._parent = os.getppid()
        # Of other parents, as a shell that a user has left, the end means nothing.
        self._known = isinstance(self.environment, TorchElasticEnvironment)
        self.name = f"torchrun, which started rank {trainer.global_rank},"
        self._starter: int | None = None
        self._me = PROCESS.format(trainer.global_rank)
        self._here = f"{socket.gethostname()} {os.getpid()}"
        if isinstance(self.environment, LightningEnvironment) and trainer.local_rank:
            self._starter = trainer.global_rank - trainer.local_rank
            self.name = f"rank {self._starter}"

    def learn(self, store: Any) -> None:
        """Find out whether the first process of this machine has started this one."""
        if self._me:
            store.set(self._me, self._here)
            self._me = ""
        if self._starter is not None and store.check([PROCESS.format(self._starter)]):
            starter = store.get(PROCESS.format(self._starter)).decode()
            self._known = starter == f"{socket.gethostname()} {self._parent}"
            self._starter = None

    @property
    def gone(self) -> bool:
        """True if the launcher has ended."""
        return self._known and os.getppid() != self._parent
