"""Files and arrays of any kind become mono audio at one rate, or an error that names them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from torchaudio.transforms import Resample

from slap.audio.arrays import from_array
from slap.audio.reader import AudioError, blocks, header, read
from slap.audio.resample import resampled

RATE = 16_000
SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def noise():
    return (torch.rand(3, 20_011, generator=torch.Generator().manual_seed(1)) - 0.5).numpy()


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("size", [997, 5000, 100_000])
def test_resampling_in_blocks_equals_resampling_at_once(rate, size):
    audio = np.random.default_rng(rate).uniform(-0.5, 0.5, 23_456).astype(np.float32)
    joined = np.concatenate(list(resampled(iter(np.split(audio, range(size, len(audio), size))), rate, RATE)))
    whole = audio if rate == RATE else Resample(rate, RATE)(torch.from_numpy(audio)).numpy()
    assert len(joined) == (2 * 23_456 * RATE + rate) // (2 * rate)
    np.testing.assert_allclose(joined, whole[: len(joined)], rtol=0, atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 3, 7])
@pytest.mark.parametrize("rate", [8000, 44_100, 192_000])
def test_even_the_shortest_audio_survives_resampling(length, rate):
    nearest = (2 * length * RATE + rate) // (2 * rate)
    assert len(from_array(np.full(length, 0.5, np.float32), rate, RATE)) == max(nearest, 1)


def test_rates_without_a_common_divisor_keep_pitch_and_length():
    rate = 44_101
    tone = torch.sin(2 * torch.pi * 440 * torch.arange(2 * rate, dtype=torch.float64) / rate).float()
    found = from_array(tone, rate, RATE)
    assert abs(len(found) - 2 * RATE) <= 1
    peak = np.abs(np.fft.rfft(found * np.hanning(len(found)))).argmax() / 2
    assert float(peak) == pytest.approx(440, abs=0.5)


@pytest.mark.parametrize(
    ("dtype", "full"), [("int16", 32768), ("int32", 2147483648), ("int8", 128), ("float64", 1), ("float16", 1)]
)
def test_integers_and_floats_mean_the_same(dtype, full):
    wave = np.array([0.0, 0.5, -0.5, -1.0])
    np.testing.assert_array_equal(from_array((wave * full).astype(dtype), RATE, RATE), wave)


def test_bytes_are_centered():
    assert from_array(np.array([0, 128, 192], np.uint8), RATE, RATE).tolist() == [-1.0, 0.0, 0.5]


def test_channels_are_averaged_whichever_axis_they_are(noise):
    mean = noise.mean(0)
    for array in (noise, noise.T, torch.tensor(noise)):
        np.testing.assert_allclose(from_array(array, RATE, RATE, channels=True), mean, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("array", "rate", "message"),
    [
        (np.zeros(0, np.float32), RATE, "song holds no samples"),
        (np.zeros((2, 0), np.float32), RATE, "holds no samples"),
        (np.array([0.1, np.nan]), RATE, "song has a sample that is nan, number 1"),
        (np.array([np.inf, 0.0]), RATE, "a sample that is inf, number 0"),
        (np.array([20_000.0, 3.0]), RATE, "samples of up to 20000; floats must lie in -1 to 1"),
        (np.zeros((2, 3, 4)), RATE, r"shape \(2, 3, 4\)"),
        (np.zeros((2, 2)), RATE, "channels cannot be told"),
        (np.zeros(4, np.int64), RATE, "int64; samples may be"),
        (np.zeros(4), 0, "sample rate as an int of 100 to 768000 Hz, got 0"),
        (np.zeros(4), 16_000.5, "got 16000.5"),
    ],
)
def test_what_is_no_audio_is_named(array, rate, message):
    with pytest.raises(AudioError, match=message):
        from_array(array, rate, RATE, "song")


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_files_in_blocks_equal_the_whole(ending, noise, tmp_path):
    path = tmp_path / f"noise.{ending}"
    soundfile.write(path, noise.T[:, :2], 44_100)
    whole, rate = soundfile.read(path, dtype="float32")
    expected = Resample(rate, RATE)(torch.from_numpy(whole.mean(1)))[: round(len(whole) * RATE / rate)].numpy()
    np.testing.assert_allclose(read(path, RATE), expected, rtol=0, atol=1e-6)
    pieces = list(blocks(path, RATE, seconds=0.07))
    assert len(pieces) > 3
    np.testing.assert_allclose(np.concatenate(pieces), expected, rtol=0, atol=1e-6)
    assert header(path).channels == 2
    assert header(path).duration == pytest.approx(len(whole) / 44_100, rel=0.1)


def test_m4a_in_blocks_equals_the_whole(tmp_path):
    time = np.arange(3 * 44_100) / 44_100
    tone = (0.5 * np.sin(2 * np.pi * (300 * time + 50 * time**2))).astype(np.float32)
    path = tmp_path / "tone.m4a"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100, layout="mono", bit_rate=192_000)
        frame = av.AudioFrame.from_ndarray(tone[None], "fltp", "mono")
        frame.sample_rate, frame.time_base, frame.pts = 44_100, Fraction(1, 44_100), 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    whole = read(path, RATE)
    assert len(whole) / RATE == pytest.approx(3.0, abs=0.05)
    np.testing.assert_allclose(np.concatenate(list(blocks(path, RATE, seconds=0.31))), whole, rtol=0, atol=1e-3)
    later = np.concatenate(list(blocks(path, RATE, start=1.0, duration=0.5)))
    np.testing.assert_allclose(later[800:-800], whole[RATE + 800 : RATE * 3 // 2 - 800], rtol=0, atol=1e-3)
    (tmp_path / "cut.m4a").write_bytes(path.read_bytes()[:2000])
    with pytest.raises(AudioError, match=r"cut\.m4a cannot be read as audio"):
        read(tmp_path / "cut.m4a", RATE)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
def test_stretches_of_files(ending, noise, tmp_path):
    path = tmp_path / f"noise.{ending}"
    soundfile.write(path, noise.T[:, :2], 16_000)
    whole = read(path, RATE)
    found = np.concatenate(list(blocks(path, RATE, seconds=0.1, start=0.25, duration=0.5)))
    np.testing.assert_allclose(found, whole[4000:12_000], rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.concatenate(list(blocks(path, RATE, start=1.0))), whole[16_000:], rtol=0, atol=1e-6)


def test_files_that_cannot_be_used(tmp_path):
    (tmp_path / "text.wav").write_text("no audio")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), RATE, subtype="FLOAT")
    for name, message in [
        ("absent.wav", "there is no file .*absent.wav"),
        ("text.wav", "text.wav cannot be read as audio"),
        ("empty.wav", "empty.wav holds no samples"),
        ("nan.wav", "nan.wav has a sample that is nan"),
    ]:
        with pytest.raises(AudioError, match=message):
            read(tmp_path / name, RATE)


@pytest.mark.skipif(not SHARED.exists(), reason="the real recordings are not here")
def test_real_recordings():
    digit = read(SHARED / "fsdd/recordings/3_theo_7.wav", RATE)
    assert 0.1 < len(digit) / RATE < 2.4
    sound = next(SHARED.glob("esc10/*/*.ogg"))
    assert 3 < len(read(sound, RATE)) / RATE < 8


def test_file_without_channels(tmp_path, monkeypatch):
    path = tmp_path / "silent.wav"
    soundfile.write(path, np.zeros(100), RATE)
    monkeypatch.setattr(soundfile.SoundFile, "channels", 0)
    with pytest.raises(AudioError, match=r"silent\.wav says that it has no channels"):
        header(path)
