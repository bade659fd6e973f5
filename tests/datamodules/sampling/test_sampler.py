"""Batches from lengths: the hard cap, every clip once, the same steps everywhere."""

import random
import time
from collections import Counter
from itertools import chain

import numpy as np
import pytest

from slap.datamodules.sampling import epoch as epoch_module
from slap.datamodules.sampling.batching import balanced_batches, bucket_bounds, fill, widened
from slap.datamodules.sampling.epoch import Source
from slap.datamodules.sampling.position import Position
from slap.datamodules.sampling.sampler import BatchRequest, EvaluationSampler, TrainSampler

RATE = 1000


def lengths(count: int, longest: float, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [max(1, min(round(rng.lognormvariate(0.5, 1) * RATE), round(longest * RATE))) for _ in range(count)]


def epoch(lengths: list[int], budget: float, *, world: int = 1, number: int = 0, **options) -> list[list[BatchRequest]]:
    """Return the requests of each process."""
    ranks = []
    for rank in range(world):
        arguments = {"max_clips": None, "num_buckets": 10, "seed": 0, **options}
        sampler = TrainSampler(lengths, round(budget * RATE), rank=rank, world_size=world, **arguments)
        sampler.set_epoch(number)
        ranks.append(list(sampler))
    return ranks


CORPORA = [
    (3000, 30.0, 100.0, None),
    (500, 7.0, 60.0, 20),
    (500, 20.0, 20.0, None),
    (37, 5.0, 12.0, 3),
    (5, 3.0, 4.0, None),
]


@pytest.mark.parametrize(("count", "longest", "budget", "max_clips"), CORPORA)
@pytest.mark.parametrize("buckets", [1, 2, 10, 30])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_hard_cap_every_clip_once_and_equal_steps(
    count: int, longest: float, budget: float, max_clips: int | None, buckets: int, world: int
) -> None:
    sizes = lengths(count, longest)
    ranks = epoch(sizes, budget, world=world, max_clips=max_clips, num_buckets=buckets)
    requests = list(chain.from_iterable(ranks))
    assert max(sum(sizes[i] for i in request.clips) for request in requests) <= budget * RATE
    assert max(len(request.clips) for request in requests) <= (max_clips or count)
    assert min(len(request.clips) for request in requests) >= 1
    assert len({len(rank) for rank in ranks}) == 1
    assert Counter(chain.from_iterable(request.clips for request in requests)) == Counter(range(count))


@pytest.mark.parametrize("seed", range(20))
def test_hard_cap_at_many_seeds(seed: int) -> None:
    """Lhotse's own budget overshoots up to twofold; see also that no clip is lost in its empty buckets."""
    rng = random.Random(seed)
    sizes = lengths(rng.randint(1, 400), rng.uniform(1, 30), seed)
    budget = max(sizes) / RATE * rng.uniform(1, 5)
    world = rng.choice([1, 1, 2, 3])
    ranks = epoch(sizes, budget, world=world, num_buckets=rng.randint(1, 40), seed=seed, number=seed)
    requests = list(chain.from_iterable(ranks))
    assert max(sum(sizes[i] for i in request.clips) for request in requests) <= round(budget * RATE)
    assert {i for request in requests for i in request.clips} == set(range(len(sizes)))
    assert len({len(rank) for rank in ranks}) == 1


def test_budget_is_used() -> None:
    sizes = lengths(3000, 30.0)
    (requests,) = epoch(sizes, 100.0)
    filled = [sum(sizes[i] for i in request.clips) / (100 * RATE) for request in requests]
    assert sum(filled) / len(filled) > 0.93
    assert min(filled) > 0.5  # the last batches of an epoch are shared out, none is a stub


def test_more_processes_than_clips_repeat_clips() -> None:
    ranks = epoch([100, 200, 300], 1.0, world=5)
    assert [len(rank) for rank in ranks] == [1] * 5
    clips = Counter(i for rank in ranks for request in rank for i in request.clips)
    assert set(clips) == {0, 1, 2}
    assert max(clips.values()) == 2


def test_buckets_gather_similar_lengths() -> None:
    sizes = lengths(3000, 30.0)

    def spread(buckets: int) -> float:
        (requests,) = epoch(sizes, 100.0, num_buckets=buckets)
        ranges = [max(sizes[i] for i in request.clips) / min(sizes[i] for i in request.clips) for request in requests]
        return sorted(ranges)[len(ranges) // 2]

    assert spread(30) < 2 < 10 < spread(1)


def test_epochs_differ_and_seeds_decide() -> None:
    sizes = lengths(300, 10.0)
    first, again, second = (epoch(sizes, 30.0, number=number) for number in (0, 0, 1))
    other = epoch(sizes, 30.0, seed=1)
    assert first == again
    assert {request.epoch for request in second[0]} == {1}
    batches = [[request.clips for request in ranks[0]] for ranks in (first, second, other)]
    assert batches[0] != batches[1]
    assert batches[0] != batches[2]


@pytest.mark.parametrize("rank", [0, 1])
def test_an_epoch_is_entered_in_its_middle(rank: int) -> None:
    made = TrainSampler(np.arange(1, 400), 1000, None, 3, seed=5, rank=rank, world_size=2)
    made.set_epoch(2)
    whole = list(made)
    made.begin_at(Position(2, 4))
    assert list(made) == list(made) == whole[4:]  # iterating again begins there again
    made.set_epoch(3)
    after = list(made)
    assert after == list(TrainSampler(np.arange(1, 400), 1000, None, 3, 5, rank, 2, epoch=3))


def test_iterating_again_begins_the_epoch_again() -> None:
    sampler = TrainSampler(lengths(300, 10.0), 30 * RATE, None, 10, 0)
    begun = iter(sampler)
    head = [next(begun) for _ in range(3)]
    whole = list(sampler)
    assert whole[:3] == head
    assert [*head, *begun] == whole  # and the first one goes on undisturbed


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize(("count", "longest", "budget", "max_clips"), CORPORA)
def test_evaluation_covers_each_clip_exactly_once(
    count: int, longest: float, budget: float, max_clips: int | None, world: int
) -> None:
    sizes = lengths(count, longest)
    ranks = [list(EvaluationSampler(sizes, round(budget * RATE), max_clips, rank, world)) for rank in range(world)]
    requests = list(chain.from_iterable(ranks))
    assert sorted(i for request in requests for i in request.clips) == list(range(count))
    assert max(sum(sizes[i] for i in request.clips) for request in requests) <= budget * RATE
    assert max(len(request.clips) for request in requests) <= (max_clips or count)
    assert max(map(len, ranks)) - min(map(len, ranks)) <= (1 if count < 10 else 0)


def test_evaluation_with_more_processes_than_clips() -> None:
    ranks = [list(EvaluationSampler([10, 20], 100, None, rank, 3)) for rank in range(3)]
    assert [[request.clips for request in rank] for rank in ranks] == [[(0,)], [(1,)], []]


def test_balanced_batches_are_even_and_respects_its_limits() -> None:
    sizes = np.array([7, 5, 4, 3, 3, 2])  # 24 in all
    batches = balanced_batches(sizes, max_samples=12, max_clips=None, multiple=1)
    assert [sizes[batch].sum() for batch in batches] == [12, 12]
    batches = balanced_batches(sizes, max_samples=12, max_clips=2, multiple=2)
    assert len(batches) == 4
    assert max(len(batch) for batch in batches) <= 2
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(6))
    batches = balanced_batches(np.array([3, 3, 3]), max_samples=5, max_clips=None, multiple=2)
    assert len(batches) == 3


@pytest.mark.parametrize("max_clips", [None, 7])
def test_fill_does_what_a_loop_would(max_clips: int | None) -> None:
    sizes = np.array(lengths(2000, 20.0))
    bounds = bucket_bounds(sizes, 6)
    cap = 50 * RATE
    full: list[list[int]] = []
    opened: dict[int, list[int]] = {}
    for place, size in enumerate(sizes.tolist()):
        bucket = sum(size > bound for bound in bounds.tolist())
        batch = opened.setdefault(bucket, [])
        if batch and (sum(sizes[batch]) + size > cap or len(batch) == max_clips):
            full.append(batch)
            batch = opened[bucket] = []
        batch.append(place)
    batches, rest = fill(sizes, bounds, cap, max_clips)
    assert [batch.tolist() for batch in batches] == sorted(full, key=lambda batch: batch[-1])
    assert sorted(rest.tolist()) == sorted(place for batch in opened.values() for place in batch)


def test_buckets_hold_equally_much_audio() -> None:
    sizes = np.array(lengths(3000, 30.0))
    buckets = np.searchsorted(bucket_bounds(sizes, 5), sizes)
    shares = [sizes[buckets == bucket].sum() / sizes.sum() for bucket in range(5)]
    assert shares == pytest.approx([0.2] * 5, abs=0.02)
    assert bucket_bounds(np.array([5, 5, 5]), 10).tolist() == [5]


def test_a_million_clips_within_the_cap_in_seconds() -> None:
    sizes = np.clip(np.random.default_rng(0).lognormal(1.6, 0.8, 1_000_000) * 16000, 8000, 480_000).astype(np.int64)
    started = time.perf_counter()
    sampler = TrainSampler(sizes, 200 * 16000, None, 10, 0, rank=1, world_size=2)
    first = next(iter(sampler))
    assert time.perf_counter() - started < 10
    assert sizes[list(first.clips)].sum() <= 200 * 16000
    seen = np.zeros(len(sizes), dtype=np.int8)
    for step in sampler.steps(0):
        for batch in step:
            assert sizes[batch].sum() <= 200 * 16000
            seen[batch] += 1
    assert (seen == 1).all()


def parted(sizes: list[int], part: int) -> Source:
    return Source(0, len(sizes), parts=np.array([*range(0, len(sizes), part), len(sizes)]))


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize(("count", "part"), [(3000, 50), (3000, 2000), (40, 7), (5, 2)])
def test_storage_in_parts_every_clip_once_capped_and_in_step(count: int, part: int, world: int) -> None:
    sizes = lengths(count, 4.0)
    ranks = epoch(sizes, 20.0, world=world, sources=[parted(sizes, part)])
    requests = list(chain.from_iterable(ranks))
    assert max(sum(sizes[i] for i in request.clips) for request in requests) <= 20 * RATE
    assert len({len(rank) for rank in ranks}) == 1
    counts = Counter(chain.from_iterable(request.clips for request in requests))
    assert set(counts) == set(range(count))
    assert max(counts.values()) == 1 or count < 10


def test_processes_read_different_parts_and_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch_module, "WINDOW", 100)
    sizes = lengths(6000, 4.0)
    ranks = epoch(sizes, 20.0, world=3, sources=[parted(sizes, 50)])
    parts = [{i // 50 for request in rank for i in request.clips} for rank in ranks]
    assert len(parts[0] & parts[1]) + len(parts[1] & parts[2]) + len(parts[0] & parts[2]) <= 2
    for rank in ranks:
        parts = [{i // 50 for request in rank[k : k + 4] for i in request.clips} for k in range(0, len(rank) - 20, 4)]
        assert sum(map(len, parts)) / len(parts) < 12  # of 120, with the long clips' batches that fill slowly
    other = epoch(sizes, 20.0, world=3, number=1, sources=[parted(sizes, 50)])
    assert other != ranks
    assert epoch(sizes, 20.0, world=3, sources=[parted(sizes, 50)]) == ranks


def test_sources_advance_alike_and_repeats_are_occurrences_of_their_own() -> None:
    sizes = [RATE] * 1000
    sources = [Source(0, 600, repeats=1), Source(600, 400, repeats=3, parts=np.arange(0, 401, 10))]
    for world in (1, 2):
        ranks = epoch(sizes, 20.0, world=world, sources=sources)
        occurrences = Counter(chain.from_iterable(request.clips for rank in ranks for request in rank))
        assert set(occurrences.values()) == {1}
        assert Counter(occurrence % 1000 for occurrence in occurrences) == {i: 1 if i < 600 else 3 for i in range(1000)}
        for rank in ranks:
            half = [occurrence % 1000 < 600 for request in rank[: len(rank) // 2] for occurrence in request.clips]
            assert sum(half) / len(half) == pytest.approx(1 / 3, abs=0.05)


FLOORS = [
    (3000, 30.0, 200.0, 24, None),
    (3000, 30.0, 200.0, 24, 60),
    (900, 10.0, 100.0, 16, 40),
    (900, 10.0, 30.0, 6, None),
    (40, 2.0, 40.0, 8, None),
]


@pytest.mark.parametrize(("count", "longest", "budget", "least", "most"), FLOORS)
@pytest.mark.parametrize("buckets", [1, 4, 30])
@pytest.mark.parametrize("world", [1, 3])
def test_no_batch_has_fewer_clips_than_the_floor(count, longest, budget, least, most, buckets, world):
    sizes = lengths(count, longest)
    for number in range(3):
        options = {"max_clips": most, "num_buckets": buckets, "min_clips": least, "number": number}
        ranks = epoch(sizes, budget, world=world, **options)
        requests = list(chain.from_iterable(ranks))
        clips = [len(request.clips) for request in requests]
        assert min(clips) >= least
        assert max(clips) <= (most or count)
        assert max(sum(sizes[i] for i in request.clips) for request in requests) <= budget * RATE
        assert Counter(chain.from_iterable(request.clips for request in requests)) == Counter(range(count))
        assert len({len(rank) for rank in ranks}) == 1


def test_a_floor_joins_only_the_buckets_that_need_it():
    sizes = np.array(lengths(5000, 30.0))
    bounds = bucket_bounds(sizes, 30)
    joined = widened(sizes, bounds, 200 * RATE, 20)
    assert 1 < len(joined) < len(bounds)
    assert set(joined) <= set(bounds)
    assert list(joined[:8]) == list(bounds[:8])  # short clips keep their classes
    without = [len(request.clips) for request in epoch(sizes.tolist(), 200.0, num_buckets=30)[0]]
    floored = [len(request.clips) for request in epoch(sizes.tolist(), 200.0, num_buckets=30, min_clips=20)[0]]
    assert min(without) < 10
    assert min(floored) >= 20


def test_a_floor_that_does_not_fit_says_what_would():
    sizes = lengths(1000, 30.0)
    with pytest.raises(
        ValueError, match=r"min_clips=80 clips do not fit into a batch.* min_clips of at most (\d+)"
    ) as caught:
        epoch(sizes, 100.0, min_clips=80)
    most = int(str(caught.value).rsplit(" ", 1)[1])
    assert min(len(request.clips) for request in epoch(sizes, 100.0, min_clips=most)[0]) >= most
    with pytest.raises(
        ValueError, match=r"the 10 clips of an epoch make no batches of at least min_clips=4 for each of 3"
    ):
        epoch([100] * 10, 10.0, world=3, min_clips=4)
