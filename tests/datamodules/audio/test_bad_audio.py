"""Audio that was made to exhaust or to deceive, and streams in which some of it is bad."""

import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import AudioSource, Recording, SupervisionSegment
from lhotse.augmentation import Resample, Speed
from lhotse.augmentation import torchaudio as lhotse_resampling

from slap.audio.reader import AudioError, header, read
from slap.audio.resample import MAKING, filter_bytes, ratio, resample
from slap.core.packed import Packed
from slap.datamodules import AudioTextData, ManifestError, read_manifest, write_cuts
from slap.datamodules.audio.decode import check_resampling, forget_filters
from slap.datamodules.audio.load import DecodeError, load, mono

RATE = 16000


def clip_of(path: Path, rate: int | None = None, duration: float | None = None):
    """Return a clip as a manifest describes it, rightly or not."""
    found = soundfile.info(path)
    rate, duration = rate or found.samplerate, duration or found.duration
    source = AudioSource("file", list(range(found.channels)), str(path))
    cut = Recording("a", [source], rate, round(duration * rate), duration).to_cut()
    cut.supervisions = [SupervisionSegment("a", "a", 0.0, cut.duration, text="a sound")]
    return cut


def reason(cut, largest: int = 1 << 30) -> str:
    with pytest.raises(DecodeError) as caught:
        load(mono(cut, RATE), largest)
    return caught.value.bad.reason


# -- rates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1, 99, 1_000_000, 2**31 - 1])
def test_a_rate_that_no_recording_has(tmp_path: Path, rate: int) -> None:
    """A second at 1 Hz, resampled, is 16,000 times as much."""
    soundfile.write(tmp_path / "a.wav", np.full(100, 0.1), rate)
    with pytest.raises(AudioError, match=f"says that its rate is {rate} Hz; 100 to 768000 are read") as caught:
        header(tmp_path / "a.wav")
    assert caught.value.reason == "wrong_rate"
    with pytest.raises(AudioError, match="100 to 768000"):
        read(tmp_path / "a.wav", RATE)


def test_rates_that_have_little_in_common_take_no_gigabytes(tmp_path: Path) -> None:
    """The exact filter of 44,101 and 16,000 Hz has 700 million numbers; a ratio next to it has few."""
    soundfile.write(tmp_path / "a.wav", np.full(44101, 0.1), 44101)
    assert filter_bytes(44101, RATE) > 2**31
    near = ratio(44101, RATE)
    needed = MAKING * filter_bytes(near.denominator, near.numerator)
    assert needed < 2**28
    assert abs(float(near) * 44101 / RATE - 1) < 1e-6
    assert len(load(mono(clip_of(tmp_path / "a.wav"), RATE))) == RATE
    assert reason(clip_of(tmp_path / "a.wav"), needed - 1) == "wrong_rate"
    assert len(load(mono(clip_of(tmp_path / "a.wav"), RATE), needed)) == RATE


def test_the_cost_of_a_filter_is_what_it_takes() -> None:
    for rates in [(44100, 16000), (22050, 16000), (8000, 16000), (11025, 16000), (48000, 44100), (16000, 16000)]:
        kernel = getattr(lhotse_resampling.ResampleTensor(*rates), "kernel", torch.zeros(0))
        scale = ratio(*rates)
        assert filter_bytes(scale.denominator, scale.numerator) == 4 * kernel.numel(), rates
    needed = MAKING * filter_bytes(441, 160)
    check_resampling(ratio(44100, 16000), needed, "a.wav")
    with pytest.raises(AudioError, match=r"to resample a\.wav by 160/441 takes 2 MB, but only 2 MB are allowed"):
        check_resampling(ratio(44100, 16000), needed - 1, "a.wav")


@pytest.mark.parametrize("transforms", [[Speed(1.1), Resample(44101, 16000)], [Speed(0.99991)]])
def test_transforms_that_a_manifest_asks_for_are_weighed_too(tmp_path: Path, transforms: list) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(RATE, 0.1), RATE)
    cut = clip_of(tmp_path / "a.wav")
    cut.recording.transforms = transforms
    assert reason(cut, 1 << 24) == "wrong_rate"


