"""Arrays that are read piece by piece are equal to arrays in memory, and are checked when they are read."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from epochs import epoch, tokenize
from slap.datamodules import AudioTextData, Clip, write_manifest
from slap.datamodules.manifests import cut_index, cuts, index_file
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.read import read_manifest
from slap.datamodules.manifests.sequence import ConcatClips, plan_of
from slap.datamodules.sampling.replacement import Replacements
from slap.datamodules.shar.write import pack
from slap.datamodules.stored import (
    JoinedArray,
    MappedArray,
    Stored,
    StoredArray,
    digest,
    joined,
    places_where,
    sample_of,
)


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, 5000)


@pytest.fixture
def stored(values: np.ndarray, tmp_path: Path) -> StoredArray:
    (tmp_path / "x").write_bytes(b"head" + values.tobytes())
    return StoredArray(tmp_path / "x", 4, len(values), values.dtype)


def test_what_is_read_is_what_is_there(values: np.ndarray, stored: StoredArray) -> None:
    twice = JoinedArray([stored, values[:7], stored])
    expected = np.concatenate([values, values[:7], values])
    squares = MappedArray(twice, np.square, "squared", np.int64)
    places = np.array([3, 4, 5, 4998, 5002, 5010, 0, 5])
    for found, wanted in ((stored, values), (twice, expected), (squares, expected**2)):
        assert len(found) == len(wanted)
        assert found[17] == wanted[17]
        assert found[-1] == wanted[-1]
        known = places[places < len(wanted)]
        for chosen in (known, known[:0], wanted > 500, slice(4990, 5005), slice(0, 100, 7)):
            np.testing.assert_array_equal(np.asarray(found[chosen]), wanted[chosen])
        np.testing.assert_array_equal(np.concatenate([piece for _, piece in found.pieces()]), wanted)
        np.testing.assert_array_equal(places_where(found, lambda some: some > 900), np.flatnonzero(wanted > 900))
        with pytest.raises(IndexError, match="none has the number 99999"):
            found[99999]
    np.testing.assert_array_equal(np.asarray(twice[10:4000][5:9]), expected[15:19])
    np.testing.assert_array_equal(np.asarray(pickle.loads(pickle.dumps(twice))), expected)
    assert digest(stored) == digest(values) == digest(stored[:])
    assert digest(twice) != digest(JoinedArray([values, stored, values[:7]]))
    assert isinstance(joined([values, stored], np.int64), Stored)
    assert joined([stored], np.int64) is stored
    assert set(sample_of(stored, 2048)) <= set(values)
    assert len(sample_of(stored, 2048)) == 2048


def test_a_file_that_has_become_shorter_is_named(stored: StoredArray) -> None:
    stored.path.write_bytes(b"head")
    with pytest.raises(OSError, match="has become shorter since it was opened"):
        stored[10]


def test_the_replacement_of_a_clip_of_very_many_is_one_of_its_neighbors(values, stored) -> None:
    few, many = Replacements(values + 1), Replacements(MappedArray(stored, lambda some: some + 1, "+ 1", np.int64))
    found = {many.of(0, 2500, attempt) for attempt in range(50)}
    assert len(found) > 10
    assert all(abs(clip - 2500) <= 100 and values[clip] <= values[2500] and clip != 2500 for clip in found)
    assert few.of(0, 2500, 0) is not None


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 clips in three shards."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    clips = []
    for i in range(30):
        soundfile.write(folder / f"{i}.wav", rng.uniform(-0.3, 0.3, 1000 + 100 * i), 8000)
        clips.append(Clip(f"c{i}", folder / f"{i}.wav", [f"clip {i}"], {}))
    write_manifest(folder / "m.jsonl", clips)
    pack(folder / "m.jsonl", folder / "shards", shard_size=10, workers=1)
    return folder / "shards"


@pytest.fixture
def folder(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a copy of the shards with an index beside them."""
    for module in (cuts, cut_index):
        monkeypatch.setattr(module, "SMALL", 0)
    shutil.copytree(packed, tmp_path / "shards")
    read_manifest(tmp_path / "shards")
    return tmp_path / "shards"


def batches(folder: Path, **options) -> list[tuple[str, ...]]:
    data = AudioTextData(folder, max_duration=2.0, max_clip=0.4, num_workers=0, **options)
    data.connect(8000, tokenize)
    data.setup("fit")
    found = [batch.ids for batch in epoch(data)]
    data.teardown("fit")
    return found


def test_training_on_an_index_that_stays_in_its_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, sections = batches(folder, num_buckets=2), batches(folder, shuffle_clips=10)
    plan = plan_of(folder, read_manifest(folder))
    monkeypatch.setattr(index_file, "LARGE", 0)
    clips = read_manifest(folder)
    assert isinstance(clips.durations, StoredArray)
    assert plan_of(folder, clips) == plan_of(folder, ConcatClips([clips])) == plan
    assert isinstance(clips.keys, StoredArray)
    assert isinstance(clips.samples(8000), MappedArray)
    assert batches(folder, num_buckets=2) == expected
    assert batches(folder, shuffle_clips=10) == sections
    assert sorted(name for ids in sections for name in ids) == sorted(f"c{i}" for i in range(30))


def test_a_duration_that_is_none_is_found_when_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder.with_name("shards.index")
    arrays = dict(np.load(path))
    arrays["durations"] = np.where(arrays["durations"] > 0.3, -1.0, arrays["durations"])
    with path.open("wb") as file:
        np.savez(file, **arrays)
    monkeypatch.setattr(index_file, "LARGE", 0)
    clips = read_manifest(folder)
    with pytest.raises(ManifestError, match=r"shards.index is damaged: a duration is no positive time; remove it"):
        np.asarray(clips.samples(8000))
