"""Batches of captioned clips and of clips without captions, each with a share of the seconds of every batch.

n clips with captions (or of manifests that may have some), u without, R processes.

An epoch is one of the captioned clips: each comes as often as its manifest says. The others fill their share of every
batch, and their next epoch goes on where this one stopped, so over a training they come equally often, however many
there are. So the contrastive loss compares as many clips at every step, whatever the lengths of the two kinds are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from math import ceil

import numpy as np

from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.datamodules.sampling.epoch import Source
from slap.datamodules.sampling.mixture import occurrences_of
from slap.datamodules.sampling.sampler import BatchRequest, TrainSampler


class MixedSampler:
    """Batches of two samplers, step by step in one request.

    Args:
        captioned: sampler of the first n clips; its epochs decide the number of steps.
        others: sampler of the u clips after them; its sources are taken as `filling` says.

    Attributes:
        lengths: (n + u,) lengths of all clips, in samples.
    """

    def __init__(self, captioned: TrainSampler, others: TrainSampler) -> None:
        self.captioned, self.others = captioned, others
        self.lengths = np.concatenate([captioned.lengths, others.lengths])
        self.rank, self.world_size = captioned.rank, captioned.world_size
        self.epoch = captioned.epoch
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
        n, u = len(self.captioned.lengths), len(self.others.lengths)
        steps = zip(self.captioned.steps(epoch), cycle(self.others.steps(epoch)), strict=False)
        for first, second in islice(steps, begin, None):
            own = self._numbered(first[self.rank], n, 0)
            others = self._numbered(second[self.rank], u, n)
            yield BatchRequest(epoch, (*own, *others))

    def _numbered(self, occurrences: np.ndarray, size: int, first: int) -> list[int]:
        """Return the numbers of occurrences among all clips, given those among the `size` clips from `first` on."""
        numbers: list[int] = (first + occurrences % size + len(self.lengths) * (occurrences // size)).tolist()
        return numbers


def train_sampler(
    make: Callable[[np.ndarray, int, int | None, Sequence[Source]], TrainSampler],
    lengths: np.ndarray,
    budgets: Sequence[tuple[int, int | None]],
    sources: Sequence[Source],
    others: Sequence[Source],
) -> TrainSampler | MixedSampler:
    """Return the sampler of training clips, those without captions last.

    Args:
        make: makes a sampler of lengths, samples per batch, clips per batch, and sources.
        lengths: (n + u,) lengths of all clips, in samples.
        budgets: samples and clips of a batch for each of the two kinds.
        sources: manifests of the n captioned clips.
        others: manifests of the u clips without captions.
    """
    if not sources or not others:
        return make(lengths, *budgets[0], sources or others)
    count = len(lengths) - sum(source.size for source in others)
    captioned = make(lengths[:count], *budgets[0], sources)
    taken = filling(captioned, others, lengths[count:], budgets[1][0])
    return MixedSampler(captioned, make(lengths[count:], *budgets[1], taken))


def filling(captioned: TrainSampler, sources: Sequence[Source], lengths: np.ndarray, budget: int) -> list[Source]:
    """Return what an epoch takes of the clips without captions: enough to fill their share of every batch.

    Args:
        captioned: sampler of the clips with captions.
        sources: manifests of the u clips without captions, once each.
        lengths: (u,) lengths of these clips, in samples.
        budget: samples of each batch that they fill.
    """
    steps = sum(1 for _ in captioned.steps(0))
    total = max(ceil(steps * captioned.world_size * budget / float(lengths.mean())), len(sources))
    taken = occurrences_of([source.size for source in sources], total)
    return [replace(source, taken=count) for source, count in zip(sources, taken, strict=True)]


def split_budget(max_duration: Seconds, max_clips: int | None, share: float) -> list[tuple[Seconds, int | None]]:
    """Split the budget of a batch between captioned clips and the others, in seconds and in clips.

    Raises:
        ValueError: a batch of one clip cannot hold both.

    Example:
        >>> split_budget(200.0, 10, 0.25)
        [(150.0, 8), (50.0, 2)]
    """
    if max_clips is None:
        return [(max_duration * (1 - share), None), (max_duration * share, None)]
    if max_clips < 2:
        raise UserError(f"a batch of max_clips={max_clips} cannot hold clips with and without captions; at least 2 can")
    others = min(max(round(max_clips * share), 1), max_clips - 1)
    return [(max_duration * (1 - share), max_clips - others), (max_duration * share, others)]
