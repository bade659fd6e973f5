"""The loader that Lightning iterates: batches of one epoch, from workers that go on with the next epoch meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from threading import Thread
from time import perf_counter, sleep
from types import FrameType
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from slap.core.bad_clip import BadClip
from slap.core.batch import Batch
from slap.datamodules.bad_clips import BadClipLog
from slap.datamodules.sampling.sampler import BatchRequest, EvaluationSampler, StepSampler
from slap.datamodules.workers import freeze_gc, unfreeze_gc

LOOK = 2.0
"""Seconds between a worker's looks whether the main process is still there."""


class Epochs(Iterable["BatchRequest | None"]):
    """Requests of one training epoch after the other, from the one that the sampler is set to; None after each.

    Args:
        sampler: assigns clips to batches.
    """

    def __init__(self, sampler: StepSampler) -> None:
        self.sampler = sampler

    def __iter__(self) -> Iterator[BatchRequest | None]:
        for epoch in count(self.sampler.epoch):
            yield from self.sampler.requests(epoch)
            yield None


class _Marked(Dataset["Batch | None"]):
    """A data set that makes None of None."""

    def __init__(self, dataset: Dataset[Batch]) -> None:
        self.dataset = dataset

    def __getitem__(self, request: BatchRequest | None) -> Batch | None:
        return None if request is None else self.dataset[request]


class TimedLoader:
    """Loader that counts how long it is waited for.

    Attributes:
        waited: seconds that the consumer has waited for batches so far.
    """

    waited = 0.0

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            started = perf_counter()
            batch = next(batches, None)
            self.waited += perf_counter() - started
            if batch is None:
                return
            yield batch


class Loader(TimedLoader):
    """Batches of the epoch that its sampler is set to; iterating again begins that epoch again.

    The workers do not stop at the end of a training epoch, and make the first batches of the next one while the trainer
    validates. Where another epoch is asked for than the next one, or an epoch was left early, they begin anew.

    It is no torch DataLoader itself, so Lightning leaves its sampler alone; Lightning still sets the sampler's epoch.
    The sampler alone decides where an epoch begins, and the workers know nothing but their requests. The loader has no
    length, since epochs may differ by a batch. It draws nothing from torch's random numbers, which belong to training.

    Workers leave it to the main process to end on an interrupt or SIGTERM, which often reach all processes of a group:
    the step that is being made may need more batches. When the main process is gone they end: torch's would wait for
    ever to hand over a batch that is larger than a pipe.

    Args:
        dataset: makes a batch of each request of the sampler.
        sampler: assigns clips to batches.
        bad_clips: log of bad clips.
        stage: `train`, or `val` or `test`, where batches without good clips are skipped.
        before: clips of the manifests that were left out already; evaluations report them.
        num_workers: number of loading processes; 0 loads in this one.
        pin_memory: put batches into page-locked memory, which makes copies to a GPU faster.
        requests: `requests_of` the sampler, if the workers are to get them from something that passes them on.
    """

    batch_sampler = None  # Lightning looks for it on whatever has a `sampler`

    def __init__(
        self,
        dataset: Dataset[Batch],
        sampler: StepSampler | EvaluationSampler,
        bad_clips: BadClipLog,
        stage: str,
        before: Sequence[BadClip] = (),
        num_workers: int = 0,
        pin_memory: bool = False,
        requests: Iterable[BatchRequest | None] | None = None,
    ) -> None:
        self.dataset = dataset
        self.sampler = sampler
        self.bad_clips = bad_clips
        self.stage = stage
        self.before = before
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.requests = requests_of(sampler, num_workers) if requests is None else requests
        self._loader: DataLoader[Any] | None = None
        self._items: Iterator[Any] | None = None
        self._following: int | None = None  # the epoch whose batches come next

    def __iter__(self) -> Iterator[Batch]:
        # A generator: Lightning calls iter() once more than it reads, which must not start the workers.
        if self._loader is None:
            if self.num_workers:
                freeze_gc()  # until `close`
            self._loader = DataLoader(
                _Marked(self.dataset),
                batch_size=None,
                sampler=self.requests,
                num_workers=self.num_workers,
                pin_memory=self.pin_memory,
                persistent_workers=self.num_workers > 0,
                worker_init_fn=as_long_as_needed,
                generator=torch.Generator(),  # its own: how often it is asked depends on workers and validations
            )
        if self.stage == "train":
            batches = self.bad_clips.training(self._epoch(self._loader), alone=self.sampler.world_size == 1)
        else:
            batches = self.bad_clips.evaluation(self._loader, self.stage, self.before)
        yield from self._timed(iter(batches))

    def _epoch(self, loader: DataLoader[Any]) -> Iterator[Batch]:
        """Yield the batches of a training epoch."""
        epoch = self.sampler.epoch  # type: ignore[union-attr]
        if self._items is None or self._following != epoch:
            self._items = iter(loader)
        self._following = None
        for batch in self._items:
            if batch is None:
                self._following = epoch + 1
                return
            yield batch

    def close(self) -> None:
        """Let the workers end; iterating starts new ones."""
        if self._loader is not None and self.num_workers:
            unfreeze_gc()
        self._loader = self._items = self._following = None


def requests_of(sampler: StepSampler | EvaluationSampler, num_workers: int) -> Iterable[BatchRequest | None]:
    """Return the requests that workers get: in training those of all epochs to come, and otherwise of one."""
    return Epochs(sampler) if num_workers and isinstance(sampler, StepSampler) else sampler


def as_long_as_needed(worker: int) -> None:
    """Ignore signals that are the main process's, but end with it; a second SIGTERM, sent to this worker, ends it."""
    del worker
    Thread(target=_end_without, args=(os.getppid(),), daemon=True, name="watch-parent").start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _heed_the_next)


def _end_without(parent: int) -> None:
    while os.getppid() == parent:
        sleep(LOOK)
    os._exit(1)


def _heed_the_next(number: int, frame: FrameType | None) -> None:
    del frame
    signal.signal(number, signal.SIG_DFL)
