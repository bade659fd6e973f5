"""Batches of captioned clips and of clips without captions, each with a share of the seconds of every batch.

n clips with captions (or of manifests that may have some), u without, R processes.

An epoch is one of the captioned clips: each comes as often as its manifest says. The others fill their share of every
batch, and their next epoch goes on where this one stopped, so over a training they come equally often, however many
there are. So the contrastive loss compares as many clips at every step, whatever the lengths of the two kinds are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import ceil

import numpy as np

from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.datamodules.sampling.deal import Step
from slap.datamodules.sampling.epoch import Source
from slap.datamodules.sampling.mixture import occurrences_of
from slap.datamodules.sampling.position import Position
from slap.datamodules.sampling.sampler import SAMPLED, StepSampler, TrainSampler
from slap.datamodules.stored import Array, joined, sample_of


class MixedSampler(StepSampler):
    """Batches of two samplers, step by step in one request.

    Args:
        captioned: sampler of the first n clips; its epochs decide the number of steps.
        others: sampler of the u clips after them; its sources are taken as `filling` says.

    Attributes:
        lengths: (n + u,) lengths of all clips, in samples.
    """

    def __init__(self, captioned: TrainSampler, others: TrainSampler) -> None:
        self.captioned, self.others = captioned, others
        self.lengths = joined([captioned.array, others.array], np.int64)
        self.rank, self.world_size, self.step_batches = captioned.rank, captioned.world_size, captioned.step_batches
        self.epoch = captioned.epoch

    def walk(self, position: Position) -> Iterator[tuple[Position, Step]]:
        """Yield the steps of an epoch from a position on, see `StepSampler.walk`."""
        n, u = len(self.captioned.lengths), len(self.others.lengths)
        batches, known, mark = position.batches, None, position
        others = position.others or Position(position.epoch, position.batches)
        walks = zip(self.captioned.walk(position), self.others.walk(others, endless=True), strict=False)
        for (first, own), (second, filling) in walks:
            if known != (id(first), id(second)):
                known = id(first), id(second)
                own_place, other_place = (m.on(batches - m.batches, self._size) for m in (first, second))
                mark = replace(own_place, others=other_place)
            batches += 1
            steps = zip(own, filling, strict=True)
            yield mark, [np.concatenate([self._numbered(a, n, 0), self._numbered(b, u, n)]) for a, b in steps]

    def _numbered(self, occurrences: np.ndarray, size: int, first: int) -> np.ndarray:
        """Return the numbers of occurrences among all clips, given those among the `size` clips from `first` on."""
        return first + occurrences % size + len(self.lengths) * (occurrences // size)


def train_sampler(
    make: Callable[[Array, int, int | None, Sequence[Source]], TrainSampler],
    lengths: Array,
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


def filling(captioned: TrainSampler, sources: Sequence[Source], lengths: Array, budget: int) -> list[Source]:
    """Return what an epoch takes of the clips without captions: enough to fill their share of every batch.

    Args:
        captioned: sampler of the clips with captions.
        sources: manifests of the u clips without captions, once each.
        lengths: (u,) lengths of these clips, in samples.
        budget: samples of each batch that they fill.
    """
    # Of one process, and of one section, since the number of processes may change within an epoch.
    alone = replace(captioned, rank=0, world_size=1, step_batches=None)
    steps = alone.sections * alone.steps_in(0)
    total = max(ceil(steps * budget / float(sample_of(lengths, SAMPLED).mean())), len(sources))
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
