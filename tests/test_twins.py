"""The same file gives the same samples, or the same reason why not, through training and through use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from lhotse import AudioSource, Recording, SupervisionSegment
from lhotse.cut import Cut

from slap.audio.reader import AudioError, AudioFile
from slap.audio.recordings import source
from slap.audio.scan import SUFFIXES, scan
from slap.audio.sources import Segment
from slap.cli.inputs import inputs
from slap.core.packed import Packed
from slap.datamodules import AudioTextData, Clip, read_manifest, write_cuts, write_manifest
from slap.datamodules.audio.load import DecodeError, load, mono, segment
from slap.datamodules.augment.sound_bank import SoundBank
from slap.datamodules.corpora.own_folder import Folder
from slap.datamodules.corpora.youtube import Downloads

RATE = 16_000
FORMATS = sorted(
    (container, coding)
    for container in soundfile.available_formats()
    for coding in soundfile.available_subtypes(container)
    if container != "RAW"  # which says nothing of itself
)
FAULTS = {
    "absent": "absent",
    "folder": "unreadable",
    "pipe": "unreadable",
    "text": "unreadable",
    "nothing": "empty",
    "no samples": "empty",
    "slow": "wrong_rate",
    "nan": "not_finite",
    "inf": "not_finite",
    "loud": "not_finite",
    "integers": "not_finite",
}

Found = torch.Tensor | str
"""The samples of a clip, (T,), or the reason why there are none."""


def noise(frames: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (frames, channels)).astype(np.float32)


def in_training(cut: Cut) -> Found:
    try:
        return load(mono(cut, RATE))
    except DecodeError as error:
        return error.bad.reason


def in_use(audio: str | Path | Segment) -> Found:
    try:
        return torch.from_numpy(np.concatenate(list(source(audio, 0, RATE).blocks())))
    except AudioError as error:
        return error.reason


def assert_same(path: Path, start: float = 0.0, duration: float | None = None) -> Found:
    """Read a segment of a file both ways, and return what both give."""
    good = path.parent / "good.wav"
    soundfile.write(good, noise(100), RATE)
    bad: list = []
    clips = [Clip("good", good, ["x"]), Clip("this", path, ["x"], start=start, duration=duration)]
    cuts = read_manifest(write_manifest(path.parent / "m.jsonl", clips), max_bad=1.0, bad=bad)
    trained = bad[0].reason if bad else in_training(cuts[1])
    used = in_use(path if not start and duration is None else Segment(str(path), start, duration))
    if isinstance(trained, str) or isinstance(used, str):
        assert trained == used, path.name
    else:
        assert torch.equal(trained, used), path.name
    return used


@pytest.mark.parametrize(
    "rate", [8000, 11_025, 16_000, 22_050, 24_000, 44_056, 44_100, 44_101, 96_000, 192_000, 306_244]
)
def test_rates(tmp_path: Path, rate: int) -> None:
    frames = rate // 3 + 137
    soundfile.write(tmp_path / "a.wav", noise(frames), rate)
    whole = assert_same(tmp_path / "a.wav")
    assert len(whole) == round(frames * RATE / rate)
    for start, duration in [(0.1, 0.1234567), (0.0171, None), (0.2, 0.05), (1e-5, 1e-5)]:
        assert not isinstance(assert_same(tmp_path / "a.wav", start, duration), str)


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 6, 8, 9, 16, 33, 64])
def test_channels(tmp_path: Path, channels: int) -> None:
    soundfile.write(tmp_path / "a.wav", noise(11_025, channels), 44_100)
    assert not isinstance(assert_same(tmp_path / "a.wav"), str)
    assert not isinstance(assert_same(tmp_path / "a.wav", 0.1, 0.123), str)
    samples = noise(8000, channels)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    found = assert_same(tmp_path / "a.wav")
    torch.testing.assert_close(found, torch.from_numpy(samples.mean(1)), rtol=0, atol=1e-6)


def test_channels_that_cancel_are_the_loudest(tmp_path: Path) -> None:
    """They were silence in use, and a silent clip in training."""
    sound = noise(50 * RATE)[:, 0]
    soundfile.write(tmp_path / "a.wav", np.stack([0.5 * sound, -sound], 1), RATE, subtype="FLOAT")
    torch.testing.assert_close(assert_same(tmp_path / "a.wav"), torch.from_numpy((0.5 * sound - sound) / 2))
    soundfile.write(tmp_path / "a.wav", np.stack([0.9 * sound, -sound], 1), RATE, subtype="FLOAT")
    torch.testing.assert_close(assert_same(tmp_path / "a.wav"), torch.from_numpy(-sound))
    found = assert_same(tmp_path / "a.wav", 10.0, 3.0)
    torch.testing.assert_close(found, torch.from_numpy(-sound[10 * RATE : 13 * RATE]))


def test_sound_in_one_of_six_channels_is_softer(tmp_path: Path) -> None:
    samples = np.zeros((RATE, 6), np.float32)
    samples[:, 2] = noise(RATE)[:, 0]
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    torch.testing.assert_close(assert_same(tmp_path / "a.wav"), torch.from_numpy(samples[:, 2] / 6))


@pytest.mark.parametrize(("container", "coding"), FORMATS)
def test_formats(tmp_path: Path, container: str, coding: str) -> None:
    path = tmp_path / f"a.{container.lower()}"
    for rate, channels in ((8000, 1), (48_000, 2)):
        try:
            soundfile.write(path, noise(rate // 2, channels), rate, format=container, subtype=coding)
            with soundfile.SoundFile(path) as file:
                assert file.frames
        except soundfile.LibsndfileError:  # not at this rate, or not with so many channels
            continue
        assert_same(path)
        assert_same(path, 0.1, 0.25)


def write_m4a(path: Path, samples: np.ndarray, rate: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples.T, "fltp", "mono")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_m4a(tmp_path: Path, rate: int) -> None:
    write_m4a(tmp_path / "a.m4a", noise(rate), rate)
    assert len(assert_same(tmp_path / "a.m4a")) == pytest.approx(RATE, abs=RATE // 10)
    assert not isinstance(assert_same(tmp_path / "a.m4a", 0.3, 0.31), str)
    write_m4a(tmp_path / "long.m4a", noise(50 * rate), rate)
    assert not isinstance(assert_same(tmp_path / "long.m4a"), str)
    raw = (tmp_path / "long.m4a").read_bytes()
    (tmp_path / "cut.m4a").write_bytes(raw[: len(raw) // 2])
    assert assert_same(tmp_path / "cut.m4a") in ("unreadable", "truncated")


@pytest.mark.parametrize("peak", [1.0, 3.0, 99.0, -101.0, 900.0, 32_768.0, 2.0**31, -1e19])
def test_floats_beyond_one(tmp_path: Path, peak: float) -> None:
    samples = noise(4000)
    samples[1234] = peak
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    found = assert_same(tmp_path / "a.wav")
    assert found == "not_finite" if abs(peak) > 100 else found[1234] == peak


def test_a_flac_that_does_not_say_how_long_it_is(tmp_path: Path) -> None:
    samples = noise(4000)
    soundfile.write(tmp_path / "a.flac", samples, RATE)
    raw = bytearray((tmp_path / "a.flac").read_bytes())
    raw[21:26] = bytes([raw[21] & 0xF0, 0, 0, 0, 0])  # STREAMINFO's number of samples: 0 is unknown
    (tmp_path / "a.flac").write_bytes(raw)
    found = assert_same(tmp_path / "a.flac")
    torch.testing.assert_close(found, torch.from_numpy(samples[:, 0]), rtol=0, atol=1e-4)
    assert torch.equal(assert_same(tmp_path / "a.flac", 0.1, 0.05), found[1600:2400])


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "a.wav"
    values = {"nan": np.nan, "inf": -np.inf, "loud": 900.0}
    if fault in values:
        samples = noise(4000, 2)
        samples[1234, 1] = values[fault]
        soundfile.write(path, samples, RATE, subtype="FLOAT")
    elif fault == "integers":
        soundfile.write(path, np.rint(noise(4000) * 32_768), RATE, subtype="FLOAT")
    elif fault == "slow":
        soundfile.write(path, noise(100), 99)
    elif fault == "no samples":
        soundfile.write(path, noise(0), RATE)
    elif fault == "folder":
        path.mkdir()
    elif fault == "pipe":
        os.mkfifo(path)
    elif fault in ("text", "nothing"):
        path.write_text("no audio" if fault == "text" else "")
    assert assert_same(path) == FAULTS[fault]


@pytest.mark.parametrize("kept", [0.97, 0.5, 0.05])
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3", "aiff", "caf", "w64", "au"])
def test_files_that_were_cut_short(tmp_path: Path, suffix: str, kept: float) -> None:
    container, coding = ("OGG", "OPUS") if suffix == "opus" else (suffix.upper(), None)
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise(5 * RATE), RATE, format=container, subtype=coding)
    cut = Recording.from_file(path).to_cut()
    raw = path.read_bytes()
    whole = soundfile.read(path, dtype="float32")[0]
    path.write_bytes(raw[: round(len(raw) * kept)])
    found = assert_same(path)
    if isinstance(found, str):  # nothing can be decoded
        assert kept == 0.05
        assert found in ("unreadable", "empty")
    else:
        assert kept - 0.25 < len(found) / len(whole) <= kept + 0.1  # a page of Ogg is whole or not there
        sure = max(len(found) - 2000, 0)
        error = found[:sure] - torch.from_numpy(whole[:sure])
        # libsndfile decodes Opus to its encoder's rate, FFmpeg to 48 kHz, and near half the rate filters differ.
        assert error.square().sum() <= (0.05 if suffix == "opus" else 1e-3) * found.square().sum()
    # A manifest that was made before.
    assert in_training(cut) == in_use(segment(cut, "m.jsonl")) in ("truncated", "unreadable", "wrong_duration")


@pytest.mark.parametrize("off", [-0.5, -0.3, 0.3, 0.5])
@pytest.mark.parametrize("suffix", ["mp3", "ogg"])
def test_lossy_files_whose_manifest_is_half_a_second_off(tmp_path: Path, suffix: str, off: float) -> None:
    """Take them as Lhotse takes them, with zeros for what is not there."""
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise(5 * RATE), RATE)
    whole = torch.from_numpy(AudioFile(path).read(RATE))
    samples = len(whole) + round(off * RATE)
    cut = Recording("a", [AudioSource("file", [0], str(path))], RATE, samples, samples / RATE).to_cut()
    assert cut.load_audio().shape == (1, samples)
    trained, used = in_training(cut), in_use(segment(cut, "m.jsonl"))
    torch.testing.assert_close(
        trained, whole[:samples] if off < 0 else torch.nn.functional.pad(whole, (0, samples - len(whole)))
    )
    assert torch.equal(trained, used)
    further = len(whole) + round(0.7 * RATE)
    cut = Recording("a", [AudioSource("file", [0], str(path))], RATE, further, further / RATE).to_cut()
    assert in_training(cut) == in_use(segment(cut, "m.jsonl")) == "wrong_duration"


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (44_101, 1)])
def test_recordings_of_several_blocks(tmp_path: Path, rate: int, channels: int) -> None:
    soundfile.write(tmp_path / "a.wav", noise(100 * rate + 11, channels), rate)
    found = assert_same(tmp_path / "a.wav")
    assert len(found) == (2 * (100 * rate + 11) * RATE + rate) // (2 * rate)
    later = assert_same(tmp_path / "a.wav", 10.0, 80.0)
    if rate != 44_101:  # whose ratio is approximated
        torch.testing.assert_close(later[200:-200], found[10 * RATE + 200 : 90 * RATE - 200], rtol=0, atol=1e-6)


@pytest.mark.parametrize("start", [0.0, 0.3, 0.9995, 1.2])
@pytest.mark.parametrize("duration", [1e-5, 0.5, 0.7004, 1.0007, 2.0])
def test_segments_that_lie_in_the_file_or_not(tmp_path: Path, start: float, duration: float) -> None:
    soundfile.write(tmp_path / "a.wav", noise(RATE), RATE)
    cut = Recording.from_file(tmp_path / "a.wav").to_cut()
    cut.start, cut.duration = start, duration
    trained, used = in_training(cut), in_use(Segment(str(tmp_path / "a.wav"), start, duration))
    if start > 1:
        assert used == "wrong_duration"
        assert isinstance(trained, str)
    elif start + duration > 1.001:
        assert trained == used == "wrong_duration"
    else:
        assert torch.equal(trained, used)


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
@pytest.mark.parametrize("difference", [-0.3, -0.08, -1e-3, -1e-4, 1e-4, 1e-3, 0.08, 0.3])
def test_manifests_that_say_another_length(tmp_path: Path, rate: int, difference: float) -> None:
    soundfile.write(tmp_path / "a.wav", noise(rate), rate)
    frames = round((1 + difference) * rate)
    for start, duration in [(0.0, frames / rate), (0.25, 0.5)]:
        cut = Recording("r", [AudioSource("file", [0], str(tmp_path / "a.wav"))], rate, frames, frames / rate).to_cut()
        cut.start, cut.duration = start, duration
        trained, used = in_training(cut), in_use(segment(cut, "m.jsonl"))
        assert trained == used if isinstance(trained, str) or isinstance(used, str) else torch.equal(trained, used)
        assert isinstance(used, str) == (abs(difference) > 0.2 or (difference == 0.08 and not start))


@pytest.mark.parametrize("rate", [16_000, 44_100, 44_101, 306_244])
def test_mixes_and_transforms_read_as_plain_clips_do(tmp_path: Path, rate: int) -> None:
    """Lhotse mixes, changes and selects channels itself; the files that it does so with are read here."""
    samples = noise(rate // 2, 2)
    for name, part in (("a", samples), ("0", samples[:, 0]), ("1", samples[:, 1])):
        soundfile.write(tmp_path / f"{name}.wav", part, rate, subtype="FLOAT")
    stereo, left, right = (Recording.from_file(tmp_path / f"{name}.wav").to_cut() for name in "a01")
    used = [in_use(tmp_path / f"{name}.wav") for name in "a01"]
    assert torch.equal(in_training(stereo.to_mono()[1]), used[2])
    for other, expected in ((right, used[2]), (stereo, used[0])):
        mixed = mono(left, RATE).mix(mono(other, RATE))
        torch.testing.assert_close(in_training(mixed), used[1] + expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(in_training(left.perturb_volume(0.5)), used[1] / 2, rtol=0, atol=1e-6)
    torch.testing.assert_close(in_training(mono(stereo, RATE).perturb_volume(0.5)), used[0] / 2, rtol=0, atol=1e-6)
    for changed in (left.perturb_volume(0.5), stereo.to_mono()[1]):
        with pytest.raises(ValueError, match="is no segment of one audio file with all its channels"):
            segment(changed, "m.jsonl")


def test_one_list_of_suffixes(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        (tmp_path / f"label/{suffix}").mkdir(parents=True)
        (tmp_path / f"label/{suffix}/a_{suffix}.{suffix}").touch()
        (tmp_path / f"label/{suffix}/b_{suffix}.{suffix.upper()}").touch()
    for name in ("a.txt", ".a.wav", "wav", "a"):
        (tmp_path / "label" / name).touch()
    scanned = {str(tmp_path / file.path) for file in scan(tmp_path)}
    assert len(scanned) == 2 * len(SUFFIXES)
    assert {str(clip.audio) for clip in Folder(tmp_path).clips("all")} == scanned
    downloads = Downloads(tmp_path)
    assert {str(downloads.named(Path(path).stem)) for path in scanned} == scanned
    assert {item.id for item in inputs([str(tmp_path)])} == scanned
    bank = SoundBank(tmp_path)
    assert {str(path) for path in bank._found} == scanned


def cuts_of(folder: Path) -> Iterator[Cut]:
    """Yield clips of many kinds, some of them bad."""
    for i, rate in enumerate([8000, 16_000, 44_100, 44_101, 306_244]):
        for channels in (1, 2, 6):
            path = folder / f"{rate}-{channels}.wav"
            samples = noise(rate // 2, channels)
            if i == channels:
                samples[7] = 900.0 if channels == 1 else np.nan
            soundfile.write(path, samples, rate, subtype="FLOAT")
            yield Recording.from_file(path).to_cut()
            yield Recording.from_file(path).to_cut().truncate(offset=0.123456, duration=0.23456)
    (folder / "8000-2.wav").write_bytes((folder / "8000-2.wav").read_bytes()[:3000])
    (folder / "16000-6.wav").unlink()


def tokenize(captions) -> Packed:
    return Packed.pack([torch.tensor([len(caption)]) for caption in captions])


def test_a_manifest_through_the_data_module_and_through_the_command_line(tmp_path: Path) -> None:
    cuts = []
    for number, cut in enumerate(cuts_of(tmp_path)):
        cut.id = f"{number:02}"
        cut.supervisions = [SupervisionSegment(cut.id, cut.recording_id, 0.0, cut.duration, text="a sound")]
        cuts.append(cut)
    manifest = write_cuts(tmp_path / "m.jsonl.gz", cuts)
    data = AudioTextData(val=manifest, max_duration=4.0, max_clip=None, max_bad=1.0)
    data.connect(RATE, tokenize)
    data.setup("validate")
    trained: dict[str, Found] = {}
    for batch in data.val_dataloader():
        trained |= {clip.id: clip.reason for clip in batch.bad}
        trained |= dict(zip(batch.ids, batch.audio.unpack(), strict=True))
    used = {item.id: in_use(item.audio) for item in inputs([str(manifest)])}
    assert used.keys() == trained.keys() == {cut.id for cut in cuts}
    for name, found in used.items():
        other = trained[name]
        assert found == other if isinstance(found, str) or isinstance(other, str) else torch.equal(found, other), name
    assert {found for found in used.values() if isinstance(found, str)} == {"not_finite", "truncated", "absent"}
