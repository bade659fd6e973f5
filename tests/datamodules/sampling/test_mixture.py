"""Mixtures of corpora: shares of an epoch, every clip equally often, and metrics by source."""

from collections import Counter

import numpy as np
import pytest
import soundfile

from epochs import epoch, tokenize
from slap.datamodules import AudioTextData, Clip, write_manifest
from slap.datamodules.augment.basic import Mix
from slap.datamodules.sampling.epoch import Source
from slap.datamodules.sampling.mixture import NamedManifests, occurrences_of, shares
from slap.datamodules.sampling.sampler import TrainSampler

RATE = 16_000
SIZES = {"large": 20, "small": 4, "other": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write a manifest for each name in `SIZES`; clips of 0.1 to 0.3 s."""
    folder = tmp_path_factory.mktemp("corpora")
    rng = np.random.default_rng(0)
    for name, size in SIZES.items():
        clips = []
        for i in range(size):
            soundfile.write(folder / f"{name}{i}.wav", rng.uniform(-0.5, 0.5, rng.integers(1600, 4800)), RATE)
            clips.append(Clip(f"{name}{i}", folder / f"{name}{i}.wav", [f"{name} {i}"], {"corpus": name}))
        write_manifest(folder / f"{name}.jsonl", clips)
    return folder


def module(folder, train=("large", "small", "other"), **options):
    named = {name: folder / f"{name}.jsonl" for name in train} if not isinstance(train, dict) else train
    data = AudioTextData(named, max_duration=1.5, max_clip=None, **{"num_buckets": 2, **options})
    data.connect(RATE, tokenize)
    return data


def corpus(name):
    return name.rstrip("0123456789")


def ids(batches):
    return [name for batch in batches for name in batch.ids]


# -- shares -----------------------------------------------------------------------------------------------------------


def test_shares():
    assert shares({"a": 90, "b": 10}, temperature=1.0) == pytest.approx({"a": 0.9, "b": 0.1})
    assert shares({"a": 90, "b": 10}, temperature=2.0) == pytest.approx({"a": 0.75, "b": 0.25})
    assert shares({"a": 90, "b": 10}, temperature=1e9) == pytest.approx({"a": 0.5, "b": 0.5})
    assert shares({"a": 10**9, "b": 1}, temperature=0.01) == pytest.approx({"a": 1.0, "b": 0.0})
    assert shares({"a": 90, "b": 10}, {"a": 1, "b": 3}) == {"a": 0.25, "b": 0.75}


def test_occurrences_are_whole_and_none_is_left_out():
    rng = np.random.default_rng(0)
    for _ in range(300):
        parts = rng.exponential(1, rng.integers(1, 9)) ** 4
        total = int(rng.integers(len(parts), 60))
        occurrences = occurrences_of(parts.tolist(), total)
        assert sum(occurrences) == total
        assert min(occurrences) >= 1
        exact = parts / parts.sum() * total
        if exact.min() >= 1:
            assert np.abs(occurrences - exact).max() < 1


def test_an_epoch_holds_the_shares(folder):
    data = module(folder, weights={"large": 1, "small": 2, "other": 1}, epoch_clips=40)
    for number in range(3):
        counts = Counter(map(corpus, ids(epoch(data, number))))
        assert counts == {"large": 10, "small": 20, "other": 10}


def test_an_epoch_is_as_long_as_the_corpora_together(folder):
    counts = Counter(map(corpus, ids(epoch(module(folder, temperature=1e9)))))
    assert counts == {"large": 10, "small": 10, "other": 10}
    assert Counter(map(corpus, ids(epoch(module(folder, temperature=1.0))))) == SIZES


def test_over_epochs_no_clip_comes_twice_more_than_another(folder):
    """Pass through the large corpus once in two epochs, the small one five times in two."""
    data = module(folder, temperature=1e9)
    seen = Counter()
    for number in range(4):
        mine = Counter(ids(epoch(data, number)))
        seen += mine
        for name in SIZES:
            of_corpus = [seen[f"{name}{i}"] for i in range(SIZES[name])]
            assert max(of_corpus) - min(of_corpus) <= 1
    assert {seen[f"large{i}"] for i in range(20)} == {2}
    assert {seen[f"small{i}"] for i in range(4)} == {10}


def test_a_clip_that_comes_again_is_drawn_anew(folder):
    """Let its occurrences differ, so that crops and transforms do."""
    sampler = module(folder, temperature=1e9).train_dataloader().sampler
    occurrences = [occurrence for draw in sampler for occurrence in draw.clips]
    assert len(set(occurrences)) == len(occurrences) == 30
    assert len({occurrence % 30 for occurrence in occurrences}) < 30


def test_a_source_of_several_manifests_shares_by_size(folder):
    both = {"both": [folder / "small.jsonl", folder / "large.jsonl"], "other": folder / "other.jsonl"}
    data = module(folder, both, weights={"both": 2, "other": 1}, epoch_clips=36)
    batches = epoch(data)
    assert Counter(map(corpus, ids(batches))) == {"large": 20, "small": 4, "other": 12}
    for batch in batches:
        assert batch.source.tolist() == [int(corpus(name) == "other") for name in batch.ids]


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_an_epoch(folder, world):
    lengths = np.full(30, 1000)
    sources = [Source(0, 20, taken=12), Source(20, 4, taken=10), Source(24, 6, taken=8)]
    ranks = []
    for rank in range(world):
        sampler = TrainSampler(lengths, 3000, None, 1, 0, rank, world, sources)
        sampler.set_epoch(5)
        ranks.append([draw.clips for draw in sampler])
    assert len({len(draws) for draws in ranks}) == 1
    occurrences = [occurrence for draws in ranks for clips in draws for occurrence in clips]
    assert Counter(bool(occurrence % 30 >= 20) + bool(occurrence % 30 >= 24) for occurrence in occurrences) == {
        0: 12,
        1: 10,
        2: 8,
    }


@pytest.mark.parametrize("world", [1, 2])
def test_storage_in_parts_is_read_part_by_part(world):
    source = Source(0, 60, parts=np.arange(0, 61, 10), taken=25)
    seen = Counter()
    for number in range(12):
        made = TrainSampler(np.full(65, 100), 500, None, 1, 0, 0, world, [source, Source(60, 5, taken=5)])
        occurrences = np.concatenate([batch for step in made.steps(number) for batch in step])
        assert len(set(occurrences.tolist())) == len(occurrences) == 30
        mine = occurrences[occurrences % 65 < 60] % 65
        assert len(set((mine // 10).tolist())) <= 4  # 25 clips in a row touch no more parts of 10
        seen += Counter(mine.tolist())
    assert {seen[clip] for clip in range(60)} == {5}


def test_the_same_seed_gives_the_same_mixture(folder):
    one, again, other = (module(folder, temperature=3.0, seed=seed) for seed in (0, 0, 1))
    assert ids(epoch(one, 2)) == ids(epoch(again, 2)) != ids(epoch(other, 2))


def test_names_alone_change_no_batch(folder):
    """Names, without shares, only tell sources apart."""
    named = epoch(module(folder))
    plain = module(folder)
    plain = AudioTextData([folder / f"{name}.jsonl" for name in SIZES], max_duration=1.5, max_clip=None, num_buckets=2)
    plain.connect(RATE, tokenize)
    for one, other in zip(named, epoch(plain), strict=True):
        assert one.ids == other.ids
        assert one.captions == other.captions
        assert other.source.tolist() == [0] * len(other)
    assert plain.source_names == {"train": (), "val": (), "test": ()}


# -- sources of clips -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_say_which_source_a_clip_is_from(folder, workers):
    data = module(folder, temperature=1.0, num_workers=workers, transforms=[Mix(probability=0.5)])
    assert data.source_names["train"] == ("large", "small", "other")
    batches = epoch(data)
    for batch in batches:
        first = [corpus(name.split("+")[0]) for name in batch.ids]  # a mix counts for the clip that it began with
        assert batch.source.tolist() == [list(SIZES).index(name) for name in first]
    assert any("+" in name for name in ids(batches))
    data.teardown("fit")


def test_evaluation_says_so_too(folder):
    val = {name: folder / f"{name}.jsonl" for name in ("other", "small")}
    data = AudioTextData(folder / "large.jsonl", val, max_duration=1.5, window=0.2, max_clip=None)
    data.connect(RATE, tokenize)
    batches = list(data.val_dataloader())
    for batch in batches:
        assert batch.source.tolist() == [int(corpus(name) == "small") for name in batch.ids]
    assert {corpus(name) for name in ids(batches)} == {"other", "small"}
    assert len(ids(batches)) > len(set(ids(batches)))  # windows of clips


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"large": 1}}, "weights must give each of large, small, other a number above 0"),
        ({"weights": {"large": 1, "small": 0, "other": 1}}, "a number above 0"),
        ({"weights": {"large": 1, "small": 1, "othr": 1}}, "they are {'large': 1, 'small': 1, 'othr': 1}"),
        ({"temperature": 0}, "temperature must be above 0, got 0"),
        ({"temperature": 2, "weights": {"large": 1, "small": 1, "other": 1}}, "give one of them"),
        ({"temperature": 2, "repeats": 3}, r"got repeats=\[3, 3, 3\] too"),
        ({"epoch_clips": 10}, "it needs weights or a temperature"),
        ({"temperature": 2, "epoch_clips": 2}, "at least the 3 sources, got 2"),
    ],
)
def test_what_is_no_mixture_is_refused_at_once(folder, options, message):
    with pytest.raises(ValueError, match=message):
        module(folder, **options)


def test_sources_need_names_and_clips(folder):
    with pytest.raises(ValueError, match="shares need sources with names"):
        AudioTextData([folder / "large.jsonl"], temperature=2.0)
    with pytest.raises(ValueError, match="the source 'a' has no manifest"):
        NamedManifests.of({"a": []})
    with pytest.raises(ValueError, match="without slashes, as logs show it; got 'a/b'"):
        NamedManifests.of({"a/b": "x.csv"})
    with pytest.raises(ValueError, match="no clips are left of small, so they can have no share"):
        module(folder, temperature=2.0, min_clip=0.25).train_dataloader()
    with pytest.raises(ValueError, match="no training clip is left"):
        module(folder, temperature=2.0, min_clip=1.0).train_dataloader()
