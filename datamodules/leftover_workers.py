"""Ends loading processes that a run which failed leaves behind; importing this module arranges it.

A run that fails, for instance because one of its loading processes was killed, keeps the others in the traceback of the
error. On the way out Python sends them one SIGTERM and waits for them for ever, though a loading process may outlive
SIGTERM: it often reaches all processes of a group, and the step that is being made may need more batches. They hold
nothing to lose, so they are killed.
"""

from __future__ import annotations

import atexit
import signal
from multiprocessing import active_children, util  # util: what is registered after it runs before it

assert util


def kill_orphans() -> None:
    """Kill the daemonic children of this process."""
    workers = [child for child in active_children() if child.daemon]
    if workers:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would complain of each that ends
    for worker in workers:
        worker.kill()


atexit.register(kill_orphans)
