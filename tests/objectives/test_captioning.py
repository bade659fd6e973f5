"""`captioning` and its decoder against a slow decoder, one caption at a time."""

from __future__ import annotations

from math import log
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import silu

from fake_views import FakeViews, make_batch
from slap.core.packed import Packed
from slap.objectives.caption_decoder import Decoder
from slap.objectives.captioning import Captioning, shift

WIDTH, VOCABULARY = 10, 13
CAPTIONS = [[1, 5, 6, 2], [1, 2], [1, 7, 7, 7, 8, 3, 2], [1, 5, 6, 2]]


def make_objective(label_smoothing=0.0):
    torch.manual_seed(0)
    objective = Captioning(layers=2, heads=2, width=8, hidden=12, label_smoothing=label_smoothing)
    text = SimpleNamespace(vocab_size=VOCABULARY, bos=1, eos=2)
    objective.setup(SimpleNamespace(audio=SimpleNamespace(width=WIDTH), text=text))
    with torch.no_grad():  # norms that are not all ones, so that leaving one out shows
        for parameter in objective.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return objective.double()


def make_views(clip, audio_lengths, captions=CAPTIONS):
    torch.manual_seed(1)
    rows = torch.randn(sum(audio_lengths), WIDTH, dtype=torch.float64, requires_grad=True)
    batch = make_batch(captions, clip, len(audio_lengths))
    tokens = Packed(rows, torch.tensor(audio_lengths, dtype=torch.int32))
    return FakeViews(batch=batch, full=SimpleNamespace(tokens=tokens))


def rms(x, norm):
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight


def turn(x, position):
    """Rotary embedding of one head's vector, pair by pair."""
    half = len(x) // 2
    out = x.clone()
    for pair in range(half):
        angle = torch.tensor(float(position)) * 10_000.0 ** -(torch.tensor(float(pair)) / half)
        cos, sin = angle.cos().double(), angle.sin().double()
        out[pair] = x[pair] * cos - x[pair + half] * sin
        out[pair + half] = x[pair + half] * cos + x[pair] * sin
    return out


def slow_attention(q, keys, values):
    weights = torch.stack([(q * key).sum() / len(q) ** 0.5 for key in keys]).softmax(0)
    return sum(w * v for w, v in zip(weights, values, strict=True))


def slow_decoder(decoder, tokens, audio):
    """Logits of one caption's next tokens: (T,) and (n, D') -> (T, V)."""
    x = decoder.embedding.weight[tokens] * 8**0.5
    audio = rms(audio, decoder.context_norm)
    for block in decoder.blocks:
        heads = block.self_attention.heads
        for module, norm in ((block.self_attention, block.self_norm), (block.cross_attention, block.cross_norm)):
            normed = rms(x, norm)
            own = module is block.self_attention
            if own:
                q, k, v = (normed @ module.qkv.weight.T).chunk(3, dim=-1)
            else:
                q = normed @ module.q.weight.T
                k, v = (audio @ module.kv.weight.T).chunk(2, dim=-1)
            mixed = []
            for t in range(len(tokens)):
                parts = []
                for qh, kh, vh in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True):
                    if own:
                        keys = [turn(kh[s], s) for s in range(t + 1)]
                        parts.append(slow_attention(turn(qh[t], t), keys, vh[: t + 1]))
                    else:
                        parts.append(slow_attention(qh[t], kh, vh))
                mixed.append(torch.cat(parts))
            x = x + torch.stack(mixed) @ module.out.weight.T
        gate, value = (rms(x, block.feed_forward_norm) @ block.feed_forward.enter.weight.T).chunk(2, dim=-1)
        x = x + (silu(gate) * value) @ block.feed_forward.leave.weight.T
    return rms(x, decoder.norm) @ decoder.embedding.weight.T


def slow_loss(objective, views, smoothing):
    losses, right = [], 0
    audio = views.full.tokens.unpack()
    for caption, clip in zip(views.batch.text.unpack(), views.batch.clip, strict=True):
        logits = slow_decoder(objective.decoder, caption[:-1], audio[clip])
        for row, target in zip(logits, caption[1:], strict=True):
            probabilities = (row.exp() / row.exp().sum()).log()
            losses.append(-(1 - smoothing) * probabilities[target] - smoothing * probabilities.mean())
            right += int(row.argmax() == target)
    return sum(losses) / len(losses), right / len(losses)


