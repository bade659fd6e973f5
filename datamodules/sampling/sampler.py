"""Batch samplers: assign clips to batches and ranks, from lengths alone; nothing is loaded.

n clips, R processes. Every process computes the batches of all and takes its own, so they need not communicate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import numpy as np

from slap.datamodules.sampling.batching import balanced_batches, bucket_bounds, widened
from slap.datamodules.sampling.deal import Dealer, Limits, Step
from slap.datamodules.sampling.epoch import Section, Source, sections_of, streams
from slap.datamodules.sampling.position import Position
from slap.datamodules.stored import Array, Stored, sample_of

SHUFFLE_CLIPS = 2_000_000
"""Default of the largest number of clips that are shuffled together."""

SAMPLED = 1_000_000
"""Number of lengths from which classes of length are made where lengths are not in memory."""


@dataclass(frozen=True)
class BatchRequest:
    """Request to a worker for one batch.

    Args:
        epoch: counted from 0; random choices differ between epochs.
        clips: occurrences of clips in training (`slap.datamodules.sampling.epoch`), numbers of segments in evaluation.
    """

    epoch: int
    clips: tuple[int, ...]


class StepSampler(ABC):
    """Sampler of training batches, step by step, that goes on at any position.

    Iterating always begins the epoch set by `set_epoch` anew, or, in the epoch of the position that `begin_at` names,
    at that position.

    Attributes:
        rank: rank of this process.
        world_size: R.
        step_batches: batches per step, over all processes.
        epoch: the epoch that the next iteration gives.
    """

    rank: int
    world_size: int
    step_batches: int | None
    epoch: int
    _begin = Position()
    _marks: tuple[Position, ...] = ()

    def begin_at(self, position: Position) -> None:
        """Go on in an epoch that was interrupted; batches before the position are not given again."""
        self.epoch, self._begin, self._marks = position.epoch, position, ()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives; Lightning calls this."""
        self.epoch = epoch

    def position(self, epoch: int, batches: int) -> Position:
        """Return the position after some batches of an epoch, which have been given; those before are forgotten."""
        if not batches:  # the same, whether or not workers have begun the epoch
            return Position(epoch)
        before = [mark for mark in self._marks if (mark.epoch, mark.batches) <= (epoch, batches)]
        last = max(before, key=lambda mark: (mark.epoch, mark.batches), default=None)
        if last is None or last.epoch != epoch:
            return Position(epoch, batches)
        self._marks = tuple(mark for mark in self._marks if mark is last or mark not in before)
        return last.on(batches - last.batches, self._size)

    @property
    def _size(self) -> int:
        return self.step_batches or self.world_size

    def __iter__(self) -> Iterator[BatchRequest]:
        return self.requests(self.epoch)

    def requests(self, epoch: int) -> Iterator[BatchRequest]:
        """Yield the requests of this process in an epoch, whichever is set."""
        begin = self._begin if epoch == self._begin.epoch else Position(epoch)
        known = None
        for mark, step in self.walk(begin):
            if mark is not known:
                self._marks = (*(m for m in self._marks if (m.epoch, m.batches) != (epoch, mark.batches)), mark)
                known = mark
            yield BatchRequest(epoch, tuple(step[self.rank].tolist()))

    @abstractmethod
    def walk(self, position: Position) -> Iterator[tuple[Position, Step]]:
        """Yield the steps of an epoch from a position on.

        Returns:
            Each with the last position before it at which a section began, or the walk, and with the occurrences of
            each process.
        """


