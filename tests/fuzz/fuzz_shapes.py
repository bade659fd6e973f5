"""Packed batches of any shapes, and clips of any duration from one sample to an hour."""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from fuzz_tools import Rng
from lhotse.utils import compute_num_samples

from slap.core.packed import Packed
from slap.datamodules.manifests.sequence import samples_of
from slap.datamodules.sampling.eval_windows import segments_of
from slap.datamodules.sampling.sampler import EvaluationSampler, TrainSampler
from slap.model.masks import random_mask

HOUR = 3600


def packed(rng: Rng, folder: Path) -> None:
    """What a packed batch derives is what loops over its items give."""
    del folder
    width = tuple(rng.integers(1, 4, size=int(rng.integers(0, 3))).tolist())
    sizes = rng.integers(0, 9, size=int(rng.integers(1, 8))).tolist()
    items = [torch.from_numpy(rng.normal(size=(size, *width))) for size in sizes]
    batch = Packed.pack(items)
    assert batch.sizes == tuple(sizes)
    assert batch.max_length == max(sizes)
    assert batch.cu_seqlens.tolist() == [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    assert batch.item.tolist() == [i for i, size in enumerate(sizes) for _ in range(size)]
    assert batch.index.tolist() == [i for size in sizes for i in range(size)]
    _same(batch, items)
    _same(pickle.loads(pickle.dumps(batch)), items)
    chosen = rng.integers(len(sizes), size=int(rng.integers(1, 8))).tolist()
    _same(batch.take(torch.tensor(chosen)), [items[i] for i in chosen])
    if min(sizes) > 0:
        hidden = random_mask(batch, float(rng.random()))
        for part in hidden.split(sizes):
            assert not bool(part.all())  # of no clip everything is hidden


def _same(batch: Packed, items: list[torch.Tensor]) -> None:
    for got, item in zip(batch.unpack(), items, strict=True):
        assert torch.equal(got, item)


def durations(rng: Rng, folder: Path) -> None:
    """Clips from one sample to an hour: each comes once, no batch is above the budget, windows cover the long ones."""
    del folder
    rate = int(rng.choice([8000, 16000, 32000, 44100, 48000]))
    count = int(rng.integers(1, 40))
    seconds = np.exp(rng.uniform(np.log(1 / rate), np.log(HOUR), size=count))
    lengths = samples_of(seconds, rate)
    assert lengths.tolist() == [max(compute_num_samples(float(one), rate), 1) for one in seconds]
    budget = round(float(np.exp(rng.uniform(0, np.log(HOUR)))) * rate)
    crop = int(rng.integers(1, budget + 1))
    world = int(rng.integers(1, 4))
    most = None if rng.random() < 0.5 else int(rng.integers(1, 9))
    _train(np.minimum(lengths, crop), budget, most, world, int(rng.integers(1, 31)), int(rng.integers(100)))
    stretches = segments_of(lengths, budget)
    for number in range(count):
        spans = [stretches.span(int(i)) for i in np.flatnonzero(stretches.clip == number)]
        assert spans[0][0] == 0
        assert spans[-1][1] == lengths[number]
        assert all(after[0] <= before[1] for before, after in pairwise(spans))  # no gap
        assert all(0 < stop - start <= budget for start, stop in spans)
    seen: list[int] = []
    for rank in range(world):
        for draw in EvaluationSampler(stretches.lengths, budget, most, rank, world):
            assert stretches.lengths[list(draw.clips)].sum() <= budget
            seen += draw.clips
    assert sorted(seen) == list(range(len(stretches)))


def _train(lengths: np.ndarray, budget: int, most: int | None, world: int, buckets: int, seed: int) -> None:
    ranks = []
    for rank in range(world):
        sampler = TrainSampler(lengths, budget, most, buckets, seed, rank, world)
        sampler.set_epoch(seed % 3)
        ranks.append(list(sampler))
    assert len({len(draws) for draws in ranks}) == 1
    draws = [draw for rank in ranks for draw in rank]
    assert all(lengths[list(draw.clips)].sum() <= budget for draw in draws)
    assert all(1 <= len(draw.clips) <= (most or len(lengths)) for draw in draws)
    clips = [clip for draw in draws for clip in draw.clips]
    assert set(clips) == set(range(len(lengths)))
    # Only where fewer clips than processes are left for the last step, some of them come twice, alone in a batch.
    assert 0 <= len(clips) - len(lengths) < world
