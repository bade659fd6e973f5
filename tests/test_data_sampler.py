"""Batches from lengths: the hard cap, every clip once, the same steps everywhere."""

import random
from collections import Counter
from itertools import chain

import pytest

from slap.datamodules.budget import Budget, Item, share_out
from slap.datamodules.sampler import Draw, EvaluationSampler, TrainSampler

RATE = 1000


def lengths(count: int, longest: float, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [max(1, min(round(rng.lognormvariate(0.5, 1) * RATE), round(longest * RATE))) for _ in range(count)]


def epoch(lengths: list[int], budget: float, *, world: int = 1, number: int = 0, **options) -> list[list[Draw]]:
    """The draws of each process."""
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
    draws = list(chain.from_iterable(ranks))
    assert max(sum(sizes[i] for i in draw.clips) for draw in draws) <= budget * RATE
    assert max(len(draw.clips) for draw in draws) <= (max_clips or count)
    assert min(len(draw.clips) for draw in draws) >= 1
    assert len({len(rank) for rank in ranks}) == 1
    assert Counter(chain.from_iterable(draw.clips for draw in draws)) == Counter(range(count))


@pytest.mark.parametrize("seed", range(20))
def test_hard_cap_at_many_seeds(seed: int) -> None:
    """Lhotse's own budget overshoots up to twofold; see also that no clip is lost in its empty buckets."""
    rng = random.Random(seed)
    sizes = lengths(rng.randint(1, 400), rng.uniform(1, 30), seed)
    budget = max(sizes) / RATE * rng.uniform(1, 5)
    world = rng.choice([1, 1, 2, 3])
    ranks = epoch(sizes, budget, world=world, num_buckets=rng.randint(1, 40), seed=seed, number=seed)
    draws = list(chain.from_iterable(ranks))
    assert max(sum(sizes[i] for i in draw.clips) for draw in draws) <= round(budget * RATE)
    assert {i for draw in draws for i in draw.clips} == set(range(len(sizes)))
    assert len({len(rank) for rank in ranks}) == 1


def test_budget_is_used() -> None:
    sizes = lengths(3000, 30.0)
    (draws,) = epoch(sizes, 100.0)
    filled = [sum(sizes[i] for i in draw.clips) / (100 * RATE) for draw in draws]
    assert sum(filled) / len(filled) > 0.93
    assert min(filled) > 0.5  # the last batches of an epoch are shared out, none is a stub


def test_more_processes_than_clips_repeat_clips() -> None:
    ranks = epoch([100, 200, 300], 1.0, world=5)
    assert [len(rank) for rank in ranks] == [1] * 5
    clips = Counter(i for rank in ranks for draw in rank for i in draw.clips)
    assert set(clips) == {0, 1, 2}
    assert max(clips.values()) == 2


def test_buckets_gather_similar_lengths() -> None:
    sizes = lengths(3000, 30.0)

    def spread(buckets: int) -> float:
        (draws,) = epoch(sizes, 100.0, num_buckets=buckets)
        ranges = [max(sizes[i] for i in draw.clips) / min(sizes[i] for i in draw.clips) for draw in draws]
        return sorted(ranges)[len(ranges) // 2]

    assert spread(30) < 2 < 10 < spread(1)


def test_epochs_differ_and_seeds_decide() -> None:
    sizes = lengths(300, 10.0)
    first, again, second = (epoch(sizes, 30.0, number=number) for number in (0, 0, 1))
    other = epoch(sizes, 30.0, seed=1)
    assert first == again
    assert {draw.epoch for draw in second[0]} == {1}
    batches = [[draw.clips for draw in ranks[0]] for ranks in (first, second, other)]
    assert batches[0] != batches[1]
    assert batches[0] != batches[2]


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
    draws = list(chain.from_iterable(ranks))
    assert sorted(i for draw in draws for i in draw.clips) == list(range(count))
    assert max(sum(sizes[i] for i in draw.clips) for draw in draws) <= budget * RATE
    assert max(len(draw.clips) for draw in draws) <= (max_clips or count)
    assert max(map(len, ranks)) - min(map(len, ranks)) <= (1 if count < 10 else 0)


def test_evaluation_with_more_processes_than_clips() -> None:
    ranks = [list(EvaluationSampler([10, 20], 100, None, rank, 3)) for rank in range(3)]
    assert [[draw.clips for draw in rank] for rank in ranks] == [[(0,)], [(1,)], []]


def test_share_out_is_even_and_respects_its_limits() -> None:
    items = [Item(i, size) for i, size in enumerate([7, 5, 4, 3, 3, 2])]  # 24 in all
    batches = share_out(items, max_samples=12, max_clips=None, multiple=1)
    assert [sum(item.samples for item in batch) for batch in batches] == [12, 12]
    batches = share_out(items, max_samples=12, max_clips=2, multiple=2)
    assert len(batches) == 4
    assert max(len(batch) for batch in batches) <= 2
    assert sorted(item.index for batch in batches for item in batch) == list(range(6))
    batches = share_out([Item(0, 3), Item(1, 3), Item(2, 3)], max_samples=5, max_clips=None, multiple=2)
    assert len(batches) == 3


def test_budget_ends_a_batch_before_it_can_overflow() -> None:
    budget = Budget(max_samples=100, max_clips=None, bounds=[20, 50])
    for size in (15, 18, 17, 19):  # up to 20 may follow each
        budget.add(Item(0, size))
        assert not budget.close_to_exceeding()
    budget.add(Item(0, 12))  # 81
    assert budget.close_to_exceeding()
    assert not budget.exceeded()
