"""`matryoshka` of `contrastive` and `sigmoid`: the mean of the losses of leading dimensions."""

import pytest
import torch
from torch.nn.functional import normalize

import slap
from pair_views import CASES, make_views
from slap.model.views import Views
from slap.objectives.contrastive import Contrastive
from slap.objectives.sigmoid import Sigmoid
from slap.testing.tiny import tiny_batch, tiny_checkpoint, tiny_model

DIMS = [5, 3, 1]


def shortened(views, dim):
    """The same views with the leading dimensions of all embeddings alone."""
    short = make_views(views.batch.clip.tolist(), views.batch.clip_key.tolist(), views.batch.caption_key.tolist())
    short.batch = views.batch
    for name in ("full", "text"):
        whole = getattr(views, name).embedding
        getattr(short, name).embedding = whole if dim == whole.shape[1] else normalize(whole[:, :dim], dim=1)
    return short


@pytest.mark.parametrize("kind", [Contrastive, Sigmoid])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_is_the_mean_over_the_leading_dimensions(kind, case):
    views = make_views(*case)
    objective = kind(matryoshka=DIMS[::-1]).double()
    loss = objective(views)[0]
    slow = sum(kind().double()(shortened(views, dim))[0] for dim in DIMS) / len(DIMS)
    torch.testing.assert_close(loss, slow, rtol=1e-12, atol=0)
    leaves = [views.full.embedding, views.text.embedding]
    for mine, oracle in zip(torch.autograd.grad(loss, leaves), torch.autograd.grad(slow, leaves), strict=True):
        torch.testing.assert_close(mine, oracle, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [Contrastive, Sigmoid])
def test_the_whole_dimension_alone_is_the_plain_loss(kind):
    views = make_views(*CASES["nothing shared"])
    assert kind(matryoshka=[5]).double()(views)[0].item() == kind().double()(views)[0].item()


@pytest.mark.parametrize("dims", [[], [0], [4, 4], [2.0], "64", [True]])
def test_lists_that_are_no_dimensions_are_refused(dims):
    with pytest.raises(ValueError, match="matryoshka lists different positive numbers"):
        Contrastive(matryoshka=dims)


def test_the_largest_must_be_that_of_the_model():
    with pytest.raises(ValueError, match=r"must be the model's embedding_dim, 16; got \[8, 4\]"):
        tiny_model({"contrastive": {"matryoshka": [8, 4]}})


def test_leading_dimensions_of_a_trained_model_find_what_the_whole_finds():
    """Training them brings their loss down; without it, it stays far above."""
    losses = {}
    for name, options in (("trained", {"matryoshka": [16, 2]}), ("plain", {"weight": 1.0})):
        torch.manual_seed(0)
        model = tiny_model({"contrastive": options})
        batch = tiny_batch(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(60):
            optimizer.zero_grad()
            loss = model.objectives["contrastive"](Views(model, batch))[0]
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            views = Views(model, batch)
            audio, text = (normalize(view.embedding[:, :2], dim=1) for view in (views.full, views.text))
            losses[name] = -(10 * audio @ text.T).log_softmax(1).diagonal().mean().item()
    assert losses["trained"] < 0.5 * losses["plain"]


@pytest.fixture(scope="module")
def nested(tmp_path_factory):
    """A model that was trained with `matryoshka`."""
    path = tmp_path_factory.mktemp("nested") / "model.ckpt"
    tiny_checkpoint(path, {"contrastive": {"matryoshka": [16, 8, 4]}})
    return path


def test_embeddings_in_fewer_dimensions_and_int8(nested, tmp_path):
    model = slap.load(nested)
    model.save_pretrained(tmp_path / "saved", allow_collapsed=True)
    clips = [torch.rand(n) - 0.5 for n in (4000, 9000)]
    for one in (model, slap.load(tmp_path / "saved")):
        for whole, short, small in (
            (one.embed_audio(clips), one.embed_audio(clips, dim=4), one.embed_audio(clips, dim=4, dtype="int8")),
            (one.embed_text("rain"), one.embed_text("rain", dim=4), one.embed_text("rain", dim=4, dtype="int8")),
        ):
            torch.testing.assert_close(short, normalize(whole[:, :4], dim=1))
            assert (short.dtype, small.dtype, small.shape) == (torch.float32, torch.int8, short.shape)
            torch.testing.assert_close(normalize(small.float(), dim=1), short, rtol=0, atol=0.01)
    assert model.embed_audio([], dim=4, dtype="int8").shape == (0, 4)
    assert "leading 8, 4 serve alone" in (tmp_path / "saved/README.md").read_text()


def test_dimensions_that_were_not_trained_are_refused(nested, tiny_checkpoint):
    model = slap.load(nested)
    for dim in (3, 17, 0):
        with pytest.raises(ValueError, match=rf"trained for 4 to 16 dimensions; got dim {dim}"):
            model.embed_text("rain", dim=dim)
    plain = slap.load(tiny_checkpoint)
    with pytest.raises(ValueError, match="was not trained with `matryoshka`"):
        plain.embed_audio([torch.rand(4000)], dim=8)
    assert plain.embed_text("rain", dim=plain.embedding_dim).shape == (1, plain.embedding_dim)
    with pytest.raises(ValueError, match="float32, int8; got 'int4'"):
        plain.embed_text("rain", dtype="int4")
