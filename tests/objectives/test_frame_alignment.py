"""Frames against phrases: the loss is that of loops, equal phrases are one, and what is not known does not count."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from slap.core.batch import Batch, fingerprint
from slap.core.batch_ops import concat, split, take_clips, without_captions
from slap.core.packed import Packed
from slap.core.segments import Segment, phrases_of
from slap.model.grad_cache import views_of
from slap.model.views import Views
from slap.objectives.frame_alignment import FrameAlignment, first_columns
from slap.testing import check_objective
from slap.testing.tiny import FRAME, TinyAudio, tiny_batch, tiny_model

RATE, STEP = 8_000, FRAME / 8_000
SECONDS = [0.055, 0.03, 0.04]
SEGMENTS = (
    (Segment(0.012, 0.03, "dog"), Segment(0.02, 0.05, "dog"), Segment(0.0, 0.055, "hum")),
    None,
    (Segment(0.005, 0.01, "rain"), Segment(0.02, 0.04, "dog")),
)


def model_of(objective=None):
    torch.manual_seed(0)
    return tiny_model({"frame_alignment": objective or FrameAlignment()}).double().eval()


def batch_of(model, segments=SEGMENTS, seconds=SECONDS, seed=0):
    batch = tiny_batch(model, seconds, seed=seed)
    batch = replace(batch, audio=batch.audio.replace(batch.audio.values.double()))
    names = phrases_of(segments)
    return replace(batch, segments=segments, phrases=model.text.tokenize(names) if names else None)


def loss_of(model, batch, **how):
    return model.objectives["frame_alignment"](views_of(model, [batch], how.get("most")))


def by_loops(model, batches):
    """The loss as its docstring says it, from encoders alone, for the batches of all processes together."""
    objective = model.objectives["frame_alignment"]
    clips = [(clip, known) for b in batches for clip, known in zip(b.audio.unpack(), b.segments, strict=True)]
    names = list(dict.fromkeys(one.text for _, known in clips for one in known or ()))
    losses = []
    for clip, known in clips:
        if known is None:
            continue
        tokens = model.audio(model.audio.patchify(Packed.pack([clip])))
        embeddings = objective.frames(tokens)[0]
        duration = len(clip) / RATE
        for f, frame in enumerate(embeddings):
            begin, end = f * STEP, min((f + 1) * STEP, duration)
            total = 0.0
            for name in names:
                ticks = torch.linspace(begin, end, 20_001).double()
                heard = sum(((ticks > one.start) & (ticks < one.end)) for one in known if one.text == name)
                share = torch.as_tensor(heard > 0).double().mean() if name in {one.text for one in known} else 0.0
                phrase = model.embed_captions([name])[0]
                logit = objective.log_scale.exp() * frame @ phrase + objective.bias
                total = total + binary_cross_entropy_with_logits(logit, torch.as_tensor(share).double())
            losses.append(total)
    return torch.stack(losses).mean()


def test_the_loss_is_that_of_loops():
    model = model_of()
    batch = batch_of(model)
    loss, logged = loss_of(model, batch)
    torch.testing.assert_close(loss, by_loops(model, [batch]), rtol=1e-4, atol=0)
    assert logged["phrases"] == 3
    assert logged["labeled"].item() == pytest.approx(10 / 13)  # 6 and 4 frames of 13


def test_the_targets_are_shares_of_frames():
    """A sound of 5 ms in a frame of 10 ms is a half, segments that overlap are one, and the last frame is short."""
    model = model_of(FrameAlignment(scale=1e-9, bias=0.0))  # so the gradient of the bias shows targets
    batch = batch_of(model)
    loss, _ = loss_of(model, batch)
    loss.backward()
    heard = {"dog": 0.8 + 1 + 1 + 1, "hum": 6.0, "rain": 0.5}  # frames of the first and the third clip
    heard["dog"] += 2.0
    expected = (10 * 3 * 0.5 - sum(heard.values())) / 10
    assert model.objectives["frame_alignment"].bias.grad.item() == pytest.approx(expected, rel=1e-6)


def test_the_contract():
    check_objective(FrameAlignment())
    check_objective(FrameAlignment(view="masked", hidden=8))


def test_frames_of_clips_without_segments_count_nothing():
    model = model_of()
    known, _ = loss_of(model, batch_of(model))
    without = take_clips(without_captions(batch_of(model), [1]), [0, 2])
    assert without.segments == (SEGMENTS[0], SEGMENTS[2])
    torch.testing.assert_close(loss_of(model, without)[0], known, rtol=1e-10, atol=0)
    silent, logged = loss_of(model, replace(batch_of(model), segments=(), phrases=None))
    assert silent.item() == 0
    assert (logged["phrases"].item(), logged["labeled"].item()) == (0, 0)
    assert "no clip of the batches has `segments`" in FrameAlignment().health_check({"labeled": 0.0})
    assert FrameAlignment().health_check({"labeled": 0.1}) is None


def test_a_clip_in_which_nothing_is_heard_is_a_negative():
    model = model_of()
    segments = ((Segment(0.0, 0.03, "dog"),), (), None)
    loss, logged = loss_of(model, batch_of(model, segments))
    torch.testing.assert_close(loss, by_loops(model, [batch_of(model, segments)]), rtol=1e-4, atol=0)
    assert logged["labeled"].item() == pytest.approx(9 / 13)


@pytest.mark.parametrize("most", [1, 2])
def test_parts_of_a_batch_give_the_loss_and_gradients_of_the_whole(most):
    results = []
    for size in (None, most):
        model = model_of()
        loss, logged = loss_of(model, batch_of(model), most=size)
        loss.backward()
        results.append((loss, logged, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (whole, said, gradients), (parts, said_too, gradients_too) = results
    torch.testing.assert_close(parts, whole, rtol=1e-10, atol=0)
    assert said.keys() == said_too.keys()
    assert all(torch.equal(said[key], said_too[key]) for key in said)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradients_too[name], gradient, rtol=1e-8, atol=1e-12)
    assert gradients["text.embed.weight"].abs().sum() > 0


def test_batches_of_one_step_are_one_batch():
    model = model_of()
    one, two = batch_of(model), batch_of(model, ((Segment(0.0, 0.02, "dog"),), None, None), seed=3)
    loss, _ = model.objectives["frame_alignment"](views_of(model, [one, two], None))
    torch.testing.assert_close(loss, by_loops(model, [one, two]), rtol=1e-4, atol=0)


def test_the_views_of_phrases_are_the_same_in_parts():
    model = model_of()
    whole, parts = (views_of(model, [batch_of(model)], most).phrases for most in (None, 1))
    torch.testing.assert_close(parts.embedding, whole.embedding)
    torch.testing.assert_close(parts.tokens.values, whole.tokens.values)
    assert parts.tokens.sizes == whole.tokens.sizes
    torch.testing.assert_close(whole.embedding, model.embed_captions(["dog", "hum", "rain"]))


def test_batches_keep_segments_through_their_operations():
    model = model_of()
    batch = batch_of(model)
    assert batch.to("cpu").segments == SEGMENTS
    parts = split(batch, [1, 2])
    assert [part.segments for part in parts] == [SEGMENTS[:1], SEGMENTS[1:]]
    assert model.text.detokenize(parts[1].phrases) == ["rain", "dog"]
    joined = concat(parts)
    assert joined.segments == SEGMENTS
    assert model.text.detokenize(joined.phrases) == ["dog", "hum", "rain"]
    plain = tiny_batch(model, [0.1])
    both = concat([plain, batch])
    assert both.segments == (None, *SEGMENTS)
    assert concat([plain, plain]).segments == ()
    unknown = take_clips(without_captions(both, [1, 3]), [0, 2])
    assert (unknown.segments, unknown.phrases) == ((), None)


def test_an_encoder_without_time_is_refused():
    audio = TinyAudio()
    audio.step = None
    with pytest.raises(ValueError, match="attribute `step`"):
        tiny_model({"frame_alignment": 1.0}, audio=audio)


@pytest.mark.parametrize(("options", "message"), [({"scale": 0.0}, "positive"), ({"view": "visible"}, "full, masked")])
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        FrameAlignment(**options)


def test_first_columns_of_none():
    assert first_columns(torch.tensor([], dtype=torch.int64), torch.tensor([[3]])).tolist() == [[0]]


def test_it_learns_when_something_sounds():
    """A tone in a part of each clip: after some steps its phrase is heard there and nowhere else."""
    torch.manual_seed(0)
    model = tiny_model({"frame_alignment": FrameAlignment(bias=-2.0)})
    rng, pitches = torch.Generator().manual_seed(1), {"low": 300.0, "high": 2400.0}

    def scene():
        waves, segments = [], []
        for _ in range(4):
            wave, known = 0.01 * torch.randn(20 * FRAME, generator=rng), []
            for name, pitch in pitches.items():
                begin = int(torch.randint(0, 14, (1,), generator=rng))
                span = slice(begin * FRAME, (begin + 5) * FRAME)
                wave[span] += torch.sin(2 * math.pi * pitch * torch.arange(span.start, span.stop) / RATE)
                known.append(Segment(begin * STEP, (begin + 5) * STEP, name))
            waves.append(wave / 2)
            segments.append(tuple(known))
        ids, none = [str(i) for i in range(4)], torch.zeros(0, dtype=torch.int64)
        text = Packed(none, torch.zeros(0, dtype=torch.int32))
        phrases = model.text.tokenize(phrases_of(segments))
        return Batch(Packed.pack(waves), text, none, fingerprint(ids), none, segments=tuple(segments), phrases=phrases)

    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        loss, _ = model.objectives["frame_alignment"](Views(model, scene()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    batch, objective = scene(), model.objectives["frame_alignment"]
    with torch.no_grad():
        frames, _, time = objective.frames(model.audio(model.audio.patchify(batch.audio)))
        heard = objective.frame_calibration().probabilities(frames @ model.embed_captions(list(pitches)).T)
    truth = torch.zeros_like(heard, dtype=torch.bool)
    for clip, known in enumerate(batch.segments):
        for one in known:
            column, begin = list(pitches).index(one.text), round(one.start / STEP)
            truth[clip * 20 + begin : clip * 20 + begin + 5, column] = True
    assert time.tolist() == list(range(20)) * 4
    assert ((heard > 0.5) == truth).float().mean() > 0.95
