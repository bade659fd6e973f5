"""Iterators that run ahead in threads: their items come in order, and a bounded amount of them waits.

Decoding audio releases Python's lock, so a few threads keep the model busy.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


def read_ahead(
    sources: Sequence[Callable[[], Iterator[T]]], threads: int, most: int, size: Callable[[T], int]
) -> Generator[Iterator[T], None, None]:
    """Yield an iterator for each source, in order, while threads run the sources ahead.

    An exception in a source is raised where its iterator gets there. The threads end when this generator is closed.

    Args:
        sources: callables; each is called and iterated in one of the threads.
        threads: sources that run at the same time.
        most: the total size of the items that wait; the source that is read now may always have one item waiting.
        size: the size of an item.

    Example:
        >>> sources = [lambda: iter("ab"), lambda: iter("c")]
        >>> [list(items) for items in read_ahead(sources, threads=2, most=10, size=len)]
        [['a', 'b'], ['c']]
    """
    ahead = _Ahead(sources, most, size)
    # Daemons: a generator that nobody closes must not keep the program from ending.
    workers = [threading.Thread(target=ahead.work, daemon=True) for _ in range(min(threads, len(sources)))]
    for worker in workers:
        worker.start()
    try:
        for number in range(len(sources)):
            yield ahead.items(number)
    finally:
        ahead.stop()
        for worker in workers:
            worker.join()


class _End(NamedTuple):
    """The end of a source, after an exception or not."""

    error: BaseException | None


class _Ahead(Generic[T]):
    """Items that wait, by the number of their source."""

    def __init__(self, sources: Sequence[Callable[[], Iterator[T]]], most: int, size: Callable[[T], int]) -> None:
        self._sources, self._most, self._size = sources, most, size
        self._numbers = iter(range(len(sources)))
        self._waiting: defaultdict[int, deque[T | _End]] = defaultdict(deque)
        self._held = 0  # total size of what waits
        self._read_now = 0  # the source that is read now
        self._stopped = False
        self._changed = threading.Condition()

    def work(self) -> None:
        """Run one source after the other, until none is left or `stop` is called."""
        while (number := self._next()) is not None:
            error = None
            try:
                for item in self._sources[number]():
                    if not self._put(number, item, self._size(item)):
                        return
            except BaseException as raised:
                error = raised
            self._put(number, _End(error), 0)

    def items(self, number: int) -> Iterator[T]:
        """Yield the items of a source.

        Raises:
            BaseException: the one that the source raised.
        """
        with self._changed:
            self._read_now = number
            self._changed.notify_all()
        while not isinstance(item := self._take(number), _End):
            yield item
        if item.error is not None:
            raise item.error

    def stop(self) -> None:
        """End all threads at their next item."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _next(self) -> int | None:
        with self._changed:
            return None if self._stopped else next(self._numbers, None)

    def _put(self, number: int, item: T | _End, size: int) -> bool:
        """Wait until there is room for an item, and add it; return False if it is no longer wanted."""

        def room() -> bool:
            own = number == self._read_now and not self._waiting[number]
            return self._stopped or own or self._held + size <= self._most

        with self._changed:
            self._changed.wait_for(room)
            if not self._stopped:
                self._waiting[number].append(item)
                self._held += size
                self._changed.notify_all()
            return not self._stopped

    def _take(self, number: int) -> T | _End:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting[number])
            item = self._waiting[number].popleft()
            if isinstance(item, _End):
                del self._waiting[number]
            else:
                self._held -= self._size(item)
                self._changed.notify_all()
            return item
