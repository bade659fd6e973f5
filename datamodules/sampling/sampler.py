"""Which clips make a batch, on which process: from lengths alone, nothing is loaded.

n clips, R processes. Every process computes the batches of all and takes its own, so they need not talk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from slap.datamodules.sampling.batching import bucket_bounds, fill, share_out
from slap.datamodules.sampling.epoch import Source, generator, streams


@dataclass(frozen=True)
class BatchRequest:
    """What a worker is asked to load.

    Args:
        epoch: counted from 0; random choices differ between epochs.
        clips: what makes the batch: in training turns of clips (`slap.datamodules.sampling.epoch`), in evaluation
            their numbers.
    """

    epoch: int
    clips: tuple[int, ...]


@dataclass
class TrainSampler:
    """Shuffled batches of clips of similar length, the same number of steps on every process.

    The clips of an epoch pass in a stream (or in one for each process, see `slap.datamodules.sampling.epoch`), and
    each goes to
    the open batch of its bucket; a batch that is full is next. What is left in open batches at the end, together with
    the last full ones, is shared out anew, in batches of nearly equal length. So each clip comes once an epoch, no
    batch is tiny, and all processes get equally many. (Only with fewer clips left than processes is a batch repeated.)

    Packed batches have no padding for buckets to save. Buckets give each batch clips of similar length, so that length
    does not tell clips apart, and fill the budget more evenly; `num_buckets=1` mixes all lengths.

    An epoch's batches are computed as a whole, from arrays: a million clips take about a second. Iterating always
    begins the epoch set by `set_epoch` anew, or, in the epoch that `begin_at` names, at the batch that it names.

    Args:
        lengths: (n,) of the clips, in samples.
        max_samples: of a batch; no clip is longer.
        max_clips: of a batch; None is any number.
        num_buckets: how many classes of length.
        seed: of the order; each epoch has its own.
        rank: this process.
        world_size: R.
        sources: what an epoch takes of the clips; default is each once, in any order.
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

    def __post_init__(self) -> None:
        self.lengths = np.asarray(self.lengths, dtype=np.int64)
        self.sources = tuple(self.sources) or (Source(0, len(self.lengths)),)
        self._bounds = bucket_bounds(self.lengths, self.num_buckets)
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
        for step in islice(self._steps(epoch), begin, None):
            yield BatchRequest(epoch, tuple(step[self.rank].tolist()))

    def _steps(self, epoch: int) -> Iterator[list[np.ndarray]]:
        """The batches of all processes, step by step, as turns."""
        size = self.world_size
        ranks: list[list[np.ndarray]] = []
        rest: list[np.ndarray] = []
        for stream in streams(self.sources, self._samples, self.seed, epoch, size):
            full, left = fill(
                self._samples[stream % len(self._samples)], self._bounds, self.max_samples, self.max_clips
            )
            ranks.append([stream[places] for places in full])
            rest.append(stream[left])
        if len(ranks) == 1:  # one stream, dealt out
            ranks = [ranks[0][rank::size] for rank in range(size)]
        # The last step's worth is kept back, to mix with the rest.
        steps = max(min(len(batches) for batches in ranks) - 1, 0)
        for step in range(steps):
            yield [batches[step] for batches in ranks]
        rest += [batch for batches in ranks for batch in batches[steps:]]
        yield from self._last(epoch, np.concatenate(rest))

    def _last(self, epoch: int, turns: np.ndarray) -> Iterator[list[np.ndarray]]:
        size = self.world_size
        shared = share_out(self._samples[turns % len(self._samples)], self.max_samples, self.max_clips, multiple=size)
        last = [turns[places] for places in shared]
        last += [last[i % len(last)] for i in range(-len(last) % size)]
        order = generator("last batches", self.seed, epoch).permutation(len(last))
        for i in range(0, len(last), size):
            yield [last[place] for place in order[i : i + size]]

    @property
    def _samples(self) -> np.ndarray:
        assert isinstance(self.lengths, np.ndarray)
        return self.lengths


@dataclass
class EvaluationSampler:
    """Each clip exactly once over all processes, in few batches of nearly equal length, always the same ones.

    Processes have equally many steps, unless there are fewer clips than make that possible.

    Args:
        lengths: (n,) of the clips, in samples.
        max_samples: of a batch; no clip is longer.
        max_clips: of a batch; None is any number.
        rank: this process.
        world_size: R.
    """

    lengths: Sequence[int] | np.ndarray
    max_samples: int
    max_clips: int | None
    rank: int = 0
    world_size: int = 1

    def __iter__(self) -> Iterator[BatchRequest]:
        lengths = np.asarray(self.lengths, dtype=np.int64)
        batches = share_out(lengths, self.max_samples, self.max_clips, multiple=self.world_size)
        for batch in islice(batches, self.rank, None, self.world_size):
            yield BatchRequest(0, tuple(np.sort(batch).tolist()))
