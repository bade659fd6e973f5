"""Transforms for sounds: crops hold the event, filters change what they say, both drawn by seed and clip alone."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet

from slap.datamodules import Clip, read_manifest, write_manifest
from slap.datamodules.audio.load import decoded, load, mono
from slap.datamodules.augment.basic import Mix
from slap.datamodules.augment.event_crop import EventCrop, loud_frames
from slap.datamodules.augment.random_eq import RandomFilter, filtered

RATE = 16000


@pytest.fixture(params=["disk", "memory"])
def cuts(request: pytest.FixtureRequest, tmp_path: Path) -> CutSet:
    """Six clips of 4 s in which nothing is heard but 0.1 s, at 0.0, 0.7, 1.4, ... s."""
    clips = []
    for i in range(6):
        samples = np.zeros(4 * RATE, dtype=np.float32)
        start = round(0.7 * i * RATE)
        samples[start : start + RATE // 10] = np.sin(np.arange(RATE // 10) / 3) * 0.5
        soundfile.write(tmp_path / f"{i}.wav", samples, RATE, subtype="FLOAT")
        clips.append(Clip(str(i), tmp_path / f"{i}.wav", [f"sound {i}."], {"n": str(i)}))
    cuts = [mono(cut, RATE) for cut in read_manifest(write_manifest(tmp_path / "m.jsonl", clips))]
    return CutSet([decoded(cut) for cut in cuts] if request.param == "memory" else cuts)


def drawn(cuts: CutSet, epoch: int) -> CutSet:
    """Return the cuts as the data set hands them to transforms."""
    made = pickle.loads(pickle.dumps(list(cuts)))
    for cut in made:
        cut.custom["draw"] = f"0 {epoch} {cut.id}"
    return CutSet(made)


def test_event_crop_holds_the_event(cuts: CutSet) -> None:
    lengths, places = [], []
    for epoch in range(8):
        for cut, part in zip(cuts, EventCrop(0.5, 1.5)(drawn(cuts, epoch)), strict=True):
            audio = load(part)
            assert len(audio) == part.num_samples
            assert audio.abs().max() > 0.1
            assert part.id == cut.id
            assert part.supervisions[0].text == cut.supervisions[0].text
            lengths.append(len(audio) / RATE)
            places.append(audio.abs().argmax().item() / len(audio))
    assert 0.5 <= min(lengths) < 0.7
    assert 1.3 < max(lengths) <= 1.5
    assert min(places) < 0.2  # anywhere in the stretch, not always in its middle
    assert max(places) > 0.8


def test_event_crop_is_one_stretch_and_spares_short_clips(cuts: CutSet) -> None:
    whole, part = load(list(cuts)[2]), load(list(EventCrop(1.0, 1.0)(cuts))[2])
    offset = int(whole.abs().gt(0).nonzero()[0] - part.abs().gt(0).nonzero()[0])
    assert torch.equal(part, whole[offset : offset + RATE])
    assert [len(load(cut)) for cut in EventCrop(4.0, 9.0)(cuts)] == [4 * RATE] * 6


def test_event_crop_of_silence_and_of_clips_shorter_than_a_frame(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "short.wav", np.ones(20) / 2, RATE)
    clips = [Clip(name, tmp_path / f"{name}.wav", ["nothing"]) for name in ("silence", "short")]
    cuts = CutSet([mono(cut, RATE) for cut in read_manifest(write_manifest(tmp_path / "m.jsonl", clips))])
    assert [cut.num_samples for cut in EventCrop(0.5, 0.5)(cuts)] == [RATE // 2, 20]
    assert [cut.num_samples for cut in EventCrop(10 / RATE, 10 / RATE)(cuts)] == [10, 10]


def test_event_crop_refuses_mixes(cuts: CutSet) -> None:
    with pytest.raises(ValueError, match="before Mix"):
        EventCrop()(Mix(probability=1.0)(cuts))


def test_frames_are_loud_within_decibels_of_the_loudest() -> None:
    samples = np.repeat([1.0, 0.1, 0.01, 0.0], 4)  # 0, -20, -40 dB and silence
    assert loud_frames(samples, 4, 30.0).tolist() == [0, 1]
    assert loud_frames(samples, 4, 41.0).tolist() == [0, 1, 2]
    assert loud_frames(np.zeros(10), 4, 30.0).tolist() == [0, 1]
    assert loud_frames(np.ones(3), 4, 30.0).tolist() == [0]


@pytest.mark.parametrize("frequency", [80.0, 400.0, 2000.0, 7000.0])
def test_a_tone_gets_the_gain_of_its_frequency(frequency: float) -> None:
    gains = (6.0, -6.0, 3.0)  # at 50, sqrt(50 * 8000) and 8,000 Hz
    tone = np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE)
    out = filtered(tone[None], RATE, gains)
    middle = (50 * 8000) ** 0.5
    if frequency < middle:
        expected = 6 - 12 * np.log(frequency / 50) / np.log(middle / 50)
    else:
        expected = -6 + 9 * np.log(frequency / middle) / np.log(8000 / middle)
    assert out.shape == (1, RATE)
    assert out.dtype == np.float32
    middle = out[:, RATE // 4 : -RATE // 4]  # a tone that begins is no pure tone
    assert 20 * np.log10(np.abs(middle).max()) == pytest.approx(expected, abs=0.05)


def test_filter_changes_what_is_heard_and_nothing_else(cuts: CutSet) -> None:
    for cut, other in zip(cuts, RandomFilter(6.0)(drawn(cuts, 0)), strict=True):
        before, after = load(cut), load(other)
        assert len(after) == len(before) == other.num_samples
        ratio = after.square().sum() / before.square().sum()
        assert 10**-0.6 < ratio < 10**0.6
        assert abs(ratio - 1) > 1e-3
        assert (other.id, other.supervisions[0].text) == (cut.id, cut.supervisions[0].text)
        assert other.custom["labels"] == cut.custom["labels"]
    for cut, same in zip(cuts, RandomFilter(0.0)(cuts), strict=True):
        torch.testing.assert_close(load(cut), load(same), rtol=0, atol=1e-6)


def test_a_filtered_clip_can_be_cropped_and_mixed(cuts: CutSet) -> None:
    mixed = list(Mix(probability=1.0)(EventCrop(1.0, 1.0)(RandomFilter()(drawn(cuts, 0)))))
    assert all(len(load(cut)) == RATE for cut in mixed)
    assert all(" and " in cut.supervisions[0].text for cut in mixed)


@pytest.mark.parametrize("transform", [EventCrop(0.5, 1.5), RandomFilter()])
def test_what_is_drawn_depends_on_seed_epoch_and_clip_alone(cuts: CutSet, transform: EventCrop | RandomFilter) -> None:
    def audio(epoch: int, transform: EventCrop | RandomFilter, reverse: bool = False) -> dict[str, torch.Tensor]:
        given = list(drawn(cuts, epoch))
        return {cut.id: load(cut) for cut in transform(CutSet(given[::-1] if reverse else given))}

    first = audio(0, transform)
    again = audio(0, pickle.loads(pickle.dumps(transform)), reverse=True)
    assert all(torch.equal(first[name], again[name]) for name in first)
    for other in (audio(1, transform), audio(0, type(transform)(seed=1))):
        assert not any(len(first[n]) == len(other[n]) and torch.equal(first[n], other[n]) for n in first)


@pytest.mark.parametrize("wrong", [{"shortest": 0.0}, {"shortest": 3.0, "longest": 2.0}, {"within": -1.0}])
def test_event_crop_refuses_what_is_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="got"):
        EventCrop(**wrong)


@pytest.mark.parametrize("wrong", [{"spread": -1.0}, {"points": 1}])
def test_filter_refuses_what_is_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="got"):
        RandomFilter(**wrong)
