"""The text transformer: captions do not see each other, word order matters, and the tokenizer travels with weights."""

import copy
import pickle

import pytest
import torch

from slap import Packed
from slap.core.registry import build
from slap.encoders.text_transformer import TextTransformer
from slap.model.contracts import TextEncoder
from slap.nn.layers import rotary
from slap.nn.tokenizer import train_tokenizer
from slap.testing import check_text_encoder

CAPTIONS = ["a dog barks", "", "rain falls on a tin roof while two birds sing", "a man speaks", "a dog barks 😀"]


def encoder(**options):
    torch.manual_seed(0)
    return TextTransformer(**{"size": "tiny", "vocab_size": 300, **options})


@pytest.fixture(scope="module")
def trained():
    model = encoder()
    model.prepare(iter(CAPTIONS))
    return model


def gradients(model, batches, weights):
    """Compute the gradients of the parameters for sum(weights * output), one pass per batch."""
    model.zero_grad()
    outputs = [model(batch).values for batch in batches]
    (torch.cat(outputs) * weights).sum().backward()
    return torch.cat(outputs).detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


def test_absolute_positions_keep_the_promises_and_tell_places_apart():
    model = encoder(absolute_positions=True)
    model.prepare(iter(CAPTIONS))
    check_text_encoder(model)
    with torch.no_grad():
        model.place_embedding.normal_()
        alone, twice = model(Packed.pack([torch.tensor([5, 6])])), model(Packed.pack([torch.tensor([6, 5])]))
    assert not torch.allclose(alone.values.mean(0), twice.values.mean(0))


def test_the_promises_of_text_encoders():
    check_text_encoder(encoder(size="nano"))


def test_a_packed_batch_equals_its_captions_one_by_one(trained):
    batch = trained.tokenize(CAPTIONS)
    weights = torch.randn(len(batch.values), trained.width)
    together, their_gradients = gradients(trained, [batch], weights)
    alone, own_gradients = gradients(trained, [trained.tokenize([caption]) for caption in CAPTIONS], weights)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    for name, gradient in their_gradients.items():
        scale = own_gradients[name].abs().max()
        assert scale > 0, f"{name} gets no gradient"
        torch.testing.assert_close(gradient / scale, own_gradients[name] / scale, atol=1e-5, rtol=0, msg=name)


def test_the_architecture_is_blocks_over_embeddings_with_rotary_positions(trained):
    """Caption by caption, from the parts: positions start from 0 in each caption, and a final norm follows."""
    batch = trained.tokenize(CAPTIONS[2:4])
    for item, out in zip(batch.unpack(), trained(batch).unpack(), strict=True):
        alone = Packed.pack([item])
        x = trained.embed.weight[item]
        angles = rotary(torch.arange(len(item))[:, None], 64)
        for block in trained.blocks:
            x = block(x, alone.layout, angles)
        rms = x.square().mean(1, keepdim=True).add(1e-6).sqrt()
        torch.testing.assert_close(out, trained.norm.weight * x / rms, atol=1e-5, rtol=0)


def test_word_order_matters(trained):
    """Without positions a transformer gives every order of the same tokens the same mean."""
    one, other = trained.tokenize(["a dog barks", "barks a dog"]).unpack()
    assert sorted(one.tolist()) == sorted(other.tolist())
    means = [trained(Packed.pack([item])).values.mean(0) for item in (one, other)]
    assert (means[0] - means[1]).abs().max() > 0.05


def test_every_token_sees_those_before_and_after_it(trained):
    tokens = trained.tokenize(["a dog barks"])
    for changed in (1, len(tokens.values) - 2):
        values = tokens.values.clone()
        values[changed] = 40
        moved = (trained(tokens).values - trained(tokens.replace(values)).values).abs().amax(1)
        assert (moved > 1e-3).all()


def test_tokens(trained):
    batch = trained.tokenize(CAPTIONS)
    assert batch.values.dtype == torch.int64
    assert batch.values.max() < trained.vocab_size
    assert all((item[0], item[-1]) == (trained.bos, trained.eos) for item in batch.unpack())
    assert batch.sizes[1] == 2
    assert trained.detokenize(batch) == CAPTIONS


@pytest.mark.parametrize("text", ["x" * 10_000, "مطر " * 2500, "🌧" * 300], ids=["latin", "arabic", "emoji"])
def test_long_captions_are_cut_off_and_still_end(trained, text):
    [item] = trained.tokenize([text]).unpack()
    assert len(item) == 128
    assert item[-1] == trained.eos
    assert trained.eos not in item[:-1]
    assert trained(trained.tokenize([text, "a dog"])).values.isfinite().all()


def test_max_tokens(trained):
    short = encoder(max_tokens=3)
    short.tokenizer = trained.tokenizer
    assert short.tokenize(["a dog barks", ""]).sizes == (3, 2)
    with pytest.raises(ValueError, match="max_tokens must be at least 3"):
        encoder(max_tokens=2)


