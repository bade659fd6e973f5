"""Loading processes: memory that they share with the main process, and their end.

A forked process shares the memory of its parent until one of them writes to it, and Python's garbage collector writes
to every object that it looks at. So the first full collection of each process would copy all objects: for training with
its libraries about 110 MB per process, suddenly, after an hour or a day. Hence `freeze_gc`. Full collections are also
rare with so many objects, since Python delays them until a quarter as many are new, and until then cycles stay in
memory; collections of later objects alone are frequent and quick.

A run that fails, for instance because one of its loading processes was killed, keeps the others in the traceback of the
error. At its exit Python sends them one SIGTERM and waits for them for ever, though a loading process may outlive
SIGTERM: it often reaches all processes of a group, and the current step may need more batches. They hold nothing that
could be lost, so importing this module arranges that `kill_orphans` ends them.
"""

from __future__ import annotations

import atexit
import gc
import signal
from multiprocessing import active_children, util  # util: what is registered after it runs before it

assert util


def freeze_gc() -> None:
    """Let the collector forget all objects that there are, after it has collected the garbage."""
    gc.collect()
    gc.freeze()
    gc.collect()  # so that it counts few objects, not many, when it decides whether to look at all of them


def unfreeze_gc() -> None:
    """Let the collector look after these objects again."""
    gc.unfreeze()


def kill_orphans() -> None:
    """Kill the daemonic children of this process."""
    workers = [child for child in active_children() if child.daemon]
    if workers:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would complain of each that ends
    for worker in workers:
        worker.kill()


atexit.register(kill_orphans)
