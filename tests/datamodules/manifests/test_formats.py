"""Audio of all formats, rates and channels, and segments of long files, of which only the segment is decoded."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from lhotse import AudioSource, MonoCut, Recording

from slap.audio.decoders import header
from slap.audio.ffmpeg import FfmpegFile
from slap.datamodules import Clip, read_manifest, write_manifest
from slap.datamodules.audio.load import DecodeError, load, mono

RATE = 16000
FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_24"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "aiff": ("AIFF", "PCM_16"),
    "m4a": ("M4A", "AAC"),
}
DELAY = {"mp3": 0.01, "m4a": 0.05}
"""Largest delay of decoded audio by samples that the encoder put before it, seconds."""


def sweep(seconds: float, rate: int) -> np.ndarray:
    """Synthesize a tone whose frequency encodes the time: 300 Hz at the beginning, 10 Hz more each second."""
    time = np.arange(round(seconds * rate)) / rate
    return 0.5 * np.sin(2 * np.pi * (300 * time + 5 * time**2))


def hertz(audio: torch.Tensor, rate: int = RATE) -> float:
    """Return the loudest frequency; at t seconds of a sweep it is 300 + 10 t."""
    window = torch.hann_window(len(audio))
    return torch.fft.rfft(audio * window, 2**19).abs().argmax().item() * rate / 2**19


def write(path: Path, samples: np.ndarray, rate: int) -> None:
    """Write a real file of the format of the path's suffix."""
    if path.suffix == ".m4a":
        samples = samples.reshape(len(samples), -1)
        with av.open(str(path), "w") as container:
            layout = {1: "mono", 2: "stereo"}[samples.shape[1]]
            stream = container.add_stream("aac", rate=rate, layout=layout, bit_rate=192_000)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T, dtype=np.float32), "fltp", layout)
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)
    else:
        format_, subtype = FORMATS[path.suffix[1:]]
        channels = samples.shape[1] if samples.ndim == 2 else 1
        with soundfile.SoundFile(path, "w", rate, channels, format=format_, subtype=subtype) as file:
            for start in range(0, len(samples), 2**18):  # libsndfile 1.2.2 crashes on minutes of Vorbis at once
                file.write(samples[start : start + 2**18])


