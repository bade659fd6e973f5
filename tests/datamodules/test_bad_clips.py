"""Bad clips: found for what they are, replaced or left out, counted, listed, and too many of them stop a run."""

import json
import multiprocessing
import pickle
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import Recording, SupervisionSegment

from epochs import tokenize
from slap import SLAP
from slap.audio.decoders import header
from slap.audio.errors import AudioError
from slap.core.bad_clip import REASONS, BadClip
from slap.core.batch import Batch
from slap.datamodules import AudioTextData, Clip, ManifestError, read_manifest, write_manifest
from slap.datamodules.audio.load import DecodeError, load, mono
from slap.datamodules.augment.basic import Mix, RandomGain
from slap.datamodules.bad_clips import FIRST, BadClipLog
from slap.datamodules.sampling.replacement import Replacements
from slap.training.trainer import trainer as slap_trainer
from sounds import noise

RATE = 16000
COUNT = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """m.jsonl: 60 clips c0, c1, ... of 0.30, 0.31, ... s."""
    clips = []
    for i in range(COUNT):
        soundfile.write(tmp_path / f"c{i}.wav", noise(0.3 + 0.01 * i, seed=i), RATE, subtype="FLOAT")
        clips.append(Clip(f"c{i}", tmp_path / f"c{i}.wav", [f"sound {i}"]))
    write_manifest(tmp_path / "m.jsonl", clips)
    return tmp_path


def absent(path: Path) -> None:
    path.unlink()


def unreadable(path: Path) -> None:
    path.write_bytes(b"RIFF nothing of the kind")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    soundfile.write(path, np.zeros(0), RATE)


def with_a_value(value: float):
    def spoil(path: Path) -> None:
        samples, _ = soundfile.read(path)
        samples[17] = value
        soundfile.write(path, samples, RATE, subtype="FLOAT")

    return spoil


def silenced(path: Path) -> None:
    soundfile.write(path, np.zeros(soundfile.info(path).frames), RATE)


def scaled(factor: float, offset: float = 0.0):
    def scale(path: Path) -> None:
        samples, _ = soundfile.read(path)
        soundfile.write(path, factor * samples + offset, RATE, subtype="FLOAT")

    return scale


def exchanged(path: Path) -> None:
    soundfile.write(path, noise(3.0), RATE)


SPOILT = {
    "absent": [absent],
    "unreadable": [unreadable],
    "truncated": [cut_short],
    "empty": [emptied],
    "not_finite": [with_a_value(float("nan")), with_a_value(float("inf")), with_a_value(-1e19)],
    "silent": [silenced, scaled(1e-4), scaled(0.0, 0.25)],  # also below -70 dBFS, and a constant offset
    "wrong_duration": [exchanged],
}


def opened(folder: Path, **options) -> AudioTextData:
    options = {"max_duration": 4.0, "max_clip": None, "num_buckets": 3, "max_bad": 0.5, **options}
    data = AudioTextData(folder / "m.jsonl", folder / "m.jsonl", **options)
    data.connect(RATE, tokenize)
    data.setup("fit")
    return data


def spoil_some(folder: Path) -> dict[str, str]:
    """Do each kind of damage to one clip, after the manifest was opened; by the clip's id the reason."""
    kinds = [(reason, spoil) for reason, spoils in SPOILT.items() for spoil in spoils]
    bad = {}
    for i, (reason, spoil) in enumerate(kinds):
        number = 4 + 5 * i
        spoil(folder / f"c{number}.wav")
        bad[f"c{number}"] = reason
    return bad


@pytest.mark.parametrize(
    ("reason", "spoil"), [(reason, spoil) for reason, spoils in SPOILT.items() for spoil in spoils]
)
def test_a_bad_clip_is_told_by_its_reason(folder: Path, reason: str, spoil) -> None:
    data = opened(folder)
    spoil(folder / "c7.wav")
    (bad,) = [clip for batch in data.train_dataloader() for clip in batch.bad]
    assert (bad.id, bad.reason) == ("c7", reason)
    assert bad.file == str(folder / "c7.wav")
    assert bad.where == f"{folder / 'm.jsonl'}, line 8"
    assert bad.detail


