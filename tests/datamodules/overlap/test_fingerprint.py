"""Fingerprints: changed copies of a clip are found, other clips are not, and the bits are those of the paper."""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import AudioSource, MonoCut, MultiCut, Recording

from slap.datamodules.audio.load import DecodeError
from slap.datamodules.overlap import fingerprint as module
from slap.datamodules.overlap.fingerprint import (
    BANDS,
    HIGHEST,
    HOP,
    LAG,
    LOWEST,
    RATE,
    WINDOW,
    band_energies,
    fingerprint,
    resampled,
)
from slap.datamodules.overlap.fingerprint_index import FingerprintIndex, tolerated

SHARED = Path(__file__).parents[4] / "shared" / "data" / "esc10"


def sound(seed, seconds=4.0, rate=16000):
    """Synthesize noise whose spectrum and loudness change all the time, like those of real events."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=round(seconds * rate))
    slow = np.repeat(rng.uniform(0.05, 1.0, len(noise) // 1600 + 1), 1600)[: len(noise)]
    tone = np.sin(
        2 * np.pi * np.cumsum(np.repeat(rng.uniform(300, 3000, len(noise) // 3200 + 1), 3200))[: len(noise)] / rate
    )
    return (0.2 * slow * (noise / 4 + tone)).astype(np.float32)


def cut_of(path, start=0.0, duration=None, name="clip"):
    header = soundfile.info(str(path))
    channels = list(range(header.channels))
    recording = Recording(
        name, [AudioSource("file", channels, str(path))], header.samplerate, header.frames, header.duration
    )
    kind, channel = (MonoCut, 0) if len(channels) == 1 else (MultiCut, channels)
    return kind(name, start, duration or header.duration - start, channel, [], None, recording)


def written(folder, samples, rate=16000, name="x.wav", **how):
    soundfile.write(folder / name, samples, rate, **how)
    return cut_of(folder / name)


def test_bits_are_those_of_the_formula(tmp_path):
    samples = sound(0, 0.5, RATE)
    cut = written(tmp_path, samples, RATE, subtype="FLOAT")
    edges = [LOWEST * (HIGHEST / LOWEST) ** (b / BANDS) for b in range(BANDS + 1)]
    energy = []
    for begin in range(0, len(samples) - WINDOW + 1, HOP):
        window = samples[begin : begin + WINDOW] * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / (WINDOW - 1)))
        power = np.abs(np.fft.fft(window)) ** 2
        row = []
        for low, high in pairwise(edges):
            total = 0.0
            for k in range(WINDOW // 2 + 1):  # a frequency counts by how much of its 3.9 Hz lies in the band
                bottom, top = (k - 0.5) * RATE / WINDOW, (k + 0.5) * RATE / WINDOW
                total += power[k] * max(0.0, min(top, high) - max(bottom, low)) / (RATE / WINDOW)
            row.append(total)
        energy.append(row)
    assert band_energies(samples) == pytest.approx(np.array(energy), rel=1e-3)
    expected = []
    for n in range(LAG, len(energy)):
        bits = [
            (energy[n][m] - energy[n][m + 1]) - (energy[n - LAG][m] - energy[n - LAG][m + 1]) > 0
            for m in range(BANDS - 1)
        ]
        expected.append(bits)
    found = fingerprint(cut)
    ours = [
        [bool(frame[m // 8] >> (7 - m % 8) & 1) for m in range(32)]
        for frame in found.frames.view(np.uint8).reshape(-1, 4)
    ]
    assert np.mean(np.array(ours) == np.array(expected)) > 0.999  # rounding may turn a bit whose two sides are equal
    assert found.sound.all()


@pytest.mark.parametrize("rate", [16000, 22050, 44100, 48000, 11025, 8000, 6000, 44101])
def test_resampling_keeps_a_tone(rate):
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
    ideal = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert resampled(tone, rate)[500:-500] == pytest.approx(ideal[500:-500], abs=0.02)


def mp3(samples, rate, **how):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="MP3", **how)
    file.seek(0)
    return soundfile.read(file)


GUISES = {
    "gain": lambda samples, rate: (samples * 0.1, rate),
    "mp3": mp3,
    "low mp3": lambda samples, rate: mp3(samples, rate, compression_level=0.99),
    "8 kHz": lambda samples, rate: (resampled(samples, rate), RATE),
    "stereo": lambda samples, rate: (np.stack([samples, 0.5 * samples], axis=1), rate),
    "crop": lambda samples, rate: (samples[round(1.237 * rate) : round(3.4 * rate)], rate),
    "in the middle": lambda samples, rate: (np.concatenate([sound(98), samples, sound(99)]), rate),
    "noise": lambda samples, rate: (samples + 0.002 * np.random.default_rng(1).normal(size=len(samples)), rate),
}


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("known")
    return FingerprintIndex([fingerprint(written(folder, sound(seed), name=f"{seed}.wav")) for seed in range(8)])


@pytest.mark.parametrize("guise", GUISES)
def test_a_clip_is_found_in_each_guise(guise, index, tmp_path):
    samples, rate = GUISES[guise](sound(3), 16000)
    found = index.matches(fingerprint(written(tmp_path, samples, rate, name="x.flac")))
    assert [match.clip for match in found] == [3]
    assert found[0].different < 0.25
    begins = {"crop": 1.237, "in the middle": -4.0}.get(guise, 0.0)
    assert found[0].offset == pytest.approx(begins, abs=0.06)
    assert found[0].seconds > 1.5


def test_another_clip_is_not_found(index, tmp_path):
    for seed in range(20, 28):
        assert index.matches(fingerprint(written(tmp_path, sound(seed)))) == []


def test_silence_and_constant_clips_match_nothing(tmp_path):
    silent = [np.zeros(48000), np.full(48000, 0.1), 1e-6 * np.ones(48000)]
    prints = [fingerprint(written(tmp_path, samples, name=f"{n}.flac")) for n, samples in enumerate(silent)]
    assert not any(one.sound.any() for one in prints)
    index = FingerprintIndex(prints)
    assert [index.matches(one) for one in prints] == [[], [], []]


def test_short_clips_are_known_by_their_samples_alone(tmp_path):
    one, other = (fingerprint(written(tmp_path, sound(1, seconds))) for seconds in (0.65, 0.75))
    assert 0 < len(one.frames) < 20 <= len(other.frames)
    assert FingerprintIndex([one]).matches(one) == []
    assert [match.clip for match in FingerprintIndex([other]).matches(other)] == [0]
    assert len(fingerprint(written(tmp_path, sound(1, 0.3))).frames) == 0
    assert tolerated(20) < tolerated(62)


def test_content_names_the_samples_not_the_file(tmp_path):
    steps = np.round(sound(5) * 32767).astype(np.int16)
    wav = fingerprint(written(tmp_path, steps)).content
    assert len(wav) == 16
    assert fingerprint(written(tmp_path, steps, name="x.flac")).content == wav
    padded = np.concatenate([np.zeros(123, np.int16), steps, np.zeros(4567, np.int16)])
    assert fingerprint(written(tmp_path, padded)).content == wav
    assert fingerprint(written(tmp_path, np.stack([steps, steps], axis=1))).content == wav
    assert fingerprint(written(tmp_path, steps.astype(np.int32) << 16, subtype="PCM_24")).content == wav
    assert fingerprint(written(tmp_path, steps, 16001)).content != wav
    assert fingerprint(written(tmp_path, steps // 2)).content != wav
    assert fingerprint(written(tmp_path, steps[:-1000])).content != wav
    assert fingerprint(written(tmp_path, np.zeros(100, np.int16))).content == b""


def test_long_audio_is_read_in_blocks_that_leave_no_seam(tmp_path, monkeypatch):
    cut = written(tmp_path, sound(6, 11.3, 44100), 44100)
    whole = fingerprint(cut)
    monkeypatch.setattr(module, "BLOCK", 2.0)
    parts = fingerprint(cut)
    assert parts.content == whole.content
    assert len(parts.frames) == len(whole.frames)
    wrong = np.unpackbits((parts.frames ^ whole.frames).view(np.uint8)).mean()
    assert wrong < 0.01  # the ends of blocks ring a little


def test_samples_that_are_not_numbers_are_an_error(tmp_path):
    samples = sound(7)
    samples[1000:1010] = np.nan
    with pytest.raises(DecodeError, match="not_finite"):
        fingerprint(written(tmp_path, samples, subtype="FLOAT"))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real recordings are not here")
def test_esc10_holds_one_recording_twice():
    names = ("2-28314-A", "2-30322-A", "2-28314-B", "2-30322-B", "1-30226-A", "3-136288-A")
    files = {path.stem: path for path in SHARED.glob("*/*.ogg")}
    prints = [fingerprint(cut_of(files[name])) for name in names]
    index = FingerprintIndex(prints)
    found = {name: [names[match.clip] for match in index.matches(one)] for name, one in zip(names, prints, strict=True)}
    assert found["2-28314-A"] == ["2-28314-A", "2-30322-A"]
    assert found["2-28314-B"] == ["2-28314-B", "2-30322-B"]
    assert found["1-30226-A"] == ["1-30226-A"]
