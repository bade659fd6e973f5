"""Formats that two decoders read: one list of suffixes, and choices between the decoders."""

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from encode import decibels, decode, encode
from slap.audio.ffmpeg import FORMATS
from slap.audio.reader import AudioFile, header
from slap.audio.scan import SUFFIXES

RATE = 16_000
BY_LIBSNDFILE = {"sph", "snd", "rf64", "aifc", "wave"}
CONTAINERS = {
    **dict.fromkeys(("m4a", "m4b", "mp4", "m4v", "3gp", "3g2", "f4v"), "mov"),
    **dict.fromkeys(("mka", "mkv", "webm", "weba"), "matroska"),
    **dict.fromkeys(("oga", "opus", "spx", "ogv"), "ogg"),
    **dict.fromkeys(("wma", "wmv"), "asf"),
    **dict.fromkeys(("mpg", "vob"), "mpeg"),
    "aif": "aiff",
    "awb": "amr",
    "m2ts": "mpegts",
    "mp2": "mp3",
}


def noise(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.3, 0.3, (round(seconds * rate), channels))


def whole(path: Path) -> tuple[np.ndarray, str]:
    with AudioFile(path) as file:
        samples = file.read(file.header.rate, mix=lambda block: block.T.copy())
        return samples.T, file.note


def test_every_suffix_has_a_decoder() -> None:
    assert len(set(SUFFIXES)) == len(SUFFIXES)
    missing = {suffix for suffix in SUFFIXES if CONTAINERS.get(suffix, suffix) not in FORMATS}
    assert missing == BY_LIBSNDFILE
    assert {name.split(",")[0] for name in av.formats_available} >= set(FORMATS)


@pytest.mark.parametrize("channels", [1, 6])
def test_opus_has_48_khz_and_the_usual_order_of_channels(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "a.opus"
    encode(path, noise(1, 48_000, channels) * 0.7 ** np.arange(channels), 48_000 if channels > 1 else RATE, "libopus")
    right, rate = decode(path)
    found, _ = whole(path)
    assert header(path).rate == rate == 48_000
    assert found.shape == right.shape
    assert decibels(right, found) > 60


def test_channels_of_vorbis_come_in_the_usual_order(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, noise(1, 44_100, 6) * 0.7 ** np.arange(6), 44_100)
    assert decibels(decode(path)[0], whole(path)[0]) > 60


def test_mp3_in_wav_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    encode(path, noise(2, 44_100), 44_100, "libmp3lame")
    right = decode(path)[0]
    found, note = whole(path)
    assert len(found) == len(right)
    assert not note


@pytest.mark.parametrize("name", ["a.caf", "a.rf64", "a.wma"])
def test_what_was_cut_off_is_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.wma":
        encode(path, noise(3, 44_100), 44_100, "wmav2", b="128k")
    else:
        soundfile.write(path, noise(3), RATE, format=name[2:].upper())
    assert whole(path)[1] == ""
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    samples, note = whole(path)
    assert len(samples)
    assert "breaks off" in note or "cut short" in note


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_pictures_that_last_longer_are_no_cut(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    encode(path, noise(1, 44_100), 44_100, "aac", late=1.0, video=True)  # pictures for four seconds
    assert whole(path)[1] == ""


def test_the_first_frame_says_the_rate(tmp_path: Path) -> None:
    parts = []
    for rate in (32_000, 48_000):
        encode(tmp_path / "a.ac3", noise(0.3, rate), rate, "ac3")
        parts.append((tmp_path / "a.ac3").read_bytes())
    (tmp_path / "a.ac3").write_bytes(b"".join(parts))
    assert header(tmp_path / "a.ac3").rate == 32_000
    samples, _ = whole(tmp_path / "a.ac3")
    assert abs(len(samples) - 0.6 * 32_000) < 2 * 1536
