"""Transforms: what they do to the audio, that they are drawn by seed and clip alone, and that captions stay true."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet, MonoCut

from slap.datamodules import Clip, read_manifest, write_manifest
from slap.datamodules.audio.load import decoded, load, mono
from slap.datamodules.augment.basic import Mix, Only, RandomCrop, RandomGain, RandomSpeed

RATE = 16000
ALL = [RandomGain(), RandomCrop(), RandomSpeed(), Mix(probability=1.0)]


@pytest.fixture(params=["disk", "memory"])
def cuts(request: pytest.FixtureRequest, tmp_path: Path) -> CutSet:
    """Eight clips of 1.00, 1.05, ... s: the value of each sample tells its clip and its place."""
    clips = []
    for i in range(8):
        samples = (i + np.linspace(0, 1, RATE + 800 * i, endpoint=False)) / 10
        soundfile.write(tmp_path / f"{i}.wav", samples, RATE, subtype="FLOAT")
        clips.append(Clip(str(i), tmp_path / f"{i}.wav", [f"sound {i}."], {"n": str(i)}))
    cuts = [mono(cut, RATE) for cut in read_manifest(write_manifest(tmp_path / "m.jsonl", clips))]
    return CutSet([decoded(cut) for cut in cuts] if request.param == "memory" else cuts)


def drawn(cuts: CutSet, epoch: int) -> CutSet:
    """Return the cuts as the data set hands them to transforms."""
    made = []
    for cut in cuts:
        cut = pickle.loads(pickle.dumps(cut))
        cut.custom["draw"] = f"0 {epoch} {cut.id}"
        made.append(cut)
    return CutSet(made)


def test_gain_scales_within_its_range(cuts: CutSet) -> None:
    decibels = []
    for epoch in range(10):
        for cut, louder in zip(cuts, RandomGain(-6, 3)(drawn(cuts, epoch)), strict=True):
            ratio = load(louder)[1:] / load(cut)[1:]
            assert ratio.std() < 1e-4
            decibels.append(20 * torch.log10(ratio.mean()).item())
    assert -6 <= min(decibels) < -4
    assert 1 < max(decibels) <= 3


def test_only_some_clips_are_transformed(cuts: CutSet) -> None:
    louder = list(Only("3", RandomGain(6, 6))(cuts))
    for before, after in zip(cuts, louder, strict=True):
        ratio = (load(after)[1:] / load(before)[1:]).mean().item()
        assert ratio == pytest.approx(10 ** (6 / 20) if before.id == "3" else 1, rel=1e-3)
    assert [cut.id for cut in Only("none of them", RandomGain())(cuts)] == [cut.id for cut in cuts]


def test_crop_spares_clips_that_are_not_longer_than_asked(cuts: CutSet) -> None:
    for epoch in range(5):
        for cut, part in zip(cuts, RandomCrop(0.1, at_least=1.2)(drawn(cuts, epoch)), strict=True):
            assert min(cut.num_samples, round(1.2 * RATE)) <= part.num_samples <= cut.num_samples
    assert any(part.num_samples < cut.num_samples for cut, part in zip(cuts, RandomCrop(0.1)(cuts), strict=True))


def test_crop_keeps_one_stretch(cuts: CutSet) -> None:
    shares, starts = [], []
    for epoch in range(10):
        for cut, part in zip(cuts, RandomCrop(0.5)(drawn(cuts, epoch)), strict=True):
            whole, audio = load(cut), load(part)
            start = int((whole - audio[0]).abs().argmin())
            assert torch.equal(audio, whole[start : start + len(audio)])
            shares.append(len(audio) / len(whole))
            starts.append(start / max(len(whole) - len(audio), 1))
            assert part.id == cut.id
            assert part.supervisions[0].text == cut.supervisions[0].text
    assert 0.5 <= min(shares) < 0.6
    assert 0.9 < max(shares) <= 1
    assert min(starts) < 0.1
    assert max(starts) > 0.9


def test_crop_of_one_sample(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(1, 0.5), RATE)
    manifest = write_manifest(tmp_path / "m.jsonl", [Clip("a", tmp_path / "a.wav", ["x"])])
    (cut,) = RandomCrop(0.1)(CutSet([mono(cut, RATE) for cut in read_manifest(manifest)]))
    assert len(load(cut)) == 1


def test_speed_changes_length_and_pitch(tmp_path: Path) -> None:
    time = np.arange(RATE) / RATE
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * time), RATE, subtype="FLOAT")
    manifest = write_manifest(tmp_path / "m.jsonl", [Clip("a", tmp_path / "a.wav", ["x"])])
    cuts = CutSet([mono(cut, RATE) for cut in read_manifest(manifest)])
    for factor in (0.8, 1.0, 1.25):
        (cut,) = RandomSpeed([factor])(cuts)
        audio = load(cut)
        assert len(audio) == RATE / factor
        hertz = torch.fft.rfft(audio).abs().argmax().item() * RATE / len(audio)
        assert hertz == pytest.approx(440 * factor, abs=1)


def test_speed_chooses_among_all_factors(cuts: CutSet) -> None:
    factors = (0.9, 1.0, 1.1)
    chosen = set()
    for epoch in range(6):
        for cut, other in zip(cuts, RandomSpeed(factors)(drawn(cuts, epoch)), strict=True):
            chosen.add(round(cut.num_samples / other.num_samples, 2))
            assert len(load(other)) == other.num_samples
    assert chosen == set(factors)


def test_mix_adds_a_shorter_clip_at_the_level_it_says(cuts: CutSet) -> None:
    seen = 0
    for cut in Mix(probability=1.0, low=5.0, high=5.0)(drawn(cuts, 0)):
        if isinstance(cut, MonoCut):
            continue
        seen += 1
        first, second = (cuts[int(part)] for part in cut.id.split("+"))
        texts = [supervision.text for supervision in cut.supervisions]
        assert texts == [f"sound {first.id} and sound {second.id}."]
        assert "labels" not in cut.custom
        rest = load(cut) - load(first)
        assert len(rest) == first.num_samples >= second.num_samples
        offset = round(cut.tracks[1].offset * RATE)
        added = rest[offset : offset + second.num_samples]
        gain = (load(first).pow(2).mean() / load(second).pow(2).mean()).sqrt() * 10 ** (-5 / 20)
        torch.testing.assert_close(added, load(second) * gain, rtol=0, atol=1e-5)
        assert rest[:offset].abs().sum() == 0
        assert rest[offset + second.num_samples :].abs().sum() == 0
    assert seen == 7  # the shortest finds no other


def test_mix_happens_as_often_as_it_says_and_takes_no_equal_caption(cuts: CutSet) -> None:
    mixed = [type(cut) is not MonoCut for epoch in range(40) for cut in Mix(probability=0.25)(drawn(cuts, epoch))]
    assert 0.12 < sum(mixed) / len(mixed) < 0.32  # 7 of 8 can be mixed: 0.22, standard deviation 0.023
    alike = drawn(cuts, 0)
    for cut in alike:
        cut.supervisions[0].text = "the same"
    assert all(type(cut) is MonoCut for cut in Mix(probability=1.0)(alike))


def test_order_and_chain(cuts: CutSet) -> None:
    made = drawn(cuts, 0)
    for transform in (RandomSpeed(), RandomCrop(), Mix(probability=1.0), RandomGain(-6, -6)):
        made = transform(made)
    for cut in made:
        assert len(load(cut)) == cut.num_samples
        assert len(cut.supervisions) == 1
    with pytest.raises(ValueError, match="RandomCrop must stand before Mix"):
        RandomCrop()(made)
    again = Mix(probability=1.0)(made)  # a mix is left as it is
    assert [len(getattr(cut, "tracks", [0])) for cut in again] == [len(getattr(cut, "tracks", [0])) for cut in made]


@pytest.mark.parametrize("transform", ALL, ids=lambda transform: type(transform).__name__)
def test_drawn_by_seed_and_clip_alone(cuts: CutSet, transform) -> None:
    def audio(transform, cuts: CutSet, epoch: int = 0) -> list[list[float]]:
        return [load(cut).tolist() for cut in transform(drawn(cuts, epoch))]

    first = audio(transform, cuts)
    assert audio(pickle.loads(pickle.dumps(transform)), cuts) == first
    assert audio(transform, cuts, epoch=1) != first
    assert audio(type(transform)(**{**vars(transform), "seed": 5}), cuts) != first
    if not isinstance(transform, Mix):  # which needs the others
        assert audio(transform, CutSet(list(cuts)[3:])) == first[3:]


def test_impossible_arguments() -> None:
    with pytest.raises(ValueError, match="RandomGain needs low <= high, in dB; got low=3, high=1"):
        RandomGain(3, 1)
    with pytest.raises(ValueError, match=r"above 0 and up to 1; got shortest=1\.5"):
        RandomCrop(1.5)
    with pytest.raises(ValueError, match=r"at most two decimals; got factors=\(1\.0, 0\.9371\)"):
        RandomSpeed((1.0, 0.9371))
    with pytest.raises(ValueError, match="needs at least one of factors"):
        RandomSpeed(())
    with pytest.raises(ValueError, match="got probability=2"):
        Mix(probability=2)
