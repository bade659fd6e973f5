"""Small embeddings in an index: leading dimensions and int8 find nearly what the whole ones in float32 find."""

import numpy as np
import pytest
import torch

from slap.core.compact import from_int8, leading, to_int8
from slap.search import Index
from slap.search import store as store_module
from slap.search.store import Store, WindowRow

SMALL = {"dim": 24, "dtype": "int8"}


@pytest.fixture(scope="module")
def vectors():
    """3,000 vectors whose numbers become smaller, as those of `matryoshka` do, in 40 clusters."""
    torch.manual_seed(0)
    weight = 0.97 ** torch.arange(64)
    centers = torch.randn(40, 64)
    found = (centers[torch.arange(3000) % 40] + 0.5 * torch.randn(3000, 64)) * weight
    return torch.nn.functional.normalize(found, dim=1)


def fill(store, vectors):
    rows = [
        WindowRow(f"{i:016x}", str(i), 1.0, 0.0, 1.0, 1, 1, f"hash{i}", "model", vector.numpy())
        for i, vector in enumerate(vectors)
    ]
    store.replace([], rows, [])
    return store


def found_in(store, queries, k=10):
    return [[int(match.row.path) for match in store.nearest(query.numpy(), k)] for query in queries]


def recall(found, oracle):
    return np.mean([len({*some} & {*right}) / len(right) for some, right in zip(found, oracle, strict=True)])


def test_recall_against_float32(tmp_path, vectors, monkeypatch):
    monkeypatch.setattr(store_module, "APPROXIMATE_FROM", 1000)
    queries, held = vectors[:50], vectors[50:]
    oracle = torch.topk(queries @ held.T, 10).indices.tolist()
    int8 = fill(Store(tmp_path / "int8", 64, dtype="int8"), held)
    assert int8.optimize(0) == 0
    assert not int8.approximate  # compared with every window
    assert recall(found_in(int8, queries), oracle) >= 0.95
    short = fill(Store(tmp_path / "short", 32), leading(held, 32))
    both = fill(Store(tmp_path / "both", 32, dtype="int8"), leading(held, 32))
    floats = found_in(short, leading(queries, 32))
    assert 0.5 < recall(floats, oracle) < 1
    assert recall(found_in(both, leading(queries, 32)), floats) >= 0.95


def test_int8_scores_are_the_cosines_of_the_quantized_embeddings(tmp_path, vectors):
    store = fill(Store(tmp_path, 64, dtype="int8"), vectors[:300])
    stored, query = from_int8(to_int8(vectors[:300])), vectors[400]
    oracle = stored @ from_int8(to_int8(query))
    matches = store.nearest(query.numpy(), 20)
    assert [int(match.row.path) for match in matches] == oracle.argsort(descending=True)[:20].tolist()
    assert [match.score for match in matches] == pytest.approx(
        oracle.sort(descending=True).values[:20].tolist(), abs=1e-6
    )
    for match in matches[:3]:
        np.testing.assert_allclose(match.row.vector, stored[int(match.row.path)], atol=1e-6)
    assert store.nearest(vectors[5].numpy(), 1)[0].score == pytest.approx(1, abs=1e-6)


def test_int8_follows_changes_and_copies_lose_nothing(tmp_path, vectors):
    store = fill(Store(tmp_path, 64, dtype="int8"), vectors[:10])
    assert found_in(store, vectors[3:4], 1) == [[3]]
    (row,) = store.rows_with(["hash3"])["hash3"]
    store.replace(["3"], [row._replace(path="33")], [])
    assert found_in(store, vectors[3:4], 1) == [[33]]
    (copied,) = store.rows_with(["hash3"])["hash3"]
    assert np.array_equal(to_int8(torch.from_numpy(copied.vector)), to_int8(vectors[3]))
    store.replace([str(i) for i in range(40)], [], [])
    assert store.nearest(vectors[0].numpy(), 1) == []


@pytest.fixture
def nested(sounds):
    """The sounds of a model that was trained for 40, 24 and 12 dimensions."""
    sounds.model.backend.leading_dims = (40, 24, 12)
    for i in range(6):
        sounds.tone(f"tone{i}.wav", 400 * (i + 1))
    return sounds


def test_an_index_of_fewer_dimensions_in_int8(nested):
    nested.update(SMALL, anew=True)
    index = Index.open(nested.index)
    assert (index.metadata.embedding_dim, index.metadata.dtype) == (24, "int8")
    query = from_int8(to_int8(leading(index.embed_text(["800"])[0], 24)))
    (hits,) = index.text(["800"], top=6)
    whole = nested.model.embed_audio([nested.folder / hit.path for hit in hits])
    expected = from_int8(to_int8(leading(whole, 24))) @ query
    assert [hit.score for hit in hits] == pytest.approx(expected.tolist(), abs=1e-5)
    assert hits[0].path == "tone1.wav"
    assert index.audio([nested.folder / "tone3.wav"], top=1)[0][0].score == pytest.approx(1, abs=1e-5)
    assert index.composed([nested.folder / "tone3.wav"], ["1600"], ["400"], top=1)[0].path == "tone3.wav"
    assert index.like(hits[0].id, 0.0, text=["2000"], top=1)[0].path == "tone4.wav"
    assert index.calibration is None  # whose cosines are others


def test_dimensions_that_the_model_was_not_trained_for(nested, sounds):
    with pytest.raises(ValueError, match="was trained for 12 to 40 dimensions; got dim 8"):
        nested.metadata(dim=8)
    with pytest.raises(ValueError, match=r"the index has embeddings of 24 dimensions, and --dim 12 was asked for"):
        nested.metadata(dim=24).updated(nested.metadata(dim=12), {"dim": 12}, False)
    with pytest.raises(ValueError, match=r"has embeddings of float32 numbers, and --dtype int8 was asked for"):
        nested.metadata().updated(nested.metadata(dtype="int8"), {"dtype": "int8"}, False)
    kept = nested.metadata(**SMALL).updated(nested.metadata(), {"dim": None, "dtype": None}, False)
    assert (kept.embedding_dim, kept.dtype) == (24, "int8")


@pytest.mark.parametrize(("before", "after"), [({}, SMALL), (SMALL, {}), ({"dtype": "int8"}, {"dim": 24})])
def test_an_index_that_was_rebuilt_with_other_embeddings(nested, before, after):
    nested.update(before, anew=True)
    index = Index.open(nested.index)
    assert index.text(["800"], top=1)[0][0].path == "tone1.wav"
    nested.update(after, anew=True)
    with pytest.raises(ValueError, match="was rebuilt since it was opened"):
        index.text(["800"], top=1)
    assert index.reopened().text(["800"], top=1)[0][0].path == "tone1.wav"
