"""A position in an epoch means the same to any number of processes: no clip is lost, and none comes twice."""

from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from slap.datamodules.sampling.epoch import Source
from slap.datamodules.sampling.mixed import train_sampler
from slap.datamodules.sampling.position import Position, position_in, state
from slap.datamodules.sampling.sampler import TrainSampler

RATE = 1000
BUDGET = 20 * RATE
N = 800


def lengths(count: int = N) -> np.ndarray:
    return (np.clip(np.random.default_rng(1).lognormal(0.5, 1, count), 0.1, 8) * RATE).astype(np.int64)


def parts(count: int, part: int = 40) -> np.ndarray:
    return np.array([*range(0, count, part), count])


KINDS = {
    "any order": {},
    "length classes": {"num_buckets": 5},
    "a floor of clips": {"num_buckets": 5, "min_clips": 3, "max_clips": 30},
    "shards": {"sources": [Source(0, N, parts=parts(N))]},
    "shares": {"sources": [Source(0, N // 2, taken=280, parts=parts(N // 2)), Source(N // 2, N // 2, taken=360)]},
    "repeats": {"sources": [Source(0, N // 2, repeats=3, parts=parts(N // 2)), Source(N // 2, N // 2)]},
}


def sampler(world: int, **options) -> TrainSampler:
    given = {"max_clips": None, "num_buckets": 1, "seed": 3, **options}
    return TrainSampler(lengths(), BUDGET, world_size=world, **given)


def occurrences(made: TrainSampler, epoch: int) -> Counter[int]:
    """Return what an epoch of one process holds."""
    alone = replace(made, world_size=1, rank=0, step_batches=None)
    return Counter(np.concatenate([batch for step in alone.steps(epoch) for batch in step]).tolist())


@pytest.mark.parametrize("shuffle_clips", [10**6, 180])
@pytest.mark.parametrize("worlds", [(4, 3, 4), (2, 7, 1), (1, 5), (8, 8, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_no_clip_is_lost_or_comes_twice(kind: str, worlds: tuple[int, ...], shuffle_clips: int) -> None:
    position, seen = Position(1), Counter[int]()
    for number, world in enumerate(worlds):
        made = sampler(world, **KINDS[kind], shuffle_clips=shuffle_clips)
        made.begin_at(position)
        steps = [step for _, step in islice(made.walk(position), 7 if number < len(worlds) - 1 else None)]
        requests = list(islice(made, len(steps)))
        assert [request.clips for request in requests] == [tuple(step[0].tolist()) for step in steps]
        for step in steps:
            assert len(step) == world
            assert max(made.lengths[batch % N].sum() for batch in step) <= BUDGET
            seen += Counter(np.concatenate(step).tolist())
        position = made.position(1, position.batches + len(steps))
        assert Position.of(state(position, {})) == position
    assert seen == occurrences(made, 1)
    assert (made.sections > 1) == (shuffle_clips == 180)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kept_batch_has_the_same_clips_on_any_number_of_processes(kind: str) -> None:
    whole = [sorted(np.concatenate(step).tolist()) for step in sampler(4, **KINDS[kind]).steps(0)]
    for world in (1, 3, 4, 6):
        made = sampler(world, **KINDS[kind], step_batches=4)
        steps = list(made.steps(0))
        assert [sorted(np.concatenate(step).tolist()) for step in steps] == whole
        sums = np.array([[made.lengths[batch % N].sum() for batch in step] for step in steps])
        assert sums.shape == (len(whole), world)
        assert sums.max() <= 4 / world * BUDGET + made.lengths.max()


def test_the_position_is_found_with_the_batches_given_ahead_and_those_before_it_are_forgotten() -> None:
    made = sampler(2, shuffle_clips=180)
    given = iter(made)
    whole = list(made)
    list(islice(given, len(whole) - 1))  # as a loader does that is far ahead
    middle = len(whole) // 2
    position = made.position(0, middle)
    assert position.section == 2
    assert position.legs == ((2, middle - position.begun),)
    assert made.position(0, middle) == position
    again = sampler(2, shuffle_clips=180)
    again.begin_at(position)
    assert list(again) == whole[middle:]
    counted = sampler(2, shuffle_clips=180)
    counted.begin_at(Position(0, middle))  # without legs: batches of as many processes as there are
    assert list(counted) == whole[middle:]


def test_only_the_section_of_the_position_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []
    whole = TrainSampler._steps_of
    monkeypatch.setattr(
        TrainSampler,
        "_steps_of",
        lambda self, epoch, number, legs: computed.append(number) or whole(self, epoch, number, legs),
    )
    made = sampler(2, shuffle_clips=180)
    made.begin_at(Position(0, 54, section=3, begun=50, legs=((4, 2), (2, 2))))
    next(iter(made))
    assert computed == [3]


@pytest.mark.parametrize("shuffle_clips", [10**6, 120])
def test_clips_without_captions_go_on_too(shuffle_clips: int) -> None:
    def made(world: int):
        def make(sizes, samples, clips, sources):
            return TrainSampler(sizes, samples, clips, 3, 1, 0, world, sources, shuffle_clips=shuffle_clips)

        sources = [Source(0, 600)], [Source(600, 200)]
        return train_sampler(make, lengths(), [(15 * RATE, None), (10 * RATE, None)], *sources)

    whole = [step for _, step in made(4).walk(Position())]
    cut = [step for _, step in islice(made(4).walk(Position()), 5)]
    first = made(4)
    first.begin_at(Position())
    assert [list(request.clips) for request in islice(first, 5)] == [step[0].tolist() for step in cut]
    position = first.position(0, 5)
    again = made(4)
    rest = [step for _, step in again.walk(position)]
    assert [[b.tolist() for b in step] for step in cut + rest] == [[b.tolist() for b in step] for step in whole]
    three = [step for _, step in made(3).walk(position)]
    seen = Counter(np.concatenate([batch for step in cut + three for batch in step]).tolist())
    assert Counter({clip: times for clip, times in seen.items() if clip % N < 600}) == Counter(range(600))
    assert all(any(clip % N >= 600 for clip in batch.tolist()) for step in three for batch in step)
    assert made(3).others.sources == made(4).others.sources
    next(first.requests(1))  # as workers ask for it that are ahead
    assert first.position(1, 0) == Position(1)


def test_another_number_of_processes_is_no_other_data() -> None:
    from slap.datamodules.sampling.basis import basis

    keys = np.arange(N)
    known = basis(keys, sampler(4))
    assert known == basis(keys, sampler(3))
    assert position_in(state(Position(1, 5, legs=((4, 5),)), known), basis(keys, sampler(3))) == Position(
        1, 5, legs=((4, 5),)
    )
    assert basis(keys, sampler(4, shuffle_clips=180)) != known


def test_sections_hold_every_clip_once_and_mix_distant_ones() -> None:
    made = sampler(1, shuffle_clips=200)
    order = np.concatenate([batch for step in made.steps(0) for batch in step])
    assert Counter(order.tolist()) == Counter(range(N))
    large = TrainSampler(np.full(40_000, 100), 2000, None, 1, 0, shuffle_clips=10_000)
    order = np.concatenate([batch for step in large.steps(0) for batch in step])
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.15  # of 40 runs of neighbors, ten are in a section
    assert not np.array_equal(order, np.concatenate([batch for step in large.steps(1) for batch in step]))