@pytest.mark.parametrize("workers", [0, 2])
def test_in_training_others_of_that_length_stand_in(folder: Path, workers: int) -> None:
    whole = list(opened(folder).train_dataloader())
    data = opened(folder, num_workers=workers)
    bad = spoil_some(folder)
    loader = data.train_dataloader()
    seen = list(loader)
    data.teardown("fit")
    assert {clip.id: clip.reason for batch in seen for clip in batch.bad} == bad
    assert len(seen) == len(whole)
    for before, after in zip(whole, seen, strict=True):
        assert len(after) == len(before)  # full
        assert after.read == len(after)
        for name, size, stand_in, other in zip(
            before.ids, before.audio.sizes, after.ids, after.audio.sizes, strict=True
        ):
            if name in bad:
                assert stand_in not in bad
                assert other <= size
            else:
                assert (stand_in, other) == (name, size)
    again = list(opened_again(data).train_dataloader())
    assert [batch.ids for batch in again] == [batch.ids for batch in seen]


def opened_again(data: AudioTextData) -> AudioTextData:
    """Forget what the data module knows of bad clips."""
    data.bad_clips = BadClipLog(0.5)
    return data


def test_replacements_are_as_long_as_they_can_be_and_a_pure_function() -> None:
    lengths = [100 * i for i in range(1, 1001)]
    replacements = Replacements(lengths, seed=3)
    for index in (0, 1, 50, 999):
        choices = {replacements.of(epoch, index, attempt) for epoch in range(50) for attempt in range(5)}
        if index == 0:
            assert choices == {None}  # nothing is shorter
            continue
        assert index not in choices
        assert all(max(index - 100, 0) <= choice < index for choice in choices)
        assert len(choices) > min(index, 80) * 0.8
        copy = pickle.loads(pickle.dumps(replacements))
        assert [copy.of(2, index, i) for i in range(9)] == [replacements.of(2, index, i) for i in range(9)]
    assert Replacements([5, 5, 5]).of(0, 1, 0) in (0, 2)  # not longer, as long will do
    near = Replacements([5, 5, 9, 5, 7, 5], near=lambda _: range(2, 5))
    assert {near.of(0, 4, attempt) for attempt in range(20)} == {3}
    assert {near.of(0, 3, attempt) for attempt in range(20)} == {0, 1, 5}  # the others of the range are longer


def test_in_evaluation_they_are_left_out(folder: Path) -> None:
    data = opened(folder)
    bad = spoil_some(folder)
    batches = list(data.val_dataloader())
    assert {clip.id: clip.reason for batch in batches for clip in batch.bad} == bad
    assert Counter(name for batch in batches for name in batch.ids) == Counter(
        f"c{i}" for i in range(COUNT) if f"c{i}" not in bad
    )
    assert data.bad_clips.counts["val"] == Counter(bad.values())


def test_a_batch_of_bad_clips_alone_is_passed_over_in_evaluation_and_told(folder: Path) -> None:
    data = opened(folder, max_clips=1)
    for i in (0, 1, 58, 59):
        absent(folder / f"c{i}.wav")
    batches = list(data.val_dataloader())
    assert len(batches) == COUNT - 4
    assert all(len(batch) == 1 for batch in batches)
    assert {clip.id for batch in batches for clip in batch.bad} == {"c0", "c1", "c58", "c59"}


def test_a_batch_of_bad_clips_alone_stops_training(folder: Path) -> None:
    data = opened(folder, max_bad=1.0)
    for i in range(COUNT):
        absent(folder / f"c{i}.wav")
    with pytest.raises(ValueError, match=r"a batch has no clip left.*are bad \(\d+ absent\).*\n.*m\.jsonl, line"):
        list(data.train_dataloader())