def test_filters_of_many_rates_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {(22050 + 441 * i, 16000): None for i in range(5)}
    exact = [Fraction(wanted, rate) for rate, wanted in known]
    total = sum(filter_bytes(scale.denominator, scale.numerator) for scale in exact)
    monkeypatch.setattr(lhotse_resampling, "_precompiled_resamplers", known)
    monkeypatch.setattr("slap.datamodules.audio.decode.KEPT", total)
    forget_filters()
    assert len(known) == 5
    monkeypatch.setattr("slap.datamodules.audio.decode.KEPT", total - 1)
    forget_filters()
    assert not known
    kept: dict = {}
    monkeypatch.setattr("slap.audio.resample._filters", kept)
    monkeypatch.setattr("slap.audio.resample.KEPT", filter_bytes(441, 160))
    for rate, count in ((44100, 1), (22050, 2), (8000, 1), (44100, 2)):
        resample(np.ones(100, np.float32), rate, RATE)
        assert len(kept) == count


@pytest.mark.parametrize("rate", [0, 1, 10**9, float("nan"), "16000"])
def test_a_manifest_may_not_ask_for_a_rate_that_none_has(tmp_path: Path, rate) -> None:
    """A file read at a manifest's rate is resampled to it: a second at 1 GHz is 4 GB."""
    soundfile.write(tmp_path / "a.wav", np.full(RATE, 0.1), RATE)
    cut = clip_of(tmp_path / "a.wav")
    record = cut.to_dict()
    record["recording"]["sampling_rate"] = rate
    (tmp_path / "m.jsonl").write_text(json.dumps(record))
    with pytest.raises(ManifestError, match=r"m\.jsonl, line 1: "):
        read_manifest(tmp_path / "m.jsonl")


@pytest.mark.parametrize("own", [RATE, 8000])
def test_the_cap_counts_what_resampling_makes_of_it(tmp_path: Path, own: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(own, 0.1), own)
    needed = 3 * 4 * RATE  # of a second at the model's rate, whatever the file's
    assert reason(clip_of(tmp_path / "a.wav"), needed - 1) == "too_large"
    assert len(load(mono(clip_of(tmp_path / "a.wav"), RATE), needed * 40)) == RATE
    # Nothing is made at a rate that only the manifest says.
    assert len(load(mono(clip_of(tmp_path / "a.wav", rate=768_000), RATE), 2**22)) == RATE
    with pytest.raises(DecodeError, match="too_large"):
        load(mono(clip_of(tmp_path / "a.wav"), 768_000), 2**22)


@pytest.mark.parametrize(("rate", "channels"), [(8000, 2), (44056, 1)])
def test_peak_memory_is_at_most_the_cap_and_a_half(tmp_path: Path, rate: int, channels: int) -> None:
    """The largest clip that the cap allows where resampling makes more of it, and the dearest filter of a real rate."""
    scale = ratio(rate, RATE)
    cap = max(120 * 2**20, MAKING * filter_bytes(scale.denominator, scale.numerator))
    frames = min(cap // (3 * 4 * channels) * rate // max(rate, RATE) - 1, 60 * rate)
    soundfile.write(tmp_path / "a.wav", np.full((frames, channels), 0.1, np.float32), rate)
    code = f"""
import resource
from lhotse import AudioSource, Recording
from slap.datamodules.audio.load import load, mono
source = AudioSource("file", {list(range(channels))}, {str(tmp_path / "a.wav")!r})
cut = mono(Recording("a", [source], {rate}, {frames}, {frames / rate}).to_cut(), {RATE})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert len(load(cut, {cap})) == cut.num_samples
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 1.5 * cap


def test_in_use_a_bomb_is_read_in_small_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 s of eight channels at 96 kHz are 61 MB, in a few kB; the samples do not depend on the blocks."""
    soundfile.write(tmp_path / "bomb.flac", np.zeros((96000 * 20, 8), dtype=np.int16), 96000)
    soundfile.write(tmp_path / "a.flac", np.random.default_rng(0).uniform(-0.5, 0.5, (96000, 8)), 96000)
    whole = read(tmp_path / "a.flac", RATE)
    monkeypatch.setattr("slap.audio.reader.LARGEST_BLOCK", 1 << 20)
    np.testing.assert_allclose(read(tmp_path / "a.flac", RATE), whole, rtol=0, atol=1e-6)
    tracemalloc.start()
    assert len(read(tmp_path / "bomb.flac", RATE)) == 20 * RATE
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


# -- what is no file --------------------------------------------------------------------------------------------------


def test_pipes_devices_and_folders_are_not_opened(tmp_path: Path) -> None:
    """A pipe would wait for ever for somebody who writes, and /dev/zero never ends."""
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "link.wav").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe.wav", tmp_path / "link.wav", Path("/dev/zero"), tmp_path):
        with pytest.raises(AudioError, match="is no plain file"):
            header(path)
        with pytest.raises(AudioError, match="is no plain file"):
            read(path, RATE)


