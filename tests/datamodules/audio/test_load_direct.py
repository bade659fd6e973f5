"""The short way to the samples of a usual clip gives, bit for bit, what the long one through Lhotse gives."""

import random
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import MonoCut, Recording
from lhotse.cut import Cut

from slap.audio.reader import AudioError
from slap.core.bad_clip import BadClip
from slap.datamodules import Clip, read_manifest, write_manifest
from slap.datamodules.audio.decode import checked
from slap.datamodules.audio.load import DecodeError, load, load_simple_cut, mono
from slap.datamodules.shar.write import pack


def written(folder: Path, rate: int, kind: str, frames: int) -> MonoCut:
    samples = np.random.default_rng(frames).uniform(-0.5, 0.5, frames)
    soundfile.write(folder / f"a.{kind}", samples, rate)
    return Recording.from_file(folder / f"a.{kind}").to_cut()


def assert_same(cut: Cut) -> None:
    short = load_simple_cut(cut)
    assert short is not None
    np.testing.assert_array_equal(short, checked(cut).load_audio())


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_whole_clips_stretches_and_crops(tmp_path: Path, rate: int, kind: str) -> None:
    cut = written(tmp_path, rate, kind, 2 * rate + 137)
    rng = random.Random(0)
    for target in (16000, rate):
        assert_same(cut)
        assert_same(mono(cut, target))
        for _ in range(8):
            start, length = rng.uniform(0, 1.5), rng.uniform(1e-4, 0.5)
            stretch = cut.truncate(offset=start, duration=length)
            assert_same(stretch)
            assert_same(mono(stretch, target))
            assert_same(mono(cut, target).truncate(offset=start, duration=length))


def test_lengths_that_differ_a_little_from_what_the_manifest_says(tmp_path: Path) -> None:
    cut = written(tmp_path, 16000, "wav", 16000)
    for difference in (-9, -1, 1, 9):
        other = Recording("r", cut.recording.sources, 16000, 16000 + difference, 1 + difference / 16000).to_cut()
        assert_same(other)
        assert_same(mono(other, 8000))


def test_members_of_a_tar(tmp_path: Path) -> None:
    written(tmp_path, 44100, "wav", 44100)
    write_manifest(tmp_path / "m.jsonl", [Clip("a", tmp_path / "a.wav", ["x"])])
    pack(tmp_path / "m.jsonl", tmp_path / "shards", workers=0)
    (cut,) = read_manifest(tmp_path / "shards")
    assert_same(cut)
    assert_same(mono(cut, 16000).truncate(offset=0.3, duration=0.2))
    np.testing.assert_array_equal(load_simple_cut(cut), load_simple_cut(read_manifest(tmp_path / "m.jsonl")[0]))


def test_unusual_clips_go_the_long_way(tmp_path: Path) -> None:
    cut = written(tmp_path, 16000, "wav", 16000)
    soundfile.write(tmp_path / "b.wav", np.zeros((1600, 2)), 16000)
    stereo = Recording.from_file(tmp_path / "b.wav").to_cut()
    twice = cut.resample(8000).resample(4000)
    for other in (stereo, *stereo.to_mono(), cut.mix(cut), cut.perturb_speed(0.9), cut.perturb_volume(2.0), twice):
        assert load_simple_cut(other) is None


def test_both_ways_complain_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = written(tmp_path, 16000, "wav", 16000)

    def fault() -> BadClip:
        with pytest.raises(DecodeError) as caught:
            load(mono(cut, 8000))
        return caught.value.bad

    for damage in (b"RIFF junk", (tmp_path / "a.wav").read_bytes()[:20000], None):
        if damage is None:
            (tmp_path / "a.wav").unlink()
        else:
            (tmp_path / "a.wav").write_bytes(damage)
        with pytest.raises(AudioError):
            load_simple_cut(cut)
        short = fault()
        with monkeypatch.context() as patch:
            patch.setattr("slap.datamodules.audio.load.load_simple_cut", lambda *_: None)
            assert fault() == short
