"""What exists before loading processes start stays shared with them: the garbage collector leaves it alone.

A forked process shares the memory of its parent until one of them writes to it, and Python's collector writes to every
object that it looks at. So the first full collection of each process would copy all objects: for training with its
libraries about 110 MB a process, suddenly, after an hour or a day.

Full collections are also rare with so many objects, since Python puts them off until a quarter as many are new; until
then whatever refers to itself lies about. Those of what came later are frequent and quick.
"""

from __future__ import annotations

import gc


def freeze_gc() -> None:
    """Let the collector forget all objects that there are, after it has taken what is garbage."""
    gc.collect()
    gc.freeze()
    gc.collect()  # so that it counts few objects, not many, when it decides whether to look at all of them


def unfreeze_gc() -> None:
    """Have it look after them again."""
    gc.unfreeze()