@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader"])
def test_more_than_the_share_stops_the_run_and_less_does_not(folder: Path, loader: str) -> None:
    data = opened(folder, max_bad=0.05)
    for i in range(3):
        unreadable(folder / f"c{20 + i}.wav")
    list(getattr(data, loader)())  # 3 of 60 are 5 %
    for i in range(6):
        unreadable(folder / f"c{30 + i}.wav")
    message = r"\d+ of [67]\d clips are bad \(\d+ unreadable\), more than max_bad=0\.05 allows; .*\n  .*m\.jsonl, line"
    with pytest.raises(ValueError, match=message):
        list(getattr(opened_like(data, 0.05), loader)())


def opened_like(data: AudioTextData, max_bad: float) -> AudioTextData:
    data.bad_clips = BadClipLog(max_bad)
    return data


def test_chance_does_not_stop_a_run_early() -> None:
    def batch(bad: int, good: int) -> Batch:
        made = Batch.without_clips([BadClip(f"x{i}", "absent", "gone") for i in range(bad)])
        object.__setattr__(made, "read", good)
        return made

    def read(*batches: Batch) -> None:
        list(BadClipLog(0.05).evaluation(batches, "val"))

    good = [batch(0, 5)] * 1000
    read(batch(1, 4), *good)
    read(batch(5, 0), *good)
    read(batch(11, FIRST - 11), *good)  # three standard deviations above 5 of 100 are 11.5
    with pytest.raises(ValueError, match="12 of 100 clips are bad"):
        read(batch(12, FIRST - 12), *good)
    with pytest.raises(ValueError, match="100 of 100 clips are bad"):  # a disk that is not there
        read(*[batch(5, 0)] * 1000)
    with pytest.raises(ValueError, match=r"6 of 100 clips are bad"):
        read(batch(6, FIRST - 6))  # at the end the share itself counts


def test_they_are_listed_once_whatever_the_epochs(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = opened(folder)
    data.bad_clips.out = folder / "run"
    bad = spoil_some(folder)
    for _ in range(3):
        list(data.train_dataloader())
    list(data.val_dataloader())
    lines = [json.loads(line) for line in (folder / "run" / "bad_clips.jsonl").read_text().splitlines()]
    for stage in ("train", "val"):
        assert {line["id"]: line["reason"] for line in lines if line["stage"] == stage} == bad
    assert len(lines) == 2 * len(bad)
    assert all(set(line) == {"stage", "id", "reason", "detail", "file", "where"} for line in lines)
    assert caplog.text.count("left out: clip 'c4' (") == 2
    assert data.bad_clips.summary("train").startswith(f"{len(bad)} clips left out: 1 absent, 1 unreadable")


def test_nothing_is_written_before_training_begins(tmp_path: Path) -> None:
    log = BadClipLog()
    log.out, log.waiting = tmp_path, True
    log.add("val", [BadClip("a", "silent", "")])
    assert not list(tmp_path.iterdir())
    batches = log.training([Batch.without_clips([]) for _ in range(3)])
    with pytest.raises(ValueError, match="no clip left"):
        next(batches)
    assert not list(tmp_path.iterdir())
    list(log.training([]))
    assert json.loads((tmp_path / "bad_clips.jsonl").read_text())["id"] == "a"


def _many(folder: Path, process: int) -> None:
    log = BadClipLog()
    log.out = folder
    for i in range(200):
        log.add("train", [BadClip(f"{process}-{i}", "silent", "x" * 1000)])


def test_processes_append_whole_lines_to_one_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_many, args=(tmp_path, i)) for i in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    lines = [json.loads(line) for line in (tmp_path / "bad_clips.jsonl").read_text().splitlines()]
    assert {line["id"] for line in lines} == {f"{i}-{n}" for i in range(2) for n in range(200)}


