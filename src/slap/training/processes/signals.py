"""Signals that ask a training to end, which are noted at once and obeyed at the end of a step."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector


class Signals(_SignalConnector):
    """A replacement of Lightning's handling, which exchanges tensors within the handler and so can wait for ever.

    SIGTERM and SIGINT, and on SLURM with automatic requeueing also its requeue signal (USR1), are noted. A SIGINT after
    any of them interrupts at once. Other handlers of the requeue signal are left in their place.

    Attributes:
        received: the number of the first signal, 0 if there was none.
    """

    def __init__(self, trainer: Trainer) -> None:
        super().__init__(trainer)
        self.received = 0
        self._replaced: dict[int, object] = {}

    def register_signal_handlers(self) -> None:
        """Install the handlers; Lightning calls this before the first step."""
        if threading.current_thread() is not threading.main_thread():
            return  # where Python delivers no signals
        for number in (signal.SIGTERM, signal.SIGINT, *self._requeue()):
            self._replaced[number] = signal.signal(number, self._note)

    def teardown(self) -> None:
        """Put back the handlers that were there before."""
        for number, handler in self._replaced.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._replaced.clear()

    def requeue(self) -> None:
        """Save the checkpoint that Lightning looks for on SLURM, and ask for the job to be run again."""
        self._slurm_sigusr_handler_fn(self.received, None)  # type: ignore[arg-type]

    @property
    def wants_requeue(self) -> bool:
        """True if the signal was SLURM's announcement that the job's time is up."""
        return self.received in self._requeue()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received:
            signal.default_int_handler(number, frame)
        self.received = self.received or number

    def _requeue(self) -> tuple[int, ...]:
        environment = self.trainer._accelerator_connector.cluster_environment
        if not isinstance(environment, SLURMEnvironment) or not environment.auto_requeue:
            return ()
        number = environment.requeue_signal or signal.SIGUSR1
        taken = signal.getsignal(number) not in (None, signal.SIG_DFL, self._note)
        return () if taken else (int(number),)


class TrainingStopped(SystemExit):
    """The end of a training by a signal; its exit code is the one that shells give programs that a signal ended.

    Args:
        number: the number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


def release_children(trainer: Trainer) -> list[Any]:
    """Return the processes that this one launched; from now on it is not killed when one of them fails."""
    procs = getattr(trainer.strategy.launcher, "procs", [])
    children = [*procs]
    procs.clear()  # the observer's own list
    return children
