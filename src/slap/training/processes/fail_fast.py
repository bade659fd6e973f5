"""The end of all processes soon after one of them fails, with the first failure as the one that is shown.

A process that fails writes so into the store that the processes share, prints its traceback, and ends. The others
learn of it from a thread that looks into the store each second, so a collective that never returns cannot hold them. A
process that ends waits for the others a few seconds at most, so that they read the reason before the store is gone with
its host.

Each process also counts up a number in the store each second. Where a connection breaks, the process whose number
stands still is the one that was lost. And each process ends when the launcher that started it is gone: nobody would
end it otherwise, and the other launchers would wait for it.

R processes.
"""

from __future__ import annotations

import os
import sys
import traceback
from threading import Event, Lock, Thread
from time import monotonic, sleep
from typing import Any

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch._C._distributed_c10d import PrefixStore

from slap.core.launched import ATTEMPT
from slap.training.processes.launcher import Launcher, announce_starter
from slap.training.processes.signals import TrainingStopped, release_children

FIRST, COUNT, HEARD = "failed/first", "failed/count", "failed/heard"
"""Keys in the store: the rank that failed first and its error; the number that failed; the number that know."""

ALIVE = "alive/{}"
"""Key of a rank in the store: the number that it counts up."""

KILLED = "has ended without a word: it was killed, perhaps for want of memory"

LOOK = 1.0
"""Seconds between looks into the store."""

LINGER = 10.0
"""Seconds for which a process waits at most until the others know."""

LOST = 20.0
"""Seconds without the store after which its host is taken for dead; at the end of a run the host leaves earlier."""


