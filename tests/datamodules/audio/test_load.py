"""Samples: the mean of channels, the model's rate, the same from disk and from memory, and faults that say where."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import Recording, SupervisionSegment
from lhotse.audio.backend import get_current_audio_backend
from lhotse.cut import Cut

from slap.datamodules import Clip, read_manifest, write_manifest
from slap.datamodules.audio.load import DecodeError, decoded, load, mixed_down, mono


def tone(hertz: float, seconds: float, rate: int) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def cut_of(path: Path, samples: np.ndarray, rate: int, start: float = 0.0, duration: float | None = None) -> Cut:
    soundfile.write(path, samples, rate, subtype="FLOAT")
    manifest = write_manifest(path.with_suffix(".jsonl"), [Clip("x", path, ["y"], start=start, duration=duration)])
    return next(iter(read_manifest(manifest)))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (16000, channels)).astype(np.float32)
    cut = mono(cut_of(tmp_path / "a.wav", samples, 16000), 16000)
    torch.testing.assert_close(load(cut), torch.from_numpy(samples.mean(axis=1)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44100, 2), (48000, 1)])
def test_resampling_keeps_a_tone(tmp_path: Path, rate: int, channels: int) -> None:
    samples = np.repeat(tone(1000, 1.5, rate)[:, None], channels, axis=1)
    audio = load(mono(cut_of(tmp_path / "a.wav", samples, rate), 16000))
    assert len(audio) == 24000
    wanted = torch.from_numpy(tone(1000, 1.5, 16000)).float()
    # The filter's edge needs a few samples.
    torch.testing.assert_close(audio[200:-200], wanted[200:-200], rtol=0, atol=2e-3)


def test_resampling_does_not_alias(tmp_path: Path) -> None:
    audio = load(mono(cut_of(tmp_path / "a.wav", tone(10000, 1.0, 44100), 44100), 16000))
    assert audio[200:-200].abs().max() < 0.01  # 10 kHz is above what 16 kHz can hold


@pytest.mark.parametrize("rate", [16000, 44100])
def test_segments_begin_where_they_say(tmp_path: Path, rate: int) -> None:
    time = np.linspace(0, 1, 4 * rate, endpoint=False)  # the value tells the place
    audio = load(mono(cut_of(tmp_path / "a.wav", time, rate, start=1.0, duration=2.0), 16000))
    assert len(audio) == 32000
    torch.testing.assert_close(audio[200:-200], torch.linspace(0.25, 0.75, 32001)[200:-201], rtol=0, atol=2e-3)


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44100, 2)])
def test_memory_gives_what_disk_gives(tmp_path: Path, rate: int, channels: int) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (3 * rate, channels))
    disk = mono(cut_of(tmp_path / "a.wav", samples, rate, start=0.4, duration=1.3), 16000)
    memory = decoded(disk)
    assert torch.equal(load(memory), load(disk))
    assert memory.num_samples == disk.num_samples == len(load(disk))
    crop = {"offset": 0.25, "duration": 0.5}
    whole = load(disk)
    assert torch.equal(load(memory.truncate(**crop)), whole[4000:12000])
    (tmp_path / "a.wav").unlink()
    assert torch.equal(load(pickle.loads(pickle.dumps(memory))), whole)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_one_sample_is_a_clip(tmp_path: Path, rate: int) -> None:
    cut = mono(cut_of(tmp_path / "a.wav", np.full(1, 0.5), rate), 16000)
    assert len(load(cut)) == cut.num_samples == max(16000 // rate, 1)
    assert torch.equal(load(decoded(cut)), load(cut))


def test_a_mix_is_averaged_not_summed(tmp_path: Path) -> None:
    stereo = np.stack([np.full(1600, 0.5), np.full(1600, 0.1)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 16000, subtype="FLOAT")
    cut = Recording.from_file(tmp_path / "a.wav").to_cut()
    mix = cut.mix(cut)
    torch.testing.assert_close(load(mono(mixed_down(mix), 16000)), torch.full((1600,), 0.6))


def test_a_cut_keeps_the_channel_that_it_names(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([np.full(160, 0.5), np.full(160, 0.1)], axis=1), 16000)
    cut = Recording.from_file(tmp_path / "a.wav").to_cut().to_mono()[1]
    torch.testing.assert_close(load(mono(cut, 16000)), torch.full((160,), 0.1), atol=1e-4, rtol=0)


def test_faults_name_clip_line_and_file(tmp_path: Path) -> None:
    cut = cut_of(tmp_path / "a.wav", np.zeros((8000, 2)), 8000)
    before = get_current_audio_backend()
    (tmp_path / "a.wav").write_bytes(b"RIFF damaged")
    for broken in (cut, mono(cut, 16000), mono(cut, 16000).mix(mono(cut, 16000))):
        with pytest.raises(DecodeError, match=r"clip '.*' \(.*a\.jsonl, line 1\) cannot be decoded from .*a\.wav: \w+"):
            load(broken)
    assert get_current_audio_backend() is before
    with pytest.raises(DecodeError, match=r"a\.wav"):
        raise pickle.loads(pickle.dumps(_caught(cut)))


def _caught(cut: Cut) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        load(cut)
    return caught.value


def test_a_files_name_is_never_a_command(tmp_path: Path) -> None:
    """Lhotse's default backend passes the name of an .sph file to a shell."""
    path = tmp_path / "x; touch mark; .sph"
    path.write_bytes(b"NIST_1A")
    recording = Recording("r", Recording.from_dict(_record(path)).sources, 16000, 16000, 1.0)
    cut = recording.to_cut()
    cut.supervisions = [SupervisionSegment("s", "r", 0, 1, text="y")]
    with pytest.raises(DecodeError, match="cannot be read as audio"):
        load(cut)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def _record(path: Path) -> dict:
    source = {"type": "file", "channels": [0], "source": str(path)}
    return {"id": "r", "sources": [source], "sampling_rate": 16000, "num_samples": 16000, "duration": 1.0}
