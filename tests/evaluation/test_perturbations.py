"""Perturbations as pure functions: each against what it says, on any length and rate, and none changes its input."""

import math

import pytest
import torch

from slap.evaluation.perturbations import CODECS, PERTURBATIONS, Perturbation, Sound, fitted

RATE = 16_000

CONDITIONS = [
    Perturbation("a", "gain", {"decibels": -20}),
    Perturbation("b", "silence", {"lead": 0.15, "trail": 0.4}),
    Perturbation("c", "white_noise", {"snr": 10}),
    Perturbation("d", "narrow", {"hertz": 8000}),
    Perturbation("e", "first_part", {"share": 0.5}),
    Perturbation("f", "coded", {"codec": "mp3", "bit_rate": 32_000}),
    Perturbation("g", "coded", {"codec": "opus", "bit_rate": 16_000}),
]


def tone(hertz, seconds=1.0, rate=RATE):
    return 0.3 * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)


def power(samples):
    return float(samples.square().mean())


def test_every_perturbation_is_tried_here():
    assert {condition.kind for condition in CONDITIONS} == set(PERTURBATIONS)


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.key)
@pytest.mark.parametrize(("count", "rate"), [(1, 16_000), (700, 8000), (9001, 44_100)])
def test_any_length_and_rate_twice_the_same_and_the_input_stays(condition, count, rate):
    samples = torch.randn(count, generator=torch.Generator().manual_seed(0)).mul(0.1)
    before = samples.clone()
    found = condition(Sound(samples, rate, "clip"))
    assert torch.equal(samples, before)
    assert torch.equal(found, condition(Sound(samples, rate, "clip")))
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    lead = round(0.15 * rate) + round(0.4 * rate)
    expected = {"silence": count + lead, "first_part": max(round(count / 2), 1)}
    assert len(found) == expected.get(condition.kind, count)


def test_gain_changes_the_level_alone_unless_it_clips():
    samples = tone(440)
    louder = PERTURBATIONS["gain"](Sound(samples, RATE), 20)
    assert torch.allclose(louder, 10 * samples)
    clipped = PERTURBATIONS["gain"](Sound(samples, RATE), 20, clip=True)
    assert clipped.abs().max() == 1
    assert torch.equal(clipped, louder.clamp(-1, 1))


def test_silence_stands_where_it_says():
    samples = tone(440)
    found = PERTURBATIONS["silence"](Sound(samples, RATE), lead=0.15, trail=0.4)
    assert torch.equal(found[2400:-6400], samples)
    assert not found[:2400].any()
    assert not found[-6400:].any()


@pytest.mark.parametrize("snr", [20, 10, 0])
def test_noise_has_its_ratio_and_is_another_one_for_each_clip_and_seed(snr):
    noisy = [
        PERTURBATIONS["white_noise"](Sound(tone(440), RATE, name), snr, seed)
        for name, seed in (("a", 0), ("b", 0), ("a", 1))
    ]
    noises = [found - tone(440) for found in noisy]
    for noise in noises:
        assert 10 * math.log10(power(tone(440)) / power(noise)) == pytest.approx(snr, abs=0.3)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(float(torch.corrcoef(torch.stack([noises[one], noises[other]]))[0, 1])) < 0.05
    silent = PERTURBATIONS["white_noise"](Sound(torch.zeros(8), RATE), snr)
    assert not silent.any()


def test_a_lower_rate_keeps_what_it_can_hold():
    kept = PERTURBATIONS["narrow"](Sound(tone(1000), RATE), 8000)
    assert power(kept[1000:-1000]) == pytest.approx(power(tone(1000)), rel=0.02)
    lost = PERTURBATIONS["narrow"](Sound(tone(6000), RATE), 8000)
    assert power(lost[1000:-1000]) < 0.001 * power(tone(6000))
    same = tone(1000, rate=8000)
    assert PERTURBATIONS["narrow"](Sound(same, 8000), 8000) is same


def test_the_first_part():
    samples = tone(440)
    assert torch.equal(PERTURBATIONS["first_part"](Sound(samples, RATE), 0.25), samples[:4000])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
def test_a_codec_keeps_place_and_level_but_not_the_samples(codec, rate):
    """A burst in silence is where it was: the delay of the codec is gone."""
    samples = torch.zeros(rate)
    start, stop = round(0.4 * rate), round(0.7 * rate)
    samples[start:stop] = tone(500, 0.3, rate)[: stop - start]
    found = PERTURBATIONS["coded"](Sound(samples, rate, "clip"), codec, 32_000)
    assert not torch.equal(found, samples)
    assert power(found) == pytest.approx(power(samples), rel=0.15)
    loud = (found.abs() > 0.1).nonzero().flatten()
    assert int(loud[0]) == pytest.approx(start, abs=0.012 * rate)
    assert int(loud[-1]) == pytest.approx(stop, abs=0.012 * rate)


def test_fitted():
    assert fitted(torch.ones(3), 2).tolist() == [1, 1]
    assert fitted(torch.ones(1), 3).tolist() == [1, 0, 0]
