"""Several generators run side by side in threads, with a bound on what they make ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


def interleave(sources: Iterable[Callable[[], Iterator[T]]], workers: int, ahead: int) -> Iterator[T]:
    """All that the sources give; the items of one source come in order, those of different ones mixed.

    Reading audio is slow and releases Python's lock, so threads keep the model busy. At most `ahead` items wait.

    Args:
        sources: each is called in a thread and iterated there.
        workers: threads.
        ahead: items that may wait.

    Raises:
        Exception: the first one that a source raises.
    """
    items: queue.Queue[T | _Done] = queue.Queue(ahead)
    stopped = threading.Event()
    tasks, lock = iter(sources), threading.Lock()

    def put(item: T | _Done) -> None:
        waiting = True
        while waiting and not stopped.is_set():
            with suppress(queue.Full):
                items.put(item, timeout=0.1)
                waiting = False

    def work() -> None:
        error: BaseException | None = None
        try:
            while not stopped.is_set():
                with lock:
                    source = next(tasks, None)
                if source is None:
                    break
                for item in source():
                    put(item)
                    if stopped.is_set():
                        return
        except BaseException as raised:
            error = raised
        put(_Done(error))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        yield from _until_done(items, workers)
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


class _Done:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def _until_done(items: queue.Queue[T | _Done], workers: int) -> Iterator[T]:
    while workers:
        item = items.get()
        if not isinstance(item, _Done):
            yield item
            continue
        workers -= 1
        if item.error is not None:
            raise item.error
