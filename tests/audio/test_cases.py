"""Small files that players read and simple readers do not: whole in use, in training and in preparation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from encode import decibels, decode
from slap.audio.reader import AudioError, AudioFile, header, measure
from slap.datamodules import Clip, read_manifest, write_manifest
from slap.datamodules.audio.load import DecodeError, load, mono
from slap.datamodules.prepare.headers import Fault, read_header

CASES = Path(__file__).parents[3] / "shared" / "data" / "cases"
RATE = 16_000
SECONDS = {
    "vbr_without_length.mp3": 5.07,
    "joined.mp3": 10.08,
    "chained.ogg": 10.02,
    "chained.opus": 10.00,
    "unknown_length.flac": 2.00,
    "libsndfile_refuses_126.flac": 1.94,
    "libsndfile_refuses_32.flac": 1.66,
    "data_size_0.wav": 1.00,
    "opposite_phase.wav": 2.00,
    "clip.webm": 2.00,
    "clip.mkv": 2.00,
    "clip.aac": 2.11,
    "clip.wma": 1.98,
    "cut_without_end.opus": 0.99,
}
NOTHING = {"cut_without_end.ogg": "unreadable", "zero_channels.m4a": "unreadable"}
NOTES = {"cut_without_end.opus": "its stream breaks off after 0.99 s"}

pytestmark = pytest.mark.skipif(not CASES.exists(), reason="the odd files are not here")


def channels(block: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(block.T)


@pytest.mark.parametrize("name", SECONDS)
def test_whole_in_use(name: str) -> None:
    with AudioFile(CASES / name) as file:
        rate = file.header.rate
        found = file.read(rate, mix=channels)
        assert file.note == NOTES.get(name, "")
        assert file.begins == 0.0
        part = file.read(rate, 0.5, 0.4, mix=channels)
        assert np.array_equal(part, found[..., rate // 2 :][..., : part.shape[-1]])
    samples = found.reshape(-1, found.shape[-1]).T
    assert len(samples) / rate == pytest.approx(SECONDS[name], abs=0.006)
    expected, own = decode(CASES / name)
    assert own == rate
    late = len(expected) - len(samples)  # in Matroska FFmpeg 8 leaves some of what an encoder of Opus puts before
    assert abs(late) < 960
    assert decibels(expected[late:], samples) >= 60


@pytest.mark.parametrize("name", SECONDS)
def test_whole_in_training_and_in_preparation(name: str, tmp_path: Path) -> None:
    (cut,) = read_manifest(write_manifest(tmp_path / "m.jsonl", [Clip("a", CASES / name, ["x"])]))
    assert cut.duration == pytest.approx(SECONDS[name], abs=0.006)
    with AudioFile(CASES / name) as file:
        used = file.read(RATE)
    assert np.array_equal(load(mono(cut, RATE)), used)
    middle = mono(cut, RATE).truncate(offset=0.5, duration=0.25)
    assert len(load(middle)) == 0.25 * RATE
    prepared = read_header(str(CASES / name))
    assert prepared == measure(CASES / name)
    assert (prepared.duration, prepared.exact) == (cut.recording.duration, True)
    assert prepared.note == NOTES.get(name, "")


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_can_be_decoded(name: str, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=name) as caught:
        AudioFile(CASES / name)
    assert (caught.value.reason, caught.value.file) == (NOTHING[name], str(CASES / name))
    fault = read_header(str(CASES / name))
    assert isinstance(fault, Fault)
    assert name in fault.detail
    soundfile.write(tmp_path / "good.wav", np.full(RATE, 0.1), RATE)
    bad: list = []
    clips = [Clip("good", tmp_path / "good.wav", ["x"]), Clip("bad", CASES / name, ["x"])]
    read_manifest(write_manifest(tmp_path / "m.jsonl", clips), max_bad=1.0, bad=bad)
    assert [(one.id, one.reason) for one in bad] == [("bad", NOTHING[name])]


def test_a_manifest_that_believed_the_header(tmp_path: Path) -> None:
    """libsndfile says 1.4 s; a clip of that length would be a fourth of the file, and nobody would know."""
    path = CASES / "vbr_without_length.mp3"
    (cut,) = read_manifest(write_manifest(tmp_path / "m.jsonl", [Clip("a", path, ["x"])]))
    for seconds in (1.39, 4.0, 6.5):
        cut.recording.duration = cut.duration = seconds
        cut.recording.num_samples = round(seconds * cut.recording.sampling_rate)
        with pytest.raises(DecodeError) as caught:
            load(mono(cut, RATE))
        assert caught.value.bad.reason in ("wrong_duration", "truncated")


def test_a_header_is_read_without_decoding_the_file() -> None:
    assert not header(CASES / "joined.mp3").exact
    assert header(CASES / "opposite_phase.wav").exact
