"""What is searched is found: by text, by sound, exactly and approximately."""

import numpy as np
import pytest
import torch

from slap.audio.scan import file_id
from slap.search import Index
from slap.search import store as store_module
from slap.search.store import Store, WindowRow


@pytest.fixture
def index(sounds):
    """Tones of 300 to 3000 Hz, the last in the middle of a long file."""
    for i in range(9):
        sounds.tone(f"tone{i}.wav", 300 * (i + 1))
    sounds.tone("long.wav", 7000, 3000, 7000, seconds=12)
    sounds.update()
    return Index.open(sounds.index)


def test_a_text_finds_its_sound_and_says_where(index):
    (hits,) = index.text(["600"], top=3)
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert (hits[0].path, hits[0].start, hits[0].end, hits[0].duration) == ("tone1.wav", 0.0, 1.0, 1.0)
    assert hits[0].score > 0.9 > hits[1].score
    (hits,) = index.text(["a whistle of 3000 Hz"], top=1)
    assert hits[0].path == "long.wav"
    assert 10 <= hits[0].start < hits[0].end <= 25


def test_a_sound_finds_itself(index, sounds):
    (first,), (second,) = index.audio([sounds.folder / "tone4.wav", sounds.folder / "tone7.wav"], top=1)
    assert (first.path, second.path) == ("tone4.wav", "tone7.wav")
    assert first.score == pytest.approx(1, abs=1e-5)


def test_scores_are_cosines_best_first_and_one_a_file(index):
    (hits,) = index.text(["900 3000"], top=10)
    assert len({hit.path for hit in hits}) == len(hits) == 10
    (query,) = index.model.embed_text(["900 3000"]).numpy()
    oracle = {
        path: max(row.vector @ query for row in index.store.rows_of(file_id(path))) for path in index.store.files()
    }
    assert [hit.path for hit in hits] == sorted(oracle, key=oracle.get, reverse=True)
    assert [hit.score for hit in hits] == pytest.approx(sorted(oracle.values(), reverse=True), abs=1e-5)


def test_more_results_than_files(index):
    (hits,) = index.text(["900"], top=1000)
    assert len(hits) == 10
    with pytest.raises(ValueError, match="from 1 to 1000 results can be asked for, not 0"):
        index.text(["900"], top=0)


def test_what_is_like_a_window_of_a_file(index, sounds):
    hits = index.like(file_id("long.wav"), 13.0, top=2)
    assert [hit.rank for hit in hits] == [1, 2]
    assert "long.wav" not in {hit.path for hit in hits}
    with pytest.raises(KeyError):
        index.like("0" * 16, 0)


def test_the_model_is_refused_if_it_is_another_one(index, sounds):
    sounds.model.backend.name = "spectral-2"
    with pytest.raises(ValueError, match=r"made by the model spectral-1, and .* is spectral-2"):
        Index.open(sounds.index).text(["300"])
    sounds.weights.rename(sounds.weights.with_name("moved.ckpt"))
    with pytest.raises(FileNotFoundError, match=r"no longer at .*model\.ckpt; give its path with --model"):
        Index.open(sounds.index).text(["300"])
    with pytest.raises(ValueError, match=r"made by the model spectral-1, and .* is spectral-2"):
        Index.open(sounds.index, model=str(sounds.weights.with_name("moved.ckpt"))).text(["300"])


def test_composed_queries_are_sums_of_unit_embeddings(index, sounds):
    parts = index.model.embed_audio([sounds.folder / "tone1.wav"])[0], *index.model.embed_text(["1500", "600 900"])
    query = (parts[0] + parts[1] - parts[2]).numpy()
    query = query / np.linalg.norm(query)
    hits = index.composed([sounds.folder / "tone1.wav"], ["1500"], ["600 900"], top=10)
    oracle = {
        path: max(row.vector @ query for row in index.store.rows_of(file_id(path))) for path in index.store.files()
    }
    assert [hit.path for hit in hits] == sorted(oracle, key=oracle.get, reverse=True)
    assert [hit.score for hit in hits] == pytest.approx(sorted(oracle.values(), reverse=True), abs=1e-5)
    assert index.composed([], ["300"], top=1)[0].path == "tone0.wav"


def test_like_a_sound_with_words_and_without_others(index):
    chosen = file_id("long.wav")
    with_words = index.like(chosen, 0.0, top=2, text=["1200"], without=["7000"])
    assert with_words[0].path == "tone3.wav"
    assert "long.wav" not in {hit.path for hit in with_words}


def test_composed_queries_that_are_none(index):
    with pytest.raises(ValueError, match="needs a sound or a text to be near to"):
        index.composed(without=["300"])
    with pytest.raises(ValueError, match="nothing is left of this query"):
        index.composed(text=["300"], without=["300"])