@dataclass
class TrainSampler(StepSampler):
    """Shuffled batches of clips of similar length, the same number of steps on every process.

    The clips of a section of an epoch, which is the whole epoch unless that is large, pass in a stream (or in one per
    process, see `slap.datamodules.sampling.epoch`), and each goes to the open batch of its bucket; a batch that is full
    is next. The clips that are left in open batches at the end, together with those of the last full batches, are
    distributed anew, over batches of nearly equal length. So each clip comes once per epoch, no batch is tiny, and all
    processes get equally many batches. (A batch is repeated only if fewer clips are left than there are processes.)
    With storage in parts each process keeps what is left of its own segment, so that it reads no parts of others,
    unless one has too little left for as many batches as others make.

    Packed batches have no padding for buckets to save. Buckets give each batch clips of similar length, so that length
    does not tell clips apart, and fill the budget more evenly; `num_buckets=1` mixes all lengths.

    The batches of a section are computed as a whole, from arrays: a million clips take about a second. A position can
    be taken up by another number of processes: the rest of its section is dealt out anew, and no clip comes twice.

    Args:
        lengths: (n,) lengths of the clips, in samples.
        max_samples: budget of a batch; no clip is longer.
        max_clips: largest number of clips per batch; None is any number.
        num_buckets: number of length classes; fewer are made where `min_clips` asks for it.
        seed: seed of the order; each epoch has its own order.
        rank: rank of this process.
        world_size: R.
        sources: parts of the manifests in an epoch; default: each clip once, in any order.
        epoch: the epoch that the next iteration gives.
        min_clips: least number of clips per batch.
        shuffle_clips: largest number of clips per section.
        step_batches: batches per step. If these are not R, the clips of each step are divided among the processes,
            whose batches are then larger or smaller than the budget; None is R.

    Raises:
        ValueError: the budget does not hold so many clips, or there are not as many for each process.
    """

    lengths: Sequence[int] | Array
    max_samples: int
    max_clips: int | None
    num_buckets: int
    seed: int
    rank: int = 0
    world_size: int = 1
    sources: Sequence[Source] = ()
    epoch: int = 0
    min_clips: int = 1
    shuffle_clips: int = SHUFFLE_CLIPS
    step_batches: int | None = None
    sections: int = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.lengths, Stored):
            self.lengths = np.asarray(self.lengths, dtype=np.int64)
        self.sources = tuple(self.sources) or (Source(0, len(self.lengths)),)
        self.sections = sections_of(self.sources, self.shuffle_clips)
        bounds = np.empty(0, np.int64)
        if self.num_buckets > 1 or self.min_clips > 1:
            sample = sample_of(self.lengths, SAMPLED)
            bounds = bucket_bounds(sample, self.num_buckets)
            if self.min_clips > 1:
                bounds = widened(sample, bounds, self.max_samples, self.min_clips)
        self._limits = Limits(self.max_samples, self.max_clips, self.min_clips, bounds)

    def walk(self, position: Position, endless: bool = False) -> Iterator[tuple[Position, Step]]:
        """Yield the steps of an epoch from a position on, see `StepSampler.walk`.

        Args:
            position: position to begin at.
            endless: begin the epoch again at its end.
        """
        epoch, begun, legs = position.epoch, position.begun, position.legs
        skip = position.batches - position.begun - position.within
        number = position.section
        while endless or number < self.sections:
            occurrences, dealer, steps = self._steps_of(epoch, number % self.sections, legs)
            mark = Position(epoch, begun + _total(legs), number % self.sections, begun, legs)
            for step in islice(steps, skip, None):
                yield mark, [occurrences[places] for places in dealer.divided(step, self.world_size)]
            begun = mark.batches + len(steps)
            skip, legs, number = max(skip - len(steps), 0), (), number + 1

    @property
    def array(self) -> Array:
        """(n,) int64, the lengths."""
        assert isinstance(self.lengths, Array)
        return self.lengths

    def steps(self, epoch: int) -> Iterator[Step]:
        """Yield the batches of all processes, step by step, as occurrences."""
        for _, step in self.walk(Position(epoch)):
            yield step

    def steps_in(self, section: int) -> int:
        """Return the number of steps of a section of the first epoch; those of other epochs may differ a little."""
        return len(self._steps_of(0, section, ())[2])

    def _steps_of(
        self, epoch: int, number: int, legs: Sequence[tuple[int, int]]
    ) -> tuple[np.ndarray, Dealer, list[Step]]:
        """Return the occurrences of a section and its steps that are left after some legs, as places among them."""
        section, n = Section(number, self.sections), len(self.lengths)
        # "turns" is part of the seed: another word would give other batches.
        lines = [s.occurrences(n, f"turns {i}", self.seed, epoch, section) for i, s in enumerate(self.sources)]
        samples = np.concatenate([self.array[line % n] for line in lines])
        in_parts = any(source.parts is not None for source in self.sources)
        dealer = Dealer(samples, self._limits, partial(section.generator, seed=self.seed, epoch=epoch))
        first = legs[0][0] if legs else self._size
        made = dealer.steps(streams(lines, samples, in_parts, self.seed, epoch, first, section), first)
        size = first
        for now, done in (*legs, (self._size, 0)):
            if now != size:
                made, size = dealer.regrouped(made, now), now
            made = made[done:]
        return np.concatenate(lines), dealer, made


@dataclass
class EvaluationSampler:
    """Each clip exactly once over all processes, in few batches of nearly equal length, always the same ones.

    Processes have equally many steps, unless there are fewer clips than make that possible.

    Args:
        lengths: (n,) lengths of the clips, or of their segments, in samples.
        max_samples: budget of a batch; no clip is longer.
        max_clips: largest number of clips per batch; None is any number.
        rank: rank of this process.
        world_size: R.
    """

    lengths: Sequence[int] | np.ndarray
    max_samples: int
    max_clips: int | None
    rank: int = 0
    world_size: int = 1

    def __iter__(self) -> Iterator[BatchRequest]:
        lengths = np.asarray(self.lengths, dtype=np.int64)
        batches = balanced_batches(lengths, self.max_samples, self.max_clips, multiple=self.world_size)
        for batch in islice(batches, self.rank, None, self.world_size):
            yield BatchRequest(0, tuple(np.sort(batch).tolist()))


def _total(legs: Sequence[tuple[int, int]]) -> int:
    return sum(steps for _, steps in legs)
