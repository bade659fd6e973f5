"""Which clips make a batch, on which process: from lengths alone, nothing is loaded.

R processes. Every process computes the batches of all and takes its own, so they need not talk.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from lhotse.dataset.sampling.dynamic_bucketing import DynamicBucketingSampler, estimate_duration_buckets

from slap.datamodules.budget import Budget, Item, share_out


@dataclass(frozen=True)
class Draw:
    """What a worker is asked to load.

    Args:
        epoch: counted from 0; random choices differ between epochs.
        clips: which clips make the batch, as indices.
    """

    epoch: int
    clips: tuple[int, ...]


@dataclass
class TrainSampler:
    """Shuffled batches of clips of similar length, the same number of steps on every process.

    Lhotse's DynamicBucketingSampler makes the batches, on one common stream; we deal them out. It would fill up the
    last step by splitting batches without looking at the budget. We share the last clips out anew instead: what each
    bucket has left, together with the last full batches, goes into batches of nearly equal length. So each clip comes
    once an epoch and no batch is tiny. (Only with fewer clips left than processes is a batch repeated.)

    Packed batches have no padding for buckets to save. Buckets give each batch clips of similar length, so that length
    does not tell clips apart, and fill the budget more evenly; `num_buckets=1` mixes all lengths.

    Iterating always begins the epoch set by `set_epoch` anew.

    Args:
        lengths: of the clips, in samples.
        max_samples: of a batch; no clip is longer.
        max_clips: of a batch; None is any number.
        num_buckets: how many classes of length.
        seed: of the order; each epoch has its own.
        rank: this process.
        world_size: R.
    """

    lengths: Sequence[int]
    max_samples: int
    max_clips: int | None
    num_buckets: int
    seed: int
    rank: int = 0
    world_size: int = 1
    epoch: int = 0

    def __post_init__(self) -> None:
        buckets = min(self.num_buckets, len(self.lengths))
        whole = Budget(self.max_samples, self.max_clips, [max(self.lengths)])
        items = (Item(i, length) for i, length in enumerate(self.lengths))
        bins = estimate_duration_buckets(items, buckets, whole) if buckets > 1 else []
        self._bins = [int(length) for length in bins]
        self._budget = Budget(self.max_samples, self.max_clips, [*self._bins, max(self.lengths)])

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives; Lightning calls this."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Draw]:
        epoch = self.epoch
        for step in self._steps(epoch):
            yield Draw(epoch, tuple(item.index for item in step[self.rank]))

    def _steps(self, epoch: int) -> Iterator[list[list[Item]]]:
        """The batches of all processes, step by step."""
        size = self.world_size
        full: list[list[Item]] = []
        rest: list[Item] = []
        for batch in self._bucketed(epoch):
            if not self._budget.is_full(batch):
                rest += batch
                continue
            full.append(batch)
            if len(full) == 2 * size:  # the last step's worth is kept back, to mix with the rest
                yield full[:size]
                full = full[size:]
        last = share_out(
            [*rest, *(item for batch in full for item in batch)], self.max_samples, self.max_clips, multiple=size
        )
        last += [last[i % len(last)] for i in range(-len(last) % size)]
        random.Random(f"last batches {self.seed} {epoch}").shuffle(last)
        for i in range(0, len(last), size):
            yield last[i : i + size]

    def _bucketed(self, epoch: int) -> Iterator[list[Item]]:
        order = list(range(len(self.lengths)))
        random.Random(f"order {self.seed} {epoch}").shuffle(order)
        # The stream is shuffled as a whole, so Lhotse need not shuffle its buffer. Without `sync_buckets` it may pick
        # an empty bucket near the end and stop there, with the other buckets' clips lost (lhotse 1.33).
        sampler = DynamicBucketingSampler(
            (Item(i, self.lengths[i]) for i in order),
            constraint=self._budget.copy(),
            duration_bins=self._bins,
            sync_buckets=True,
            seed=self.seed,
            rank=0,
            world_size=1,
        )
        sampler.set_epoch(epoch)
        for batch in sampler:
            yield list(batch)


@dataclass
class EvaluationSampler:
    """Each clip exactly once over all processes, in few batches of nearly equal length, always the same ones.

    Processes have equally many steps, unless there are fewer clips than make that possible.

    Args:
        lengths: of the clips, in samples.
        max_samples: of a batch; no clip is longer.
        max_clips: of a batch; None is any number.
        rank: this process.
        world_size: R.
    """

    lengths: Sequence[int]
    max_samples: int
    max_clips: int | None
    rank: int = 0
    world_size: int = 1

    def __iter__(self) -> Iterator[Draw]:
        items = [Item(i, length) for i, length in enumerate(self.lengths)]
        batches = share_out(items, self.max_samples, self.max_clips, multiple=self.world_size)
        for batch in islice(batches, self.rank, None, self.world_size):
            yield Draw(0, tuple(sorted(item.index for item in batch)))
