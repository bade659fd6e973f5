"""Fetching ahead: threads fetch the shards of coming batches while those of earlier ones are trained on.

Batches are known long before they are made (`slap.datamodules.sampling`), and so are the shards that they need.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from threading import Thread

from slap.core.errors import UserError
from slap.datamodules.manifests.sequence import Clips
from slap.datamodules.remote.cache import fetched
from slap.datamodules.remote.settings import GIGABYTE, cache_bytes
from slap.datamodules.remote.store import RemoteFile
from slap.datamodules.sampling.sampler import BatchRequest

log = logging.getLogger(__name__)

AHEAD = 2
"""Shards that are fetched before a batch needs them."""

FARTHEST = 10_000
"""Batches that are looked ahead at most."""

THREADS = 4
"""Shards that are fetched at the same time: one connection seldom has the rate of a network."""


class Ahead(Iterable["BatchRequest | None"]):
    """The requests of a sampler, passed on as they are, while the shards of later ones are fetched.

    A shard that cannot be fetched is left to the clips in it: reading them says why.

    Args:
        requests: requests of the sampler; None between epochs, in each of which shards are fetched again.
        shards: returns the shards of a request.
    """

    def __init__(
        self, requests: Iterable[BatchRequest | None], shards: Callable[[BatchRequest], set[RemoteFile]]
    ) -> None:
        self.requests, self.shards = requests, shards

    def __iter__(self) -> Iterator[BatchRequest | None]:
        queue: SimpleQueue[RemoteFile | None] = SimpleQueue()
        for _ in range(THREADS):  # daemons: the end of a run waits for no download, which goes on where it was
            Thread(target=_fetch, args=(queue,), daemon=True, name="fetch ahead").start()
        try:
            yield from self._passed_on(queue)
        finally:
            while not queue.empty():
                queue.get()
            for _ in range(THREADS):
                queue.put(None)

    def _passed_on(self, queue: SimpleQueue[RemoteFile | None]) -> Iterator[BatchRequest | None]:
        known: set[RemoteFile] = set()
        waiting: deque[tuple[BatchRequest | None, int]] = (
            deque()
        )  # with the number of shards that it is the first to need
        later = 0  # shards that only waiting requests need
        for request in self.requests:
            if request is None:
                known.clear()
            new = set() if request is None else self.shards(request) - known
            for shard in sorted(new, key=str):
                queue.put(shard)
            known |= new
            waiting.append((request, len(new)))
            later += len(new)
            while waiting and (later - waiting[0][1] >= AHEAD or len(waiting) > FARTHEST):
                first, count = waiting.popleft()
                later -= count
                yield first
        for request, _ in waiting:
            yield request


def _fetch(queue: SimpleQueue[RemoteFile | None]) -> None:
    while (file := queue.get()) is not None:
        try:
            fetched(file)
        except UserError as error:
            log.info("not fetched ahead: %s", error)


def fetching_ahead(
    requests: Iterable[BatchRequest | None], clips: Clips, numbers: Callable[[BatchRequest], Iterable[int]], split: str
) -> Iterable[BatchRequest | None]:
    """Return the requests of a sampler; if clips lie elsewhere, their shards are fetched before their turn.

    Args:
        requests: requests of the sampler.
        clips: its clips.
        numbers: returns the numbers of the clips of a request.
        split: name of the split.
    """
    if not clips.remote:
        return requests
    if split != "train":
        warn_of_cache(filter(None, map(clips.shard, range(len(clips)))), split)
    return Ahead(requests, lambda request: set(filter(None, map(clips.shard, numbers(request)))))


def warn_of_cache(shards: Iterable[RemoteFile], name: str) -> None:
    """Log a warning if an evaluation, which reads its clips in the order of their lengths, needs all shards at once.

    Args:
        shards: the shards.
        name: of the split.
    """
    size, limit = sum(shard.size for shard in set(shards)), cache_bytes()
    if size > limit:
        log.warning(
            "the shards of %s have %.1f GB, more than the %.1f GB of the cache: an evaluation takes clips in the order "
            "of their lengths, so shards are fetched again and again; raise SLAP_REMOTE_CACHE_GB, or keep them on disk",
            name,
            size / GIGABYTE,
            limit / GIGABYTE,
        )
