"""The loader of a streamed data set: endless batches in epochs of a fixed number, and the place in all parts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

from slap.core.batch import Batch
from slap.datamodules.bad_clips import BadClipLog
from slap.datamodules.huggingface.stream import Place, StreamBatches, StreamOptions
from slap.datamodules.loader import TimedLoader, as_long_as_needed
from slap.datamodules.workers import freeze_gc, unfreeze_gc


@dataclass(frozen=True)
class Places:
    """Places of a training process in its parts of the stream.

    Attributes:
        each: place of each worker.
        following: number of the worker whose turn it is.
    """

    each: tuple[Place, ...]
    following: int = 0

    @classmethod
    def of(cls, state: str) -> Places:
        """Read what `state` wrote."""
        known = json.loads(state)
        return cls(tuple(Place(**place) for place in known["each"]), known["following"])

    def state(self) -> str:
        """Return the places as text, for a checkpoint."""
        return json.dumps({"each": [vars(place) for place in self.each], "following": self.following})


@dataclass
class StreamLoader(TimedLoader):
    """Batches of an epoch of a stream: the next ones, a fixed number of them, the same on every process.

    It has what trainers ask of a loader, see `slap.datamodules.loader.Loader`. Nothing of an earlier epoch is given
    again, so iterating once more goes on.

    Args:
        options: options of the stream.
        sample_rate: of the waveforms, Hz.
        process: rank and world size.
        batches: batches per epoch, per process.
        bad_clips: log of bad clips.
        num_workers: number of loading processes; 0 loads in this one.
        pin_memory: put batches into page-locked memory.

    Attributes:
        epoch: the epoch that the next iteration gives.
    """

    options: StreamOptions
    sample_rate: int
    process: tuple[int, int]
    batches: int
    bad_clips: BadClipLog
    num_workers: int = 0
    pin_memory: bool = False
    _known: dict[tuple[int, int], Places] = field(default_factory=dict, init=False)
    _items: Iterator[Any] | None = field(default=None, init=False)

    batch_sampler = None

    def __post_init__(self) -> None:
        self.go_on((0, 0), None)
        # For the states of all processes in a checkpoint; its objects do not travel by way of GPUs.
        self._group = dist.new_group(backend="gloo") if self.process[1] > 1 else None

    def go_on(self, begin: tuple[int, int], places: Places | None) -> None:
        """Go on at a place.

        Args:
            begin: epoch, and number of its batches that were given before.
            places: places in all parts; None is their begin.
        """
        self.begin, self.epoch = begin, begin[0]
        self.places = places or Places((Place(),) * max(self.num_workers, 1))
        self._known = {begin: self.places}

    @property
    def sampler(self) -> StreamLoader:
        """The object whose epoch a trainer sets."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the number of the epoch that the next iteration gives."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        yield from self._timed(self.bad_clips.training(self._epoch(self.epoch), alone=self.process[1] == 1))

    def _epoch(self, epoch: int) -> Iterator[Batch]:
        begin = self.begin[1] if epoch == self.begin[0] else 0
        for number in range(begin, self.batches):
            batch, worker, place = next(item for item in self._started() if item is not None)
            each = list(self.places.each)
            each[worker] = Place(**json.loads(place))
            self.places = Places(tuple(each), (worker + 1) % len(each))
            self._known[epoch, number + 1] = self.places
            yield batch

    def _started(self) -> Iterator[Any]:
        if self._items is None:
            stream = StreamBatches(
                self.options, self.sample_rate, *self.process, self.places.each, self.places.following
            )
            if self.num_workers:
                freeze_gc()  # until `close`
            self._items = iter(
                DataLoader(
                    stream,
                    batch_size=None,
                    num_workers=self.num_workers,
                    pin_memory=self.pin_memory,
                    worker_init_fn=as_long_as_needed,
                    generator=torch.Generator(),
                )
            )
        return self._items

    def states(self, epoch: int, batches: int) -> list[str]:
        """Return the places of all processes after some batches of an epoch; every process must call it."""
        past = [key for key in self._known if key <= (epoch, batches)]
        last = max(past)
        for key in past:
            if key != last:
                del self._known[key]
        mine = self._known[last].state()
        if self._group is None:
            return [mine]
        states: list[Any] = [None] * self.process[1]
        dist.all_gather_object(states, mine, group=self._group)
        return states

    def close(self) -> None:
        """Let the workers end; iterating goes on where they stopped."""
        if self._items is not None and self.num_workers:
            unfreeze_gc()
        self._items = None