def test_transforms_see_no_bad_clip(folder: Path) -> None:
    data = opened(folder, transforms=[RandomGain(), Mix(probability=1.0)])
    bad = spoil_some(folder)
    batches = list(data.train_dataloader())
    parts = {part for batch in batches for name in batch.ids for part in name.split("+")}
    assert not parts & set(bad)
    assert {clip.id for batch in batches for clip in batch.bad} == set(bad)
    assert all(batch.audio.values.isfinite().all() for batch in batches)


def test_in_memory_too(folder: Path) -> None:
    data = opened(folder, in_memory=True)
    data.bad_clips = BadClipLog(0.5)
    absent(folder / "c3.wav")
    assert not [clip for batch in data.val_dataloader() for clip in batch.bad]  # it was read before
    absent(folder / "c4.wav")
    late = AudioTextData(val=folder / "m.jsonl", max_duration=4.0, max_clip=None, in_memory=True)
    (folder / "c3.wav").write_bytes((folder / "c5.wav").read_bytes())
    (folder / "c4.wav").write_bytes((folder / "c5.wav").read_bytes())
    late.connect(RATE, tokenize)
    with_a_value(float("nan"))(folder / "c5.wav")
    late.setup("validate")
    assert [clip.reason for batch in late.val_dataloader() for clip in batch.bad] == ["not_finite"]


def test_a_silent_stretch_of_a_clip_that_is_not_silent_is_no_fault(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.concatenate([np.zeros(10 * RATE), noise(0.5)]), RATE)
    soundfile.write(tmp_path / "b.wav", np.zeros(10 * RATE), RATE)
    clips = [Clip("a", tmp_path / "a.wav", ["x"]), Clip("b", tmp_path / "b.wav", ["y"])]
    data = AudioTextData(write_manifest(tmp_path / "m.jsonl", clips), max_clip=1.0, max_duration=4.0, max_bad=1.0)
    data.connect(RATE, tokenize)
    loader = data.train_dataloader()
    silent = 0
    for number in range(4):
        loader.sampler.set_epoch(number)
        for batch in loader:
            assert [(clip.id, clip.reason) for clip in batch.bad] == [("b", "silent")]
            silent += not batch.audio.values.any()
    assert silent  # a crop of `a` without its sound


def test_soft_clips_are_not_silent(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 10 ** (-69 / 20) / 0.5 * noise(1.0), RATE, subtype="FLOAT")
    data = AudioTextData(val=write_manifest(tmp_path / "m.jsonl", [Clip("a", tmp_path / "a.wav", ["x"])]))
    data.connect(RATE, tokenize)
    data.setup("validate")
    assert [batch.bad for batch in data.val_dataloader()] == [()]


def test_the_run_goes_on_and_its_report_says_so(folder: Path, capsys: pytest.CaptureFixture) -> None:
    tiny = {"name": "transformer", "size": "nano"}
    data = AudioTextData(*[folder / "m.jsonl"] * 3, max_duration=8.0, max_clip=None, max_bad=0.5)
    model = SLAP(audio=tiny, text={**tiny, "vocab_size": 300}, embedding_dim=8, warmup_steps=0)
    run = slap_trainer(
        out=str(folder / "run"), max_steps=2, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False
    )
    data.setup("fit")
    data.setup("test")
    bad = spoil_some(folder)
    run.fit(model, datamodule=data)
    run.test(model, datamodule=data, verbose=False)
    line = "Clips left out, since they could not be used: 1 absent, 1 unreadable, 1 truncated, 1 empty, 3 not_finite"
    assert line in capsys.readouterr().out
    (report,) = (folder / "run" / "test").glob("*/report.md")
    assert line in report.read_text()
    listed = [json.loads(line) for line in (folder / "run" / "bad_clips.jsonl").read_text().splitlines()]
    assert {line["id"] for line in listed if line["stage"] == "test"} == set(bad)
    assert model.evaluation.results["t2a_R@1"].count == COUNT - len(bad)
    again = slap_trainer(out=str(folder / "run"), max_steps=1, accelerator="cpu", enable_progress_bar=False)
    with pytest.raises(FileExistsError):
        again.fit(
            model, datamodule=AudioTextData(*[folder / "m.jsonl"] * 2, max_duration=8.0, max_clip=None, max_bad=0.5)
        )
    assert len((folder / "run" / "bad_clips.jsonl").read_text().splitlines()) == len(listed)