BATCHES = {
    "a caption a clip": ([0, 1, 2, 3], (3, 1, 7, 2)),
    "several captions a clip, out of order, one clip without": ([2, 0, 2, 0], (3, 2, 5)),
    "one clip": ([0, 0, 0, 0], (4,)),
}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("case", BATCHES.values(), ids=BATCHES)
def test_loss_is_its_formula(case, smoothing):
    objective = make_objective(smoothing)
    views = make_views(*case)
    loss, extras = objective(views)
    slow, accuracy = slow_loss(objective, views, smoothing)
    torch.testing.assert_close(loss, slow, rtol=1e-8, atol=0)
    assert extras["token_accuracy"].item() == pytest.approx(accuracy)
    names = [name for name, _ in objective.named_parameters()]
    leaves = [views.full.tokens.values, *objective.parameters()]
    mine = torch.autograd.grad(loss, leaves)
    for name, fast, oracle in zip(["audio", *names], mine, torch.autograd.grad(slow, leaves), strict=True):
        torch.testing.assert_close(fast, oracle, rtol=1e-6, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")
        assert fast.abs().sum() > 0, name


def test_one_caption_of_one_token_to_predict():
    objective, views = make_objective(), make_views([0], (1,), [[1, 2]])
    torch.testing.assert_close(objective(views)[0], slow_loss(objective, views, 0.0)[0], rtol=1e-8, atol=0)


def test_accuracy_is_1_when_every_token_is_right():
    objective, views = make_objective(), make_views([0, 1, 2, 3], (3, 1, 7, 2))
    _, targets = shift(views.batch.text)
    objective.decoder.forward = lambda *_: 20 * torch.nn.functional.one_hot(targets, VOCABULARY).double()
    loss, extras = objective(views)
    assert extras["token_accuracy"].item() == 1
    assert loss.item() == pytest.approx(log(1 + 12 * 2.718281828459045**-20))


def test_shift_drops_the_last_and_the_first_token():
    inputs, targets = shift(Packed.pack([torch.tensor(c) for c in CAPTIONS]))
    assert [item.tolist() for item in inputs.unpack()] == [c[:-1] for c in CAPTIONS]
    assert [item.tolist() for item in targets.split(inputs.sizes)] == [c[1:] for c in CAPTIONS]


def test_no_token_sees_what_follows_or_another_clip():
    decoder = make_objective().decoder
    audio = torch.randn(9, WIDTH, dtype=torch.float64)
    context = Packed(audio, torch.tensor([4, 5], dtype=torch.int32))
    tokens = Packed.pack([torch.tensor([1, 5, 6]), torch.tensor([1, 7, 8, 9])])
    before = decoder(tokens, context)
    changed = tokens.values.clone()
    changed[5] = 11  # the third token of the second caption
    after = decoder(tokens.replace(changed), context)
    assert ((before - after).abs().amax(1) > 1e-9).tolist() == [False] * 5 + [True, True]
    after = decoder(tokens, context.replace(audio + torch.eye(9, dtype=torch.float64)[0][:, None]))
    assert ((before - after).abs().amax(1) > 1e-9).tolist() == [True] * 3 + [False] * 4


def test_papers_decoder_has_its_size():
    with torch.device("meta"):
        decoder = Decoder(vocab_size=100, context_width=768)
    per_block = 4 * 512 * 512 + (512 + 512) * 512 + 768 * 1024 + 3 * 512 * 2048 + 3 * 512
    assert sum(p.numel() for p in decoder.parameters()) == 8 * per_block + 100 * 512 + 768 + 512
    assert decoder.head_width == 64


def test_loss_begins_near_that_of_guessing():
    torch.manual_seed(0)
    objective = Captioning(layers=2, heads=4, width=64, hidden=128)
    text = SimpleNamespace(vocab_size=500, bos=1, eos=2)
    objective.setup(SimpleNamespace(audio=SimpleNamespace(width=WIDTH), text=text))
    captions = torch.randint(500, (20, 12))
    views = make_views(list(range(20)), [3] * 20, captions.tolist())
    views.full.tokens = views.full.tokens.replace(views.full.tokens.values.detach().float())
    assert log(500) - 0.5 < objective(views)[0].item() < log(500) + 1.5


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"label_smoothing must be from 0 to below 1, got 1\.0"):
        Captioning(label_smoothing=1.0)
    with pytest.raises(ValueError, match="3 heads do not divide a width of 8"):
        Decoder(VOCABULARY, WIDTH, heads=3, width=8)
