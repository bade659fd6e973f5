"""`slap overlap`: each way in which clips are the same, the printed table, the written manifest, the exit status."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from lhotse import Recording

from slap.cli.main import main
from slap.datamodules import AudioTextData
from slap.datamodules.manifests.clip import Clip, ManifestError
from slap.datamodules.manifests.clip_cut import cut_of_clip
from slap.datamodules.manifests.read import read_manifest, write_cuts
from slap.datamodules.overlap import search as overlap_search
from slap.datamodules.overlap.search import search
from slap.datamodules.overlap.warn import shared_by_name, warn_of_overlap


def sound(seed, seconds=2.0, rate=16000):
    rng = np.random.default_rng(seed)
    loudness = np.repeat(rng.uniform(0.05, 0.5, round(seconds * 10)), rate // 10)
    return (loudness * np.cumsum(rng.normal(size=len(loudness))) % 1.0 - 0.5).astype(np.float32) * 0.5


def clip(folder, name, samples, rate=16000, id=None, suffix=".wav", **facts):  # noqa: A002
    folder.mkdir(exist_ok=True)
    soundfile.write(folder / f"{name}{suffix}", samples, rate)
    return Clip(id or name, folder / f"{name}{suffix}", ["a caption"], **facts)


def manifest(path, clips):
    recordings = [(one, Recording.from_file(one.audio, one.id)) for one in clips]
    return write_cuts(path, [cut_of_clip(one, found, found.duration) for one, found in recordings])


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    """Write eight training clips and seven for evaluation; the first six are the same, each pair in another way."""
    folder = tmp_path_factory.mktemp("overlap")
    train, held_out = folder / "train", folder / "test"
    youtube, freesound = {"youtube": "--PJHxphWEs"}, {"freesound": "64760"}
    training = [
        clip(train, "a", sound(0), id="corpus/same"),
        clip(train, "vgg", sound(1), id="vggsound/--PJHxphWEs_000030", origin=youtube),
        clip(train, "fsd", sound(2), id="fsd50k/64760", origin=freesound),
        clip(train, "copy", np.round(sound(3) * 32767).astype(np.int16), id="train/copy"),
        clip(train, "loud", sound(4), id="train/loud"),
        clip(train, "Y-_Y2345678a", sound(5), id="train/5"),
        clip(train, "recording_1", sound(6), id="train/6"),
        clip(train, "rest", sound(7), id="train/7"),
    ]
    evaluation = [
        clip(held_out, "b", sound(10), id="corpus/same"),
        clip(held_out, "cap", sound(11), id="audiocaps/103549", origin=youtube),
        clip(held_out, "esc", sound(12), id="esc50/1-64760-A-1", origin=freesound),
        clip(held_out, "copied", np.round(sound(3) * 32767).astype(np.int16), id="test/copied", suffix=".flac"),
        clip(held_out, "quiet", 0.2 * sound(4)[5000:], id="test/quiet", suffix=".mp3"),
        clip(held_out, "own", sound(15), id="audioset/-_Y2345678a", origin={"youtube": "-_Y2345678a"}),
        clip(held_out, "recording_1", sound(16), id="test/6"),
    ]
    return SimpleNamespace(
        train=manifest(folder / "train.jsonl.gz", training),
        val=manifest(folder / "val.jsonl.gz", evaluation[:3]),
        test=manifest(folder / "test.jsonl.gz", evaluation[3:]),
    )


EXPECTED = {
    ("corpus/same", "corpus/same"): ["id"],
    ("vggsound/--PJHxphWEs_000030", "audiocaps/103549"): ["youtube"],
    ("fsd50k/64760", "esc50/1-64760-A-1"): ["freesound"],
    ("train/copy", "test/copied"): ["content", "fingerprint"],
    ("train/loud", "test/quiet"): ["fingerprint"],
    ("train/5", "audioset/-_Y2345678a"): ["youtube"],
}


def run(capsys, *arguments):
    status = main(["overlap", *map(str, arguments)])
    return status, capsys.readouterr().out


def test_clips_are_found_in_each_way(manifests, capsys):
    status, out = run(capsys, manifests.train, manifests.val, manifests.test, "--json", "--workers", 0)
    result = json.loads(out)
    assert status == 1
    assert {(pair["train"], pair["evaluation"]): pair["by"] for pair in result["pairs"]} == EXPECTED
    assert (result["train_clips"], result["train_overlapping"]) == (8, 6)
    assert result["evaluation"] == [
        {"manifest": str(manifests.val), "clips": 3, "overlapping": 3, "by": {"freesound": 1, "id": 1, "youtube": 1}},
        {
            "manifest": str(manifests.test),
            "clips": 4,
            "overlapping": 3,
            "by": {"content": 1, "fingerprint": 2, "youtube": 1},
        },
    ]
    assert result["unread"] == []
    loud = next(pair for pair in result["pairs"] if pair["train"] == "train/loud")
    assert loud["manifest"] == str(manifests.test)
    assert loud["begins_at"] == pytest.approx(-5000 / 16000, abs=0.05)
    assert 0 < loud["different_bits"] < 0.35
    assert 0.5 < loud["shared_seconds"] < 1.7


def test_the_table_names_pairs_and_numbers(manifests, capsys):
    status, out = run(capsys, manifests.train, manifests.val, manifests.test, "--workers", 0, "--pairs", 4)
    assert status == 1
    assert "8 clips, 6 overlap" in out
    assert "fingerprint 2" in out
    assert "fsd50k/64760 = esc50/1-64760-A-1, by freesound" in out
    assert "... and 2 more pairs" in out


def test_only_the_ways_that_are_asked_for(manifests, capsys, monkeypatch):
    monkeypatch.setattr(overlap_search, "fingerprint", None)  # by name no audio is read
    status, out = run(capsys, manifests.train, manifests.test, "--by", "id", "origin", "--json")
    assert (status, [pair["by"] for pair in json.loads(out)["pairs"]]) == (1, [["youtube"]])
    assert run(capsys, manifests.train, manifests.test, "--by", "id")[0] == 0


def test_the_rest_is_written_and_overlaps_no_more(manifests, capsys, tmp_path):
    clean = tmp_path / "elsewhere" / "clean.jsonl.gz"
    assert run(capsys, manifests.train, manifests.val, manifests.test, "--workers", 0, "--out", clean)[0] == 1
    kept = read_manifest(clean)
    assert [cut.id for cut in kept] == ["train/6", "train/7"]
    assert all(Path(source.source).is_file() for cut in kept for source in cut.recording.sources)
    assert kept[0].supervisions[0].text == "a caption"
    status, out = run(capsys, clean, manifests.val, manifests.test, "--workers", 0)
    assert status == 0
    assert "2 clips, 0 overlap" in out


def test_an_out_that_would_destroy_or_could_not_be_written(manifests, capsys):
    for out, message in ((manifests.test, "one of the manifests"), ("clean.csv", "ends in .jsonl.gz")):
        assert main(["overlap", str(manifests.train), str(manifests.test), "--out", str(out)]) == 2
        assert message in capsys.readouterr().err


def test_a_manifest_is_its_own_double_and_nothing_of_it_remains(manifests, capsys, tmp_path):
    arguments = [
        "overlap",
        str(manifests.test),
        str(manifests.test),
        "--by",
        "id",
        "--out",
        str(tmp_path / "x.jsonl.gz"),
    ]
    assert main(arguments) == 2
    assert "all 4 training clips overlap" in capsys.readouterr().err


def test_audio_that_cannot_be_read_is_named_and_not_fatal(manifests, capsys, tmp_path):
    clips = [clip(tmp_path, "gone", sound(20), id="train/gone"), clip(tmp_path, "same", sound(21), id="corpus/same")]
    train = manifest(tmp_path / "train.jsonl.gz", clips)
    (tmp_path / "gone.wav").write_bytes(b"RIFF")
    status, out = run(capsys, train, manifests.val, "--workers", 0)
    assert status == 1
    assert "1 clips cannot be read; at most their names were compared:" in out
    assert "train/gone" in out


def test_rows_of_a_table_without_their_files_are_named(manifests, capsys, tmp_path):
    soundfile.write(tmp_path / "there.wav", sound(0), 16000)
    (tmp_path / "train.csv").write_text("audio,caption\nthere.wav,a dog\ngone.wav,a cat\nlost.wav,a cow\n")
    status, out = run(capsys, tmp_path / "train.csv", manifests.val, "--workers", 0)
    assert status == 3  # it was 0, as if all had been compared
    assert "2 clips cannot be read" in out
    assert f"clip '{tmp_path}/gone.wav'" in out


def test_processes_find_the_same(manifests, monkeypatch):
    alone = search(manifests.train, [manifests.val, manifests.test], {"content", "fingerprint"})
    monkeypatch.setattr(overlap_search, "FEW", 8)  # so many are the training clips
    monkeypatch.setattr(overlap_search, "BATCH", 3)
    together = search(manifests.train, [manifests.val, manifests.test], {"content", "fingerprint"}, workers=2)
    assert together.pairs == alone.pairs
    assert len(alone.pairs) == 2


def test_a_csv_is_compared_too(manifests, capsys, tmp_path):
    soundfile.write(tmp_path / "Y--PJHxphWEs.wav", sound(30), 16000)
    (tmp_path / "train.csv").write_text("audio,caption\nY--PJHxphWEs.wav,a dog\n")
    status, out = run(capsys, tmp_path / "train.csv", manifests.val, "--json", "--by", "origin")
    assert status == 1
    assert json.loads(out)["pairs"][0]["evaluation"] == "audiocaps/103549"


def test_a_manifest_that_is_not_there(manifests, tmp_path):
    with pytest.raises(ManifestError, match="there is no such manifest"):
        search(manifests.train, [tmp_path / "nowhere.jsonl.gz"], {"id"})


def test_names_are_counted_from_the_indices_alone(manifests, monkeypatch):
    train, val, test = (read_manifest(path) for path in (manifests.train, manifests.val, manifests.test))
    for clips in (train, val, test):
        monkeypatch.setattr(clips, "cut", None)  # nothing is decoded
    assert shared_by_name(train, val) == (1, 2)
    assert shared_by_name(train, test) == (0, 0)  # guesses are for the command
    assert shared_by_name(train[1:], val) == (0, 2)
    assert shared_by_name(train[2:], val[:2]) == (0, 0)


def test_the_warning_says_how_many_and_what_to_do(manifests, caplog):
    train, val, test = ((path, read_manifest(path)) for path in (manifests.train, manifests.val, manifests.test))
    with caplog.at_level(logging.WARNING):
        warn_of_overlap([train], [val, test])
    assert len(caplog.messages) == 1
    assert f"of the 3 clips in {manifests.val}, 1 have the id and 2 the origin of a training clip" in caplog.messages[0]
    assert f"`slap overlap {manifests.train} {manifests.val}`" in caplog.messages[0]


def test_training_warns_of_its_validation_and_test_data(manifests, caplog):
    data = AudioTextData(manifests.train, manifests.test, manifests.val, max_duration=30.0)
    with caplog.at_level(logging.WARNING, logger="slap.datamodules.overlap.warn"):
        data.setup("fit")
    assert [message.split(",")[0] for message in caplog.messages] == [f"of the 3 clips in {manifests.val}"]
    caplog.clear()
    data = AudioTextData(manifests.train, manifests.train, max_duration=30.0)
    with caplog.at_level(logging.WARNING, logger="slap.datamodules.overlap.warn"):
        data.setup("fit")
    assert "8 have the id and 2 the origin" in caplog.messages[0]


def test_a_test_manifest_that_is_not_there_does_not_stop_training(manifests, tmp_path, caplog):
    data = AudioTextData(manifests.train, test=tmp_path / "later.jsonl.gz", max_duration=30.0)
    data.setup("fit")
    assert caplog.messages == []