def test_a_lying_header_or_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    """Ten hours that are not there, and a small file that is huge when decoded."""
    soundfile.write(tmp_path / "lie.flac", noise(1.0), RATE)
    raw = bytearray((tmp_path / "lie.flac").read_bytes())
    fields = int.from_bytes(raw[18:26], "big")  # STREAMINFO: its last 36 bits are the number of samples
    raw[18:26] = (fields >> 36 << 36 | 36000 * RATE).to_bytes(8, "big")
    (tmp_path / "lie.flac").write_bytes(raw)
    soundfile.write(tmp_path / "bomb.flac", np.zeros((96000 * 20, 8), dtype=np.int16), 96000)
    assert (tmp_path / "bomb.flac").stat().st_size < 2**18  # and 61 MB decoded
    clips = [Clip(name, tmp_path / f"{name}.flac", ["x"]) for name in ("lie", "bomb")]
    found = []
    cuts = [mono(cut, RATE) for cut in read_manifest(write_manifest(tmp_path / "m.jsonl", clips))]
    assert len(load(cuts[0])) == RATE  # the length of a new manifest is that of what is there
    cuts[0] = mono(Recording("lie", cuts[0].recording.sources, RATE, 36000 * RATE, 36000.0).to_cut(), RATE)
    tracemalloc.start()
    for cut in cuts:
        for part in (cut, cut.truncate(offset=10, duration=2)):
            try:
                found.append(len(load(part, largest=40 * 2**20)))
            except DecodeError as error:
                found.append(error.bad.reason)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    assert found == ["too_large", "truncated", "too_large", 2 * RATE]
    assert peak < 12  # MB; the stretch of 2 s takes 6


def test_the_cap_is_settable(folder: Path) -> None:
    data = opened(folder, max_decoded=0.12)  # 126 kB: thrice 0.655 s of float32
    reasons = {clip.id: clip.reason for batch in data.val_dataloader() for clip in batch.bad}
    assert set(reasons.values()) == {"too_large"}
    assert set(reasons) == {f"c{i}" for i in range(COUNT) if (0.3 + 0.01 * i) * RATE * 4 * 3 > 0.12 * 2**20}
    with pytest.raises(ValueError, match="max_decoded is a number of MB above 0, got 0"):
        opened(folder, max_decoded=0)