def test_recomputing_activations_changes_nothing(trained):
    other = encoder(checkpointing=True)
    other.load_state_dict(trained.state_dict())
    passes = []
    other.blocks[1].feed_forward.register_forward_pre_hook(lambda *_: passes.append(1))
    batch = trained.tokenize(CAPTIONS)
    weights = torch.randn(len(batch.values), trained.width)
    for mine, theirs in zip(gradients(trained, [batch], weights), gradients(other, [batch], weights), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert len(passes) == 2


# -- the tokenizer ----------------------------------------------------------------------------------------------------


def test_prepare_learns_once_and_the_same_everywhere():
    first, second = encoder(), encoder()
    first.prepare(iter(CAPTIONS))
    second.prepare(iter(CAPTIONS))
    assert first.tokenizer.proto == second.tokenizer.proto == train_tokenizer(CAPTIONS, 300).proto

    def unread():
        raise AssertionError("read")
        yield

    first.prepare(unread())
    assert first.tokenizer.proto == second.tokenizer.proto


def test_without_a_tokenizer_the_error_says_how_to_get_one():
    model = encoder()
    for use in (lambda: model.tokenize(["a dog"]), lambda: model.detokenize(Packed.pack([torch.tensor([1, 2])]))):
        with pytest.raises(RuntimeError, match=r"no tokenizer yet.*slap tokenizer MANIFEST"):
            use()


def test_a_tokenizer_from_a_file(tmp_path, trained):
    path = tmp_path / "words.model"
    trained.tokenizer.save(path)
    assert encoder(tokenizer=str(path)).tokenize(CAPTIONS).values.equal(trained.tokenize(CAPTIONS).values)
    with pytest.raises(FileNotFoundError, match=r"no tokenizer .*none\.model"):
        encoder(tokenizer=str(tmp_path / "none.model"))


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path, trained, monkeypatch):
    pieces = trained.tokenizer.vocab_size
    path = tmp_path / "words.model"
    trained.tokenizer.save(path)
    encoder(tokenizer=str(path), vocab_size=pieces)
    with pytest.raises(ValueError, match=f"{pieces} tokens, the text encoder room for {pieces - 1}"):
        encoder(tokenizer=str(path), vocab_size=pieces - 1)
    small = encoder(vocab_size=pieces - 1)
    with pytest.raises(ValueError, match=f"{pieces} tokens, the text encoder room for {pieces - 1}"):
        small.set_extra_state(trained.get_extra_state())
    monkeypatch.setattr("slap.nn.tokenizer.BOS", 2)
    monkeypatch.setattr("slap.nn.tokenizer.EOS", 1)
    train_tokenizer(CAPTIONS, 300).save(path)
    with pytest.raises(ValueError, match="captions with token 2 and ends them with 1, the text encoder with 1 and 2"):
        encoder(tokenizer=str(path))


@pytest.mark.parametrize("has_one", [True, False], ids=["with", "without"])
def test_the_checkpoint_carries_the_tokenizer(tmp_path, trained, has_one):
    source = trained if has_one else encoder()
    torch.save(source.state_dict(), tmp_path / "model.pt")
    target = TextTransformer(size="tiny", vocab_size=300)
    target.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert torch.equal(target.embed.weight, source.embed.weight)
    if has_one:
        assert target.tokenizer.proto == trained.tokenizer.proto
        batch = target.tokenize(CAPTIONS)
        torch.testing.assert_close(target(batch).values, trained(batch).values)
    else:
        assert target.tokenizer is None


def test_the_checkpoints_tokenizer_replaces_another_and_none_replaces_none(trained):
    """Token ids mean what the tokenizer of the weights says; weights that never had one mean nothing yet."""
    other = encoder()
    other.prepare(["helicopters fly", "engines idle"])
    proto = other.tokenizer.proto
    other.load_state_dict(encoder().state_dict())
    assert other.tokenizer.proto == proto
    other.load_state_dict(trained.state_dict())
    assert other.tokenizer.proto == trained.tokenizer.proto


def test_portable_arguments_rebuild_it_where_the_file_is_gone(tmp_path, trained):
    path = tmp_path / "words.model"
    trained.tokenizer.save(path)
    options = {"size": "tiny", "vocab_size": 300, "tokenizer": str(path)}
    model = build("text encoder", "transformer", options)
    path.unlink()
    rebuilt = build("text encoder", "transformer", model.portable(options))
    rebuilt.load_state_dict(model.state_dict())
    assert rebuilt.tokenize(CAPTIONS).values.equal(trained.tokenize(CAPTIONS).values)


def test_copies(trained):
    batch = trained.tokenize(CAPTIONS)
    for other in (copy.deepcopy(trained), pickle.loads(pickle.dumps(trained))):
        assert isinstance(other, TextEncoder)
        assert other.tokenize(CAPTIONS).values.equal(batch.values)
        torch.testing.assert_close(other(batch).values, trained(batch).values)


def test_unknown_sizes_are_refused():
    with pytest.raises(ValueError, match=r"there is no size 'huge'; valid are: .*tiny, small, base"):
        TextTransformer(size="huge")