def cut_of(path: Path, start: float = 0.0, duration: float | None = None, rate: int = RATE) -> MonoCut:
    manifest = write_manifest(path.with_suffix(".jsonl"), [Clip("x", path, ["y"], start=start, duration=duration)])
    return mono(read_manifest(manifest)[0], rate)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format(tmp_path: Path, name: str, channels: int) -> None:
    """Decoded samples equal the mean of the channels, up to the loss of the format."""
    samples = sweep(3.0, 48000)[:, None] * np.linspace(1.0, 0.5, channels)
    write(tmp_path / f"a.{name}", samples, 48000)
    audio = load(cut_of(tmp_path / f"a.{name}"))
    assert 3 * RATE <= len(audio) <= (3 + DELAY.get(name, 0)) * RATE
    wanted = torch.from_numpy(sweep(3.0, RATE)).float() * np.linspace(1.0, 0.5, channels).mean()
    errors = [
        (audio[late : late + 2 * RATE] - wanted[: 2 * RATE])[RATE // 2 :].abs().max().item()
        for late in range(round(DELAY.get(name, 0) * RATE) + 1)
    ]
    assert min(errors) < 0.05


@pytest.mark.parametrize("name", FORMATS)
def test_stretches_begin_where_they_say(tmp_path: Path, name: str) -> None:
    write(tmp_path / f"a.{name}", sweep(20.0, RATE), RATE)
    for start, duration in ((0.0, 1.0), (7.3, 0.8), (18.5, 1.5)):
        audio = load(cut_of(tmp_path / f"a.{name}", start, duration))
        assert len(audio) == round(duration * RATE)
        middle = start + duration / 2
        assert hertz(audio) == pytest.approx(300 + 10 * middle, abs=2)  # 0.2 s


@pytest.mark.parametrize("name", ["wav", "flac", "ogg", "m4a"])
def test_of_a_long_file_only_the_stretch_is_decoded(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use one hour of wav and flac, and two minutes of formats that are slow to encode."""
    rate, seconds = (2000, 3600) if name in ("wav", "flac") else (8000, 120)
    write(tmp_path / f"a.{name}", sweep(seconds, rate), rate)
    decoded: list[int] = []
    for kind, method in ((soundfile.SoundFile, "read"), (FfmpegFile, "_decoded")):
        original = getattr(kind, method)

        def counting(self, *arguments, original=original, **options):
            given = original(self, *arguments, **options)
            if isinstance(given, np.ndarray):
                decoded.append(len(given))
                return given
            return (decoded.append(len(block)) or block for block in given)

        monkeypatch.setattr(kind, method, counting)
    cut = cut_of(tmp_path / f"a.{name}", rate=rate)
    assert cut.duration == pytest.approx(seconds, abs=0.2)
    assert sum(decoded) <= (4 * rate if name == "m4a" else 0)  # its end, or the header alone
    for start in (0.6 * seconds, 0.1 * seconds):
        decoded.clear()
        part = cut.truncate(offset=start, duration=2.0)
        audio = load(part)
        assert len(audio) == 2 * rate
        folded = (300 + 10 * (start + 1)) % rate  # what is above half the rate folds back
        assert hertz(audio, rate) == pytest.approx(min(folded, rate - folded), abs=3)
        assert sum(decoded) <= 2 * rate + 3 * 4096


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_every_rate(tmp_path: Path, rate: int) -> None:
    write(tmp_path / "a.flac", sweep(2.0, rate), rate)
    audio = load(cut_of(tmp_path / "a.flac"))
    assert len(audio) == 2 * RATE
    torch.testing.assert_close(audio[200:-200], torch.from_numpy(sweep(2.0, RATE)).float()[200:-200], rtol=0, atol=2e-3)


@pytest.mark.parametrize("channels", range(1, 9))
def test_up_to_eight_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (4000, channels))
    for name in ("wav", "flac"):
        write(tmp_path / f"a.{name}", samples, RATE)
        mean = torch.from_numpy(samples.mean(1)).float()
        torch.testing.assert_close(load(cut_of(tmp_path / f"a.{name}")), mean, rtol=0, atol=1e-4)


@pytest.mark.parametrize("rate", [48_000, RATE])
def test_opus_by_a_manifest_of_either_rate(tmp_path: Path, rate: int) -> None:
    """libsndfile reports the rate of an Opus encoder's input; other decoders, and ours, always report 48 kHz."""
    write(tmp_path / "a.opus", sweep(4.0, RATE), RATE)
    assert header(tmp_path / "a.opus").rate == 48_000
    source = AudioSource("file", [0], str(tmp_path / "a.opus"))
    recording = Recording("r", [source], rate, 4 * rate, 4.0)
    for cut in (recording.to_cut(), recording.to_cut().truncate(offset=1.0, duration=2.0)):
        audio = load(mono(cut, RATE))
        assert len(audio) == round(cut.duration * RATE)
        assert hertz(audio) == pytest.approx(300 + 10 * (cut.start + cut.duration / 2), abs=2)


def test_gain_is_kept(tmp_path: Path) -> None:
    """Lhotse manifests may set the volume of a recording."""
    write(tmp_path / "a.wav", sweep(1.0, RATE), RATE)
    cut = Recording.from_file(tmp_path / "a.wav").to_cut()
    torch.testing.assert_close(load(mono(cut.perturb_volume(0.25), RATE)), 0.25 * load(mono(cut, RATE)))


def test_an_mp3_without_a_frame_that_counts_its_frames(tmp_path: Path) -> None:
    """Estimate its length, as for streams that were cut."""
    options = {"format": "MP3", "bitrate_mode": "CONSTANT", "compression_level": 0.5}
    soundfile.write(tmp_path / "a.mp3", sweep(6.0, 44100), 44100, **options)
    raw = (tmp_path / "a.mp3").read_bytes()
    second = raw.index(raw[:2], 100)  # the first frame holds the count alone
    (tmp_path / "a.mp3").write_bytes(raw[second:])
    audio = load(cut_of(tmp_path / "a.mp3"))
    assert len(audio) == pytest.approx(6 * RATE, abs=0.15 * RATE)
    assert hertz(audio[3 * RATE : 4 * RATE]) == pytest.approx(335, abs=2)


def test_m4a_that_is_damaged_or_in_memory(tmp_path: Path) -> None:
    write(tmp_path / "a.m4a", sweep(5.0, RATE), RATE)
    cut = cut_of(tmp_path / "a.m4a")
    raw = (tmp_path / "a.m4a").read_bytes()
    (tmp_path / "a.m4a").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(DecodeError) as caught:
        load(cut)
    assert caught.value.bad.reason in ("unreadable", "truncated")
    (tmp_path / "a.m4a").write_bytes(raw)
    in_memory = Recording("r", [AudioSource("memory", [0], raw)], RATE, cut.recording.num_samples, cut.duration)
    torch.testing.assert_close(load(in_memory.to_cut()), load(cut))
