"""Batch samplers: assign clips to batches and ranks, from lengths alone; nothing is loaded.

n clips, R processes. Every process computes the batches of all and takes its own, so they need not communicate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from slap.core.errors import UserError
from slap.datamodules.sampling.batching import balanced_batches, bucket_bounds, dealt_batches, fill, widened
from slap.datamodules.sampling.epoch import Source, generator, streams


@dataclass(frozen=True)
class BatchRequest:
    """Request to a worker for one batch.

    Args:
        epoch: counted from 0; random choices differ between epochs.
        clips: occurrences of clips in training (`slap.datamodules.sampling.epoch`), numbers of segments in evaluation.
    """

    epoch: int
    clips: tuple[int, ...]


@dataclass
class TrainSampler:
    """Shuffled batches of clips of similar length, the same number of steps on every process.

    The clips of an epoch pass in a stream (or in one per process, see `slap.datamodules.sampling.epoch`), and each goes
    to the open batch of its bucket; a batch that is full is next. The clips that are left in open batches at the end,
    together with those of the last full batches, are distributed anew, over batches of nearly equal length. So each
    clip comes once per epoch, no batch is tiny, and all processes get equally many batches. (A batch is repeated only
    if fewer clips are left than there are processes.) With storage in parts each process keeps what is left of its own
    segment, so that it reads no parts of others, unless one has too little left for as many batches as others make.

    Packed batches have no padding for buckets to save. Buckets give each batch clips of similar length, so that length
    does not tell clips apart, and fill the budget more evenly; `num_buckets=1` mixes all lengths.

    An epoch's batches are computed as a whole, from arrays: a million clips take about a second. Iterating always
    begins the epoch set by `set_epoch` anew, or, in the epoch that `begin_at` names, at the batch that it names.

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

    Raises:
        ValueError: the budget does not hold so many clips, or there are not as many for each process.
    """

    lengths: Sequence[int] | np.ndarray
    max_samples: int
    max_clips: int | None
    num_buckets: int
    seed: int
    rank: int = 0
    world_size: int = 1
    sources: Sequence[Source] = ()
    epoch: int = 0
    min_clips: int = 1

    def __post_init__(self) -> None:
        self.lengths = np.asarray(self.lengths, dtype=np.int64)
        self.sources = tuple(self.sources) or (Source(0, len(self.lengths)),)
        self._bounds = bucket_bounds(self.lengths, self.num_buckets)
        if self.min_clips > 1:
            self._bounds = widened(self.lengths, self._bounds, self.max_samples, self.min_clips)
        self._begin = (0, 0)

    def begin_at(self, epoch: int, batches: int) -> None:
        """Go on in an epoch that was interrupted after some batches of this process, which are not given again."""
        self.epoch = epoch
        self._begin = (epoch, batches)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives; Lightning calls this."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[BatchRequest]:
        epoch = self.epoch
        begin = self._begin[1] if epoch == self._begin[0] else 0
        for step in islice(self.steps(epoch), begin, None):
            yield BatchRequest(epoch, tuple(step[self.rank].tolist()))

    def steps(self, epoch: int) -> Iterator[list[np.ndarray]]:
        """Yield the batches of all processes, step by step, as occurrences."""
        size = self.world_size
        ranks: list[list[np.ndarray]] = []
        rest: list[np.ndarray] = []
        for stream in streams(self.sources, self._samples, self.seed, epoch, size):
            samples = self._samples[stream % len(self._samples)]
            full, left = fill(samples, self._bounds, self.max_samples, self.max_clips, self.min_clips)
            ranks.append([stream[places] for places in full])
            rest.append(stream[left])
        if len(ranks) == 1:  # one stream, dealt out
            ranks = [ranks[0][rank::size] for rank in range(size)]
        if 1 < len(rest) == size and self.min_clips <= 1:  # storage in parts
            apart = self._apart(epoch, ranks, rest)
            if apart is not None:
                yield from apart
                return
        steps, last = self._divided(ranks, rest)
        for step in range(steps):
            yield [batches[step] for batches in ranks]
        last += [last[i % len(last)] for i in range(-len(last) % size)]
        order = generator("last batches", self.seed, epoch).permutation(len(last))
        for i in range(0, len(last), size):
            yield [last[place] for place in order[i : i + size]]

    def _apart(
        self, epoch: int, ranks: list[list[np.ndarray]], rest: list[np.ndarray]
    ) -> list[list[np.ndarray]] | None:
        """Return the steps of storage in parts, with the rest of each process in batches of its own.

        Returns:
            None if that is not possible: one process has fewer clips left than others make batches of theirs.
        """
        steps = max(min(len(batches) for batches in ranks) - 1, 0)
        rests = [np.concatenate([own, *batches[steps:]]) for own, batches in zip(rest, ranks, strict=True)]
        count = max(len(self._balanced(own, 1)) for own in rests)
        last = [self._balanced(own, count) for own in rests]
        if any(len(batches) != count for batches in last):
            return None
        order = generator("last batches", self.seed, epoch).permutation(count)
        first = [[batches[step] for batches in ranks] for step in range(steps)]
        return first + [[batches[place] for batches in last] for place in order]

    def _balanced(self, occurrences: np.ndarray, multiple: int) -> list[np.ndarray]:
        samples = self._samples[occurrences % len(self._samples)]
        batches = balanced_batches(samples, self.max_samples, self.max_clips, multiple)
        return [occurrences[places] for places in batches]

    def _divided(self, ranks: list[list[np.ndarray]], rest: list[np.ndarray]) -> tuple[int, list[np.ndarray]]:
        """Return the number of steps that stay as they are, and the batches that are made of all other clips.

        The last step's worth of batches is kept back, to mix with the rest; with `min_clips`, as many as it takes.
        """
        full = min(len(batches) for batches in ranks)
        for steps in range(max(full - 1, 0), -1, -1):
            occurrences = np.concatenate(rest + [batch for batches in ranks for batch in batches[steps:]])
            samples = self._samples[occurrences % len(self._samples)]
            limits = self.max_samples, self.max_clips
            if self.min_clips > 1:
                shared = dealt_batches(samples, *limits, self.min_clips, multiple=self.world_size)
            else:
                shared = balanced_batches(samples, *limits, multiple=self.world_size)
            if shared is not None:
                return steps, [occurrences[places] for places in shared]
        raise UserError(
            f"the {len(occurrences)} clips of an epoch make no batches of at least min_clips={self.min_clips} for each "
            f"of {self.world_size} processes; take a smaller min_clips or a larger max_duration"
        )

    @property
    def _samples(self) -> np.ndarray:
        assert isinstance(self.lengths, np.ndarray)
        return self.lengths


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