class FailFast(Callback):
    """Ends this process when another one has failed, and the others when this one fails; idle with one process."""

    def __init__(self) -> None:
        self._watch: _WatchThread | None = None

    def watch_launcher(self, trainer: Trainer) -> None:
        """Start to watch the launcher before the processes meet: without it they would wait for each other."""
        announce_starter(trainer)
        if trainer.world_size > 1 and Launcher(trainer).known:
            self._start(trainer)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start to watch the other processes."""
        if trainer.world_size > 1 and self._watch is None:
            self._start(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop watching the other processes."""
        self._end_watch()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Report to the others, and end: cleaning up could wait for them for ever."""
        if trainer.world_size == 1 or isinstance(exception, TrainingStopped | KeyboardInterrupt):
            self._end_watch()
            return
        watch = self._watch or _WatchThread(trainer)
        watch.fail(exception)

    def _start(self, trainer: Trainer) -> None:
        self._watch = _WatchThread(trainer)
        self._watch.start()

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.done.set()
            self._watch = None


class _WatchThread(Thread):
    def __init__(self, trainer: Trainer) -> None:
        super().__init__(daemon=True, name="watch-others")
        self.trainer = trainer
        self.rank, self.size = trainer.global_rank, trainer.world_size
        self.done = Event()
        self._ending = Lock()  # held by the thread that says why this process ends, and ends it
        self._store: Any = None
        self._launcher = Launcher(trainer)
        self._children: list[Any] = []  # processes that this one started
        self._host = "the launcher of the first machine" if self._launcher.elastic else "rank 0"

    def run(self) -> None:
        lost: float | None = None
        while not self.done.wait(LOOK):
            try:
                failed = self._met() and self._look()
                lost = None
            except RuntimeError:  # the connection is gone
                failed, lost = False, lost or monotonic()
            if failed:
                self._end(self._first())
            elif self._launcher.gone:
                self._fail_with(self._launcher.name, KILLED)
            elif lost is not None and monotonic() - lost > LOST:
                self._end(f"{self._host}, which the processes meet at, has ended; its output says why")

    def fail(self, exception: BaseException) -> None:
        """End for a reason of this process's own, unless another process failed first."""
        self._children = release_children(self.trainer)  # or Lightning ends this process before it has said why
        trace = "".join(traceback.format_exception(exception))
        self._met()
        broken = "peer" in str(exception)  # what gloo says of a connection that is gone
        self._fail_with(f"rank {self.rank}", f"failed: {type(exception).__name__}: {exception}", trace, broken)

    def _met(self) -> bool:
        """Return whether the processes have met, in the store that this thread connects to as soon as there is one."""
        if self._store is None:
            self._store = _own_store()
        return self._store is not None

    def _look(self) -> bool:
        """Count up, and return whether a process has failed."""
        self._store.add(ALIVE.format(self.rank), 1)
        return bool(self._store.check([FIRST]))

    def _fail_with(self, who: str, what: str, trace: str = "", broken: bool = False) -> None:
        """End with a reason, unless another process has given one first."""
        try:
            first = self._store is None or self._store.add(COUNT, 1) == 1
            if broken and first:
                who, what = self._silent(), KILLED
            if first and self._store is not None:
                self._store.set(FIRST, f"{who} {what}")
        except RuntimeError:  # the store is gone with its host
            first = not self._ending.locked()
            who, what = (self._host, KILLED) if broken else (who, what)
        if not first:
            self._end(self._first(LINGER))  # the first one may not have said yet why
        self._ending.acquire()
        why = f"failed, so all {self.size} processes end:\n{trace}" if trace else "ends, because "
        why += f"{who} {what}" if broken or not trace else ""
        print(f"[rank {self.rank}] {why}", file=sys.stderr, flush=True)
        self._leave(heard=False)

    def _silent(self) -> str:
        """Return the ranks that have stopped to count, in words."""
        if self._store is None:
            return "another process"
        others = [rank for rank in range(self.size) if rank != self.rank]
        before = [self._store.add(ALIVE.format(rank), 0) for rank in others]
        sleep(3 * LOOK)
        lost = [
            rank for rank, count in zip(others, before, strict=True) if self._store.add(ALIVE.format(rank), 0) == count
        ]
        return f"rank {', '.join(map(str, lost))}" if lost else "another process"

    def _end(self, why: str) -> None:
        self._ending.acquire()
        print(f"[rank {self.rank}] ends, because {why}", file=sys.stderr, flush=True)
        self._leave(heard=True)

    def _leave(self, heard: bool) -> None:
        children = self._children or release_children(self.trainer)
        if self._store is None:  # they would wait for this process, which they have not met yet
            for child in children:
                child.kill()
        try:
            if heard and self._store is not None:
                self._store.add(HEARD, 1)
            until = monotonic() + LINGER
            # Rank 0 is the store's host, and the one that failed may be.
            while self._store is not None and self._store.add(HEARD, 0) < self.size - 1 and monotonic() < until:
                if len(children) == self.size - 1 and all(child.poll() is not None for child in children):
                    break  # no process is left to learn of it
                sleep(LOOK / 5)
            if self.rank == 0:  # the others look once more
                sleep(LOOK)
        except RuntimeError:
            pass  # the host has gone already
        finally:
            sys.stdout.flush()
            os._exit(1)

    def _first(self, patience: float = 0.0) -> str:
        """Return what the process that failed first has said, after some seconds at most."""
        until = monotonic() + patience
        try:
            while self._store is not None and not self._store.check([FIRST]):
                if monotonic() > until:
                    return "another process failed, which has not said why"
                sleep(LOOK / 5)
            return self._store.get(FIRST).decode(errors="replace") if self._store is not None else "another failed"
        except RuntimeError:
            return f"{self._host}, which the processes meet at, has ended"


def _own_store() -> Any:
    """Return a connection of this thread's own to the store that the processes share; None if there is no store."""
    if not (dist.is_available() and dist.is_initialized()):
        return None
    store: Any = dist.distributed_c10d._get_default_store()
    # torchrun starts processes anew around the same store, which still has the keys of those before.
    return PrefixStore(f"slap/{os.environ.get(ATTEMPT, 0)}", store.clone())
