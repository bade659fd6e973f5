"""Channels to one: the mean, or the loudest where the mean would cancel them; the same however the blocks fall."""

import numpy as np
import pytest
import soundfile

from slap.audio.level import Level
from slap.audio.mixing import average, mix, mixed
from slap.audio.reader import blocks, read

RATE = 1000


def noise(frames, channels=1, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, (frames, channels)).astype(np.float32)


def dbfs(samples):
    return 10 * float(np.log10(np.square(samples, dtype=np.float64).mean()))


def test_stereo_of_opposite_phase_is_its_louder_channel():
    """It was silence, the first hit for "a dog barks"."""
    sound = noise(4000)
    for gain, louder in ((-1.0, 0), (-0.9, 0), (-1.1, 1)):
        stereo = np.concatenate([sound, gain * sound], 1)
        np.testing.assert_array_equal(mix(stereo, RATE), stereo[:, louder])


@pytest.mark.parametrize("gain", [1.0, 0.5, 0.0, -0.5, -0.8])
def test_other_stereo_is_the_mean(gain):
    sound = noise(4000)
    stereo = np.concatenate([sound, gain * sound], 1)
    np.testing.assert_allclose(mix(stereo, RATE), stereo.mean(1), rtol=0, atol=1e-7)


def test_independent_channels_are_the_mean():
    for channels in (2, 6, 64):
        frames = noise(4000, channels)
        np.testing.assert_allclose(mix(frames, RATE), frames.mean(1), rtol=0, atol=1e-7)


def test_a_sound_in_one_of_six_channels_is_16_db_softer():
    frames = np.zeros((4000, 6), np.float32)
    frames[:, 2:3] = noise(4000)
    assert dbfs(mix(frames, RATE)) == pytest.approx(dbfs(frames[:, 2]) - 15.56, abs=0.01)


@pytest.mark.parametrize("lead", [0, 700, 5000])
@pytest.mark.parametrize("block", [1, 7, 999, 1000, 4096, 31_000, 100_000])
def test_blocks_change_no_bit(lead, block):
    sound = noise(40_000)
    silence = np.zeros((lead, 2), np.float32)
    late = noise(10_000, 2, seed=1)  # after the seconds that decide
    for second in (-0.95 * sound, noise(40_000, seed=2)):
        frames = np.concatenate([silence, np.concatenate([sound, second], 1), late])
        step = max(block, 50) if block == 1 else block  # single frames only where it is quick
        parts = list(mixed((frames[at : at + step] for at in range(0, len(frames), step)), RATE))
        np.testing.assert_array_equal(np.concatenate(parts), mix(frames, RATE))


def test_the_first_30_seconds_of_sound_decide():
    opposite = noise(30_000)
    opposite = np.concatenate([opposite, -opposite], 1)
    plain = np.repeat(noise(5000, seed=1), 2, 1)
    silence = np.zeros((40_000, 2), np.float32)
    frames = np.concatenate([silence, opposite, plain])
    np.testing.assert_array_equal(mix(frames, RATE)[40_000:], frames[40_000:, 0])
    frames = np.concatenate([silence, plain, opposite])
    np.testing.assert_allclose(mix(frames, RATE), frames.mean(1), rtol=1e-5, atol=1e-7)


def test_silence_and_what_is_not_finite_are_the_mean():
    assert not mix(np.zeros((500, 2), np.float32), RATE).any()
    frames = noise(500)
    frames = np.concatenate([frames, -frames], 1)
    frames[100, 1] = np.nan
    assert np.isnan(mix(frames, RATE)).sum() == 1
    assert average(frames[:1]).tolist() == [0.0]


def test_a_long_file_in_blocks_is_that_channel(tmp_path):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 50 * 8000)
    soundfile.write(tmp_path / "a.wav", np.stack([0.5 * sound, -0.48 * sound], 1), 8000, subtype="FLOAT")
    soundfile.write(tmp_path / "b.wav", 0.5 * sound, 8000, subtype="FLOAT")
    whole = read(tmp_path / "b.wav", 8000)
    for seconds in (1.0, 30.0):
        found = np.concatenate(list(blocks(tmp_path / "a.wav", 8000, seconds)))
        np.testing.assert_allclose(found, whole, rtol=0, atol=1e-6)


# -- levels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "silent"),
    [
        (np.zeros(100), True),
        (np.full(100, 0.25), True),  # a constant offset
        (0.25 + 0.01 * np.sin(np.arange(100)), False),
        (10 ** (-71 / 20) * np.sin(np.arange(100)), True),
        (10 ** (-69 / 20) * np.sin(np.arange(100)), False),
        (np.random.default_rng(0).integers(-2, 3, 100) / 32768, True),  # dither of 16 bits
    ],
)
def test_silence_is_found_by_level(samples, silent):
    assert Level().add(samples).silent == silent
    assert Level().add(samples[:50]).add(samples[50:]).dbfs == Level().add(samples).dbfs


def test_levels_as_text():
    assert str(Level().add(np.zeros(3))) == "digital silence"
    assert str(Level().add(np.array([0.001, -0.001]))) == "-60 dBFS"
