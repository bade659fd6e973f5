"""Embeddings on disk: what was written counts, what was cut off does not, and a changed file is another one."""

import pytest
import torch

from slap.evaluation.embedding_cache import EmbeddingCache, stamp


@pytest.fixture
def files(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.wav").write_text(name)
    return [(str(tmp_path / f"{name}.wav"), name, "") for name in "abc"]


def filled(folder, files):
    store = EmbeddingCache(folder, "model", 3)
    for number, key in enumerate(files):
        store.add(key, (number + 0.5, torch.full((3,), float(number))))
    store.flush()
    return store


def test_what_was_added_is_read_again(tmp_path, files):
    filled(tmp_path, files).add(("nowhere", "d", ""), "it is not there")
    store = EmbeddingCache(tmp_path, "model", 3)
    found = store.read([files[2], files[0], ("elsewhere", "x", "")])
    assert {key[1]: (seconds, row.tolist()) for key, (seconds, row) in found.items()} == {
        "a": (0.5, [0.0] * 3),
        "c": (2.5, [2.0] * 3),
    }
    store.add(("nowhere", "d", ""), "it is not there")
    store.flush()
    assert EmbeddingCache(tmp_path, "model", 3).read([("nowhere", "d", "")]) == {
        ("nowhere", "d", ""): "it is not there"
    }
    assert EmbeddingCache(tmp_path, "other model", 3).read(files) == {}


@pytest.mark.parametrize("cut", ["embeddings.f32", "clips.jsonl"])
def test_after_an_interruption_what_both_files_have_counts(cut, tmp_path, files):
    filled(tmp_path, files)
    path = tmp_path / "model" / cut
    path.write_bytes(path.read_bytes()[:-5])
    store = EmbeddingCache(tmp_path, "model", 3)
    assert [key[1] for key in store.read(files)] == ["a", "b"]
    store.add(files[2], (9.0, torch.full((3,), 9.0)))
    store.flush()
    seconds, row = EmbeddingCache(tmp_path, "model", 3).read(files)[files[2]]
    assert (seconds, row.tolist()) == (9.0, [9.0] * 3)


def test_a_file_that_changed_is_not_known(tmp_path, files):
    filled(tmp_path, files)
    (tmp_path / "b.wav").write_text("other")
    store = EmbeddingCache(tmp_path, "model", 3)
    assert [key[1] for key in store.read(files)] == ["a", "c"]
    store.add(files[1], (7.0, torch.full((3,), 7.0)))
    store.flush()
    assert store.read(files)[files[1]][0] == 7.0


def test_what_is_in_shards_has_the_stamp_of_their_folder(tmp_path, files):
    (tmp_path / "shards").mkdir()
    key = (f"{tmp_path / 'shards'}: a clip", "a clip")
    store = EmbeddingCache(tmp_path, "model", 3)
    store.add(key, (1.0, torch.zeros(3)))
    store.flush()
    assert list(store.read([key]))
    (tmp_path / "shards" / "new").write_text("x")
    assert EmbeddingCache(tmp_path, "model", 3).read([key]) == {}
    assert stamp(f"{tmp_path}/nowhere") == stamp("recording 3") == []


def test_a_stretch_of_a_file_has_the_stamp_of_the_file(tmp_path, files):
    path, _, _ = files[0]
    store = EmbeddingCache(tmp_path, "model", 3)
    store.add((f"{path}#1-2", "part", ""), (1.0, torch.zeros(3)))
    store.flush()
    assert list(store.read([(f"{path}#1-2", "part", "")]))
    (tmp_path / "a.wav").write_text("longer now")
    assert EmbeddingCache(tmp_path, "model", 3).read([(f"{path}#1-2", "part", "")]) == {}