@pytest.mark.parametrize("name", ["a.wav\0.flac", "a.wav/b.wav"])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(100, 0.1), RATE)
    with pytest.raises(AudioError, match="there is no file"):
        header(f"{tmp_path}/{name}")


@pytest.mark.parametrize("name", ["a.sph", "a;touch mark;.sph", "$(touch mark).sph", "a.sph|touch mark"])
def test_names_that_others_hand_to_a_shell(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lhotse reads .sph through `sph2pipe`, by a line of shell with the name in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(b"NIST_1A\n   1024\n")
    source = AudioSource("file", [0], name)
    cut = Recording("a", [source], RATE, RATE, 1.0).to_cut()
    assert reason(cut) == "unreadable"
    assert not (tmp_path / "mark").exists()


# -- a stream in which some are bad -----------------------------------------------------------------------------------


def tokenize(captions: Sequence[str]) -> Packed:
    return Packed.pack([torch.tensor([len(caption)]) for caption in captions])


CLIPS = 1000


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """m.jsonl.gz: 1,000 clips of 20 to 60 ms in ten files."""
    folder = tmp_path_factory.mktemp("stream")
    rng = np.random.default_rng(0)
    cuts = []
    for i in range(CLIPS):
        path = folder / f"{i}.wav"
        soundfile.write(path, rng.uniform(-0.5, 0.5, 160 + 40 * (i % 9)), 8000)
        cut = Recording.from_file(path).to_cut()
        cut.supervisions = [SupervisionSegment(cut.id, cut.recording_id, 0.0, cut.duration, text=f"sound {i}")]
        cuts.append(cut)
    write_cuts(folder / "m.jsonl.gz", cuts)
    return folder


@pytest.mark.parametrize("share", [0.001, 0.05])
def test_batches_stay_full_when_some_are_bad(stream: Path, share: float) -> None:
    def epoch() -> list:
        data = AudioTextData(stream / "m.jsonl.gz", max_duration=1.0, max_clip=None, num_buckets=3, max_bad=0.08)
        data.connect(8000, tokenize)
        data.setup("fit")
        return list(data.train_dataloader())

    whole = epoch()
    bad = np.random.default_rng(1).choice(CLIPS, round(share * CLIPS), replace=False).tolist()
    kept = {i: (stream / f"{i}.wav").read_bytes() for i in bad}
    try:
        for i in bad:
            (stream / f"{i}.wav").write_bytes(kept[i][: 60 + i % 40])
        seen = epoch()
    finally:
        for i, raw in kept.items():
            (stream / f"{i}.wav").write_bytes(raw)
    names = {str(i) for i in bad}
    assert {clip.id for batch in seen for clip in batch.bad} == names
    assert [len(batch) for batch in seen] == [len(batch) for batch in whole]
    for before, after in zip(whole, seen, strict=True):
        assert after.audio.lengths.sum() <= before.audio.lengths.sum()
        assert after.audio.lengths.sum() >= 0.95 * before.audio.lengths.sum()
        assert not names & set(after.ids)
    trained = {name for batch in seen for name in batch.ids}
    assert trained == {str(i) for i in range(CLIPS)} - names  # nothing else is lost
