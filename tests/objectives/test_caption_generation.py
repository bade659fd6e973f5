"""Generation, greedy, with a beam or drawn: what the cache, the beams and the neighbors in a batch may not change."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import pytest
import torch

from fake_views import FakeViews, make_batch
from slap.core.decoding import Decoding, draws
from slap.core.packed import Packed
from slap.objectives.caption_decoder import Decoder
from slap.objectives.caption_generation import _drawn, beam_search
from slap.objectives.captioning import Captioning

BOS, EOS, WIDTH = 1, 2, 6


def make_objective(vocabulary=9, sharpness=0.7, seed=2):
    torch.manual_seed(seed)
    objective = Captioning(layers=2, heads=2, width=8, hidden=12)
    text = SimpleNamespace(vocab_size=vocabulary, bos=BOS, eos=EOS)
    objective.setup(SimpleNamespace(audio=SimpleNamespace(width=WIDTH), text=text))
    with torch.no_grad():
        objective.decoder.norm.weight *= sharpness
        for block in objective.decoder.blocks:  # else a token, being its own best match, repeats for ever
            for layer in (block.self_attention.out, block.cross_attention.out, block.feed_forward.leave):
                layer.weight *= 20
    return objective.double().eval()


def make_audio(lengths, seed=2):
    torch.manual_seed(seed)
    return Packed.pack([torch.randn(length, WIDTH, dtype=torch.float64) for length in lengths])


def recompute(objective, prefix, clip):
    """Log-probabilities of the token after `prefix`, without a cache."""
    logits = objective.decoder(Packed.pack([torch.tensor(prefix)]), Packed.pack([clip]))
    return logits[-1].log_softmax(0).detach()


def scores(objective, captions, clip, penalty):
    """Compute the log-probabilities of captions, divided as in `beam_search`."""
    tokens = Packed.pack([torch.tensor(caption[:-1]) for caption in captions])
    audio = Packed.pack([clip]).take(torch.zeros(len(captions), dtype=torch.int64))
    logs = objective.decoder(tokens, audio).detach().log_softmax(1).split(tokens.sizes)
    return [
        sum(float(row[token]) for row, token in zip(rows, caption[1:], strict=True)) / len(rows) ** penalty
        for rows, caption in zip(logs, captions, strict=True)
    ]


def slow_greedy(objective, clip, max_length):
    caption = [BOS]
    while (len(caption) < max_length and caption[-1] != EOS) or len(caption) == 1:
        caption.append(int(recompute(objective, caption, clip).argmax()))
    return caption


def slow_beam(objective, clip, max_length, beam, penalty):
    """Beam search on lists, recomputing everything."""
    beams = [([BOS], 0.0)]
    for _ in range(max_length - 1):
        longer = []
        for caption, total in beams:
            if len(caption) > 1 and caption[-1] == EOS:
                longer.append((caption, total))
                continue
            following = recompute(objective, caption, clip)
            longer += [([*caption, token], total + float(p)) for token, p in enumerate(following)]
        beams = sorted(longer, key=lambda pair: pair[1], reverse=True)[:beam]
    return max(beams, key=lambda pair: pair[1] / (len(pair[0]) - 1) ** penalty)[0]


def as_lists(packed):
    return [item.tolist() for item in packed.unpack()]


def test_steps_with_a_cache_equal_one_pass():
    decoder = make_objective().decoder
    audio = make_audio((3, 1, 8))
    captions = torch.randint(9, (3, 6))
    at_once = decoder(Packed.pack(list(captions)), audio).view(3, 6, -1)
    cache = decoder.begin(audio)
    for t in range(6):
        torch.testing.assert_close(decoder.step(captions[:, t], cache), at_once[:, t], rtol=1e-10, atol=1e-12)


def test_the_cache_follows_the_beams_that_go_on():
    decoder = make_objective().decoder
    audio = make_audio((3, 5))
    rows = torch.tensor([1, 1, 2, 3])  # both beams of the first clip go on from its second
    captions = torch.randint(9, (4, 4))
    cache = decoder.begin(audio, 2)
    decoder.step(captions[:, 0], cache)
    decoder.step(captions[:, 1], cache)
    cache.select(rows)
    captions[:, :2] = captions[rows, :2]
    decoder.step(captions[:, 2], cache)
    at_once = decoder(Packed.pack(list(captions)), audio.take(torch.tensor([0, 0, 1, 1]))).view(4, 4, -1)
    torch.testing.assert_close(decoder.step(captions[:, 3], cache), at_once[:, 3], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_greedy_equals_recomputing_everything(seed):
    objective, audio = make_objective(seed=seed), make_audio((3, 1, 8, 2), seed)
    expected = [slow_greedy(objective, clip, 9) for clip in audio.unpack()]
    assert as_lists(objective.generate(audio, Decoding(max_length=9))) == expected


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("beam", [2, 3])
@pytest.mark.parametrize("seed", [1, 2, 4])
def test_beam_search_equals_recomputing_everything(seed, beam, penalty):
    objective, audio = make_objective(vocabulary=5, seed=seed), make_audio((3, 1, 4), seed)
    expected = [slow_beam(objective, clip, 7, beam, penalty) for clip in audio.unpack()]
    assert as_lists(objective.generate(audio, Decoding(7, beam, penalty))) == expected


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_one_beam_is_greedy(seed):
    objective, audio = make_objective(seed=seed), make_audio((3, 1, 8, 2, 5), seed)
    greedy = objective.generate(audio, Decoding(12))
    assert as_lists(beam_search(objective.decoder, audio, BOS, EOS, 12, 1, 1.0)) == as_lists(greedy)
    assert as_lists(beam_search(objective.decoder, audio, BOS, EOS, 12, 1, 0.0)) == as_lists(greedy)


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", [1, 2, 4])
def test_a_wide_beam_finds_the_best_of_all_captions(seed, penalty):
    vocabulary, max_length = 4, 5
    objective, audio = make_objective(vocabulary, seed=seed), make_audio((2, 4), seed)
    words = product(range(vocabulary), repeat=max_length - 1)
    captions = sorted({(BOS, *(w[: w.index(EOS) + 1] if EOS in w else w)) for w in words})
    beam = vocabulary ** (max_length - 1)
    found = as_lists(objective.generate(audio, Decoding(max_length, beam, penalty)))
    for clip, caption in zip(audio.unpack(), found, strict=True):
        best = max(zip(scores(objective, captions, clip, penalty), captions, strict=True))
        assert caption == list(best[1])


@pytest.mark.parametrize("beam", [1, 3])
def test_a_clips_caption_does_not_depend_on_the_others(beam):
    objective, audio = make_objective(), make_audio((3, 1, 8, 2, 5))
    together = as_lists(objective.generate(audio, Decoding(10, beam)))
    assert len({len(caption) for caption in together}) > 1  # some end before others
    alone = [as_lists(objective.generate(Packed.pack([clip]), Decoding(10, beam)))[0] for clip in audio.unpack()]
    assert together == alone


@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize("max_length", [2, 3, 6])
def test_captions_begin_end_and_stop_as_they_should(beam, max_length):
    never, at_once = make_objective(), make_objective()
    audio = make_audio((3, 1, 8))
    for objective, wanted in ((never, -100.0), (at_once, 100.0)):
        step = objective.decoder.step

        def biased(tokens, cache, step=step, wanted=wanted):
            logits = step(tokens, cache).clone()
            logits[:, EOS] = wanted
            return logits

        objective.decoder.step = biased
    endless = never.generate(audio, Decoding(max_length, beam))
    assert endless.sizes == (max_length,) * 3
    assert endless.values.dtype == torch.int64
    assert all(caption[0] == BOS and EOS not in caption[1:] for caption in as_lists(endless))
    assert as_lists(at_once.generate(audio, Decoding(max_length, beam))) == [[BOS, EOS]] * 3


def test_generation_stops_when_all_captions_are_complete():
    objective, audio = make_objective(), make_audio((3, 1))
    calls = []

    def two_words(tokens, cache):
        calls.append(tokens)
        logits = torch.zeros(len(tokens), 9, dtype=torch.float64)
        logits[:, EOS if len(calls) == 3 else 5] = 50
        return logits

    objective.decoder.step = two_words
    assert as_lists(objective.generate(audio, Decoding(1000))) == [[BOS, 5, 5, EOS]] * 2
    assert len(calls) == 3


def test_an_overfitted_decoder_says_its_captions_again():
    torch.manual_seed(0)
    objective = make_objective(vocabulary=9).train()
    audio = make_audio((3, 1, 4))
    captions = [[BOS, 4, 5, 6, EOS], [BOS, 7, EOS], [BOS, 5, 4, 8, 8, 7, EOS]]
    views = FakeViews(batch=make_batch(captions, range(3), 3), full=SimpleNamespace(tokens=audio))
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.02)
    for _ in range(120):
        optimizer.zero_grad()
        objective(views)[0].backward()
        optimizer.step()
    for beam in (1, 4):
        assert as_lists(objective.generate(audio, Decoding(beam=beam))) == captions


# -- drawing ----------------------------------------------------------------------------------------------------------


def uniform(clips, length, seed=0):
    return torch.rand(clips, length - 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def slow_nucleus(objective, clip, draws, top_p, temperature):
    """Nucleus sampling on lists, as its paper has it: the smallest set that reaches `top_p`, renormalized."""
    caption = [BOS]
    for draw in draws.tolist():
        logs = recompute(objective, caption, clip) / temperature
        probabilities = logs.exp() / logs.exp().sum()
        ranked = sorted(enumerate(probabilities.tolist()), key=lambda pair: pair[1], reverse=True)
        chosen, total = [], 0.0
        while total < top_p and ranked:
            chosen.append(ranked.pop(0))
            total += chosen[-1][1]
        reached = 0.0
        for token, probability in chosen:
            reached += probability / total
            if draw < reached or token == chosen[-1][0]:
                caption.append(token)
                break
        if caption[-1] == EOS:
            break
    return caption


@pytest.mark.parametrize(("top_p", "temperature"), [(1.0, 1.0), (0.9, 1.0), (0.5, 1.7), (0.3, 0.5)])
@pytest.mark.parametrize("seed", [1, 2, 4])
def test_drawing_equals_recomputing_everything(seed, top_p, temperature):
    objective, audio = make_objective(seed=seed), make_audio((3, 1, 8, 2, 5, 4), seed)
    numbers = uniform(6, 9, seed)
    expected = [
        slow_nucleus(objective, clip, row, top_p, temperature)
        for clip, row in zip(audio.unpack(), numbers, strict=True)
    ]
    how = Decoding(9, top_p=top_p, temperature=temperature)
    assert as_lists(objective.generate(audio, how, numbers)) == expected


def test_tokens_are_drawn_with_their_probability():
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64).log()
    draws = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000

    def shares(top_p, temperature):
        tokens = _drawn(logits.expand(10_000, 4), draws, top_p, temperature)
        return [round(share, 3) for share in (tokens.bincount(minlength=4) / 10_000).tolist()]

    assert shares(1.0, 1.0) == [0.1, 0.4, 0.2, 0.3]
    assert shares(0.65, 1.0) == [0.0, 0.571, 0.0, 0.429]
    squared = torch.tensor([0.01, 0.16, 0.04, 0.09]) / 0.3
    assert shares(1.0, 0.5) == pytest.approx(squared.tolist(), abs=1e-3)


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_a_tiny_nucleus_is_greedy(seed):
    objective, audio = make_objective(seed=seed), make_audio((3, 1, 8, 2, 5), seed)
    drawn = objective.generate(audio, Decoding(12, top_p=1e-9), uniform(5, 12))
    assert as_lists(drawn) == as_lists(objective.generate(audio, Decoding(12)))


def test_what_one_clip_is_given_does_not_depend_on_the_others():
    objective, audio = make_objective(), make_audio((3, 1, 8, 2, 5))
    numbers, how = uniform(5, 10), Decoding(10, top_p=0.95)
    together = as_lists(objective.generate(audio, how, numbers))
    assert len({len(caption) for caption in together}) > 1
    for i, clip in enumerate(audio.unpack()):
        assert as_lists(objective.generate(Packed.pack([clip]), how, numbers[i : i + 1])) == [together[i]]


def test_draws_follow_from_seed_and_clip_alone():
    clips = [torch.randn(100), torch.randn(50), torch.randn(100)]
    how = Decoding(5, top_p=0.9, seed=3)
    found = draws(clips, how)
    assert found.shape == (3, 4)
    assert found.unique().numel() == 12
    assert torch.equal(draws(clips[::-1], how), found.flip(0))
    assert torch.equal(draws([clips[0]], Decoding(9, top_p=0.5, seed=3))[:, :4], found[:1])
    assert not torch.equal(draws(clips, Decoding(5, top_p=0.9, seed=4)), found)
    assert draws(clips, Decoding(5)) is None


def test_drawing_needs_numbers_to_draw_with():
    objective, audio = make_objective(), make_audio((3, 2))
    with pytest.raises(ValueError, match=r"uniform numbers of shape \(2, 4\), got None"):
        objective.generate(audio, Decoding(5, top_p=0.9))
    with pytest.raises(ValueError, match=r"uniform numbers of shape \(2, 4\), got \(1, 4\)"):
        objective.generate(audio, Decoding(5, top_p=0.9), uniform(1, 5))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"max_length": 1}, "max_length must be at least 2.*got 1"),
        ({"beam": 0}, "beam must be at least 1, got 0"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, got 0.0"),
        ({"top_p": 1.5}, "top_p must be above 0 and at most 1, got 1.5"),
        ({"top_p": 0.5, "temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"top_p": 0.5, "beam": 3}, "a beam or top_p"),
        ({"length_penalty": 0.5}, "length_penalty needs beam search; set beam too"),
        ({"top_p": 0.5, "length_penalty": 0.5}, "length_penalty needs beam search"),
        ({"temperature": 0.5}, "temperature and seed need sampling; set top_p too"),
        ({"seed": 5, "beam": 2}, "temperature and seed need sampling; set top_p too"),
    ],
)
def test_what_makes_no_sense_is_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        Decoding(**options)


def test_settings_name_what_has_an_effect():
    assert Decoding(9).settings() == {"method": "greedy", "max_length": 9}
    assert Decoding(9, 4, 0.5).settings() == {"method": "beam", "max_length": 9, "beam": 4, "length_penalty": 0.5}
    drawn = Decoding(9, top_p=0.9, seed=2).settings()
    assert drawn == {"method": "nucleus", "max_length": 9, "top_p": 0.9, "temperature": 1.0, "seed": 2}


@pytest.mark.parametrize("options", [{}, {"beam": 3}, {"top_p": 0.9}], ids=["greedy", "beam", "nucleus"])
def test_a_token_whose_logit_is_not_a_number_is_never_taken(options, monkeypatch):
    """argmax, topk and sort take NaN for the largest."""
    objective, audio = make_objective(), make_audio([5, 3])
    step = Decoder.step

    def spoiled(self, tokens, cache, never=4):
        logits = step(self, tokens, cache)
        logits[:, never] = float("nan")
        return logits

    monkeypatch.setattr(Decoder, "step", spoiled)
    decoding = Decoding(max_length=12, **options)
    drawn = draws([torch.rand(4), torch.rand(5)], decoding)
    found = objective.generate(audio, decoding, drawn)
    assert 4 not in found.values.tolist()
    assert len(found.values) > 4
    monkeypatch.setattr(Decoder, "step", lambda self, tokens, cache: step(self, tokens, cache) * float("nan"))
    found = objective.generate(audio, decoding, drawn)
    assert found.values.tolist() == [BOS, EOS] * 2  # without any number the caption ends