def test_an_index_that_was_rebuilt_by_another_model_refuses_until_it_is_opened_again(index, sounds):
    """The query of one model was compared with the sounds of another."""
    index.text(["300"])
    sounds.model.backend.name = "spectral-2"
    Store(sounds.index, 40, anew=True)
    sounds.update()
    assert not index.current
    with pytest.raises(ValueError, match=r"was rebuilt since it was opened, by another model than spectral-1"):
        index.text(["300"])
    (hits,) = index.reopened().text(["300"], top=1)
    assert hits[0].path == "tone0.wav"
    sounds.model.backend.name, sounds.model.backend.embedding_dim = "spectral-3", 20
    opened = index.reopened()
    Store(sounds.index, 20, anew=True)
    sounds.metadata().save(sounds.index)
    with pytest.raises(ValueError, match=r"was rebuilt since it was opened, by another model than spectral-2"):
        opened.nearest(np.zeros(40, dtype=np.float32))


def test_no_index(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no index of sounds; make one with `slap index MODEL FOLDER"):
        Index.open(tmp_path)


# -- the store by itself -----------------------------------------------------------------------------------------------


def rows(vectors, start=0):
    return [
        WindowRow(file_id(str(i)), str(i), 1.0, 0.0, 1.0, 1, 1, f"hash{i}", "model", vector.numpy())
        for i, vector in enumerate(vectors, start)
    ]


@pytest.fixture(scope="module")
def vectors():
    torch.manual_seed(0)
    centers = torch.nn.functional.normalize(torch.randn(40, 64), dim=1)
    return torch.nn.functional.normalize(centers[torch.arange(3000) % 40] + 0.05 * torch.randn(3000, 64), dim=1)


def test_few_vectors_are_searched_exactly(tmp_path, vectors):
    store = Store(tmp_path, 64)
    store.replace([], rows(vectors[:2000]), [])
    assert store.optimize(0) == 0
    assert not store.approximate
    queries = vectors[-20:]
    oracle = torch.topk(queries @ vectors[:2000].T, 10)
    for i, query in enumerate(queries):
        found = store.nearest(query.numpy(), 10)
        assert [int(match.row.path) for match in found] == oracle.indices[i].tolist()
        np.testing.assert_allclose([match.score for match in found], oracle.values[i], atol=1e-5)


def test_many_vectors_get_an_approximate_index_that_finds_them_and_what_is_added_later(tmp_path, vectors, monkeypatch):
    monkeypatch.setattr(store_module, "APPROXIMATE_FROM", 2000)
    store = Store(tmp_path, 64)
    store.replace([], rows(vectors[:2500]), [])
    assert store.optimize(0) == 2500
    assert store.approximate
    store.replace(["7"], rows(vectors[2500:], 2500), [])
    queries = torch.nn.functional.normalize(vectors[-50:] + 0.02 * torch.randn(50, 64), dim=1)
    kept = torch.cat([vectors[:7], torch.zeros(1, 64), vectors[8:]])  # 7 was removed
    oracle = torch.topk(queries @ kept.T, 10).indices
    for trained in (2500, store.optimize(2500)):
        assert trained == 2500  # not made anew for a fifth more
        found = [[int(match.row.path) for match in store.nearest(query.numpy(), 10)] for query in queries]
        recall = np.mean([len({*some} & {*right.tolist()}) for some, right in zip(found, oracle, strict=True)]) / 10
        assert recall >= 0.98
        assert all(7 not in some for some in found)
    exact = [int(match.row.path) for match in store.nearest(queries[0].numpy(), 10, exact=True)]
    assert exact == oracle[0].tolist()


def test_the_approximate_index_is_made_anew_when_there_is_much_more(tmp_path, vectors, monkeypatch):
    monkeypatch.setattr(store_module, "APPROXIMATE_FROM", 500)
    store = Store(tmp_path, 64)
    store.replace([], rows(vectors[:600]), [])
    trained = store.optimize(0)
    store.replace([], rows(vectors[600:], 600), [])
    assert (trained, store.optimize(trained)) == (600, 3000)


def test_names_that_sql_would_trip_over(tmp_path, vectors):
    store = Store(tmp_path, 64)
    names = ["it's.wav", "a' OR '1'='1", "100%_.wav", 'quote".wav', "back\\slash.wav", "ü 🎺.wav"]
    store.replace([], [row._replace(path=name, hash=name) for row, name in zip(rows(vectors), names, strict=False)], [])
    for name in names:
        assert set(store.rows_with([name])) == {name}
        store.replace([name], [], [])
        assert name not in store.files()
    assert len(store) == 0