def test_reading_takes_no_more_memory_than_the_cap_and_a_half(tmp_path: Path) -> None:
    """Read the largest clip that the cap allows, of the kind that takes most: stereo that is resampled."""
    cap, rate = 120 * 2**20, 48000
    frames = cap // (3 * 4 * 2) - 1
    with soundfile.SoundFile(tmp_path / "a.wav", "w", rate, 2, subtype="PCM_16") as file:
        for _ in range(0, frames, 2**19):
            file.write(np.full((min(2**19, frames - file.frames), 2), 999, dtype=np.int16))
    manifest = write_manifest(tmp_path / "m.jsonl", [Clip("a", tmp_path / "a.wav", ["x"])])
    code = f"""
import resource
from slap.datamodules import read_manifest
from slap.datamodules.audio.load import load, mono
cut = mono(read_manifest({str(manifest)!r})[0], 16000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert len(load(cut, {cap})) == cut.num_samples
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 1.5 * cap


@pytest.mark.parametrize(
    ("suffix", "format_", "subtype"),
    [
        ("wav", "WAV", "PCM_16"),
        ("flac", "FLAC", "PCM_16"),
        ("ogg", "OGG", "VORBIS"),
        ("opus", "OGG", "OPUS"),
        ("mp3", "MP3", "MPEG_LAYER_III"),
    ],
)
@pytest.mark.parametrize("kept", [0.97, 0.5])
def test_a_file_that_was_cut_short(tmp_path: Path, suffix: str, format_: str, subtype: str, kept: float) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise(5.0), RATE, format=format_, subtype=subtype)
    cut = Recording.from_file(path).to_cut()
    cut.supervisions = [SupervisionSegment("s", cut.recording_id, 0, cut.duration, text="y")]
    assert len(load(cut)) == 5 * RATE
    raw = path.read_bytes()
    path.write_bytes(raw[: round(len(raw) * kept)])
    with pytest.raises(DecodeError) as caught:
        load(cut)
    assert caught.value.bad.reason == "truncated"


def test_a_wav_from_a_pipe_has_no_size_and_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1.0), RATE)
    raw = bytearray(path.read_bytes())
    for place in (4, 40):
        raw[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(raw)
    assert header(path).frames == RATE


def test_headers_of_bad_files(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1.0), RATE)
    found = header(tmp_path / "a.wav")
    assert (found.frames, found.rate, found.channels, found.duration) == (RATE, RATE, 1, 1.0)
    cut_short(tmp_path / "a.wav")
    assert header(tmp_path / "a.wav").note == "it was cut short: 0.50 of the 1.00 s that its header declares are there"
    for spoil, reason in ((emptied, "empty"), (unreadable, "unreadable"), (absent, "absent")):
        soundfile.write(tmp_path / "a.wav", noise(1.0), RATE)
        spoil(tmp_path / "a.wav")
        with pytest.raises(AudioError) as caught:
            header(tmp_path / "a.wav")
        assert caught.value.reason == reason


def test_rows_of_a_table_that_cannot_be_used_are_left_out_and_reported(folder: Path) -> None:
    rows = [f"c{i}.wav,sound {i}" for i in range(COUNT)]
    rows[3] = "gone.wav,x"
    rows[5] = "c5.wav, "
    soundfile.write(folder / "none.wav", np.zeros(0), RATE)
    rows[8] = "none.wav,x"
    table = "\n".join(["audio,caption", *rows]).encode()
    (folder / "m.csv").write_bytes(table.replace(b"sound 9", b"caf\xe9"))
    bad: list[BadClip] = []
    cuts = read_manifest(folder / "m.csv", max_bad=0.1, bad=bad)
    assert len(cuts) == COUNT - 4
    assert {(clip.id, clip.reason, clip.where.split(", ")[1]) for clip in bad} == {
        (f"{folder}/gone.wav", "absent", "line 5"),
        ("c5.wav", "caption", "line 7"),
        (f"{folder}/none.wav", "empty", "line 10"),
        ("c9.wav", "caption", "line 11"),
    }
    with pytest.raises(ManifestError, match=r"m\.csv: 4 of 60 clips are bad \(1 absent, 1 empty, 2 caption\)"):
        read_manifest(folder / "m.csv")
    data = AudioTextData(val=folder / "m.csv", max_duration=4.0, max_clip=None, max_bad=0.1)
    data.connect(RATE, tokenize)
    data.setup("validate")
    batches = list(data.val_dataloader())
    assert {clip.id for batch in batches for clip in batch.bad} == {clip.id for clip in bad}
    assert sum(len(batch) for batch in batches) == COUNT - 4


def test_reasons_are_a_closed_list() -> None:
    assert set(SPOILT) | {"too_large", "wrong_rate", "caption"} == set(REASONS)
    with pytest.raises(ValueError, match="'ugly' is no reason to leave a clip out; valid are: absent, unreadable"):
        BadClip("x", "ugly", "")
    with pytest.raises(ValueError, match=r"max_bad is the share of clips that may be bad, 0 to 1; got 5"):
        AudioTextData("a.csv", max_bad=5)
