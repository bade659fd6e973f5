"""AudioCaps, Clotho, WavCaps and WebDataset, each in its official layout with its quirks."""

import json
import logging
import tarfile
from pathlib import Path

import pytest

import tree_captioned as tree
import tree_tools as tools
from slap.datamodules.corpora import AudioCaps, Clotho, WavCaps, WebDataset
from slap.datamodules.manifests.clip import ManifestError

DATA = Path(__file__).parents[4] / "shared" / "data"


# -- AudioCaps --------------------------------------------------------------------------------------------------------


def test_audiocaps(tmp_path):
    tree.audiocaps(tmp_path / "audiocaps")
    made = tools.prepare("audiocaps", tmp_path / "audiocaps", tmp_path / "out", "--splits", "train", "val")
    assert tools.counts(made.report["train"]) == {"official": 49_838, "listed": 6, "found": 5, "missing": 1}
    assert made.report["train"]["missing"]["first"][0].startswith("audiocaps/gone-gone00_10: ")
    assert made.report["train"]["left_out"] == {"empty caption": {"count": 1, "first": ["96004 of emptyemptyE"]}}
    assert {name: cut.duration for name, cut in made.clips["train"].items()} == {
        "r1nicOVtvkQ_130": 0.4, "-_DhQm-wJ5f_30": 0.3, "__2S1-GmTRU_0": 0.2, "5_zHmqPG09v_250": 0.1,
        "byNumber__x_10": 0.5,
    }  # fmt: skip
    assert made.clips["train"]["-_DhQm-wJ5f_30"].custom["origin"] == {"youtube": "-_DhQm-wJ5f"}
    assert tools.counts(made.report["val"]) == {"official": 495, "listed": 2, "found": 2}
    captions = tools.captions(made.clips["val"]["vfY_TJq7n_U_130"])
    assert captions == [(f"caption {n}, of vfY_TJq7n_U", "caption") for n in range(5)]


def test_version_2_of_audiocaps_has_its_own_captions(tmp_path):
    tree.audiocaps(tmp_path)
    first, second = (next(AudioCaps(tmp_path, version=version).clips("val")) for version in ("v1", "v2"))
    assert first.id == second.id
    assert second.captions == [f"edited {caption}" for caption in first.captions]
    assert [AudioCaps(tmp_path, version="v2").official(split) for split in ("train", "val", "test")] == [None, 495, 975]


@pytest.mark.skipif(not (DATA / "audiocaps").is_dir(), reason="the captions of AudioCaps are not here")
def test_the_real_lists_of_audiocaps_have_as_many_clips_as_published():
    corpus = AudioCaps(DATA / "audiocaps")
    for split, captions in (("train", 1), ("val", 5)):
        clips = list(corpus.clips(split))
        assert len(clips) == corpus.official(split) == len({clip.id for clip in clips})
        assert {len(clip.captions) for clip in clips} == {captions}
        assert {len(clip.origin["youtube"]) for clip in clips} == {11}


# -- Clotho -----------------------------------------------------------------------------------------------------------


def test_clotho(tmp_path):
    tree.clotho(tmp_path / "clotho")
    made = tools.prepare("clotho", tmp_path / "clotho", tmp_path / "out", "--splits", "evaluation")
    assert tools.counts(made.report["evaluation"]) == {"official": 1045, "listed": 5, "found": 4, "missing": 1}
    clips = made.clips["evaluation"]
    assert {name: (cut.duration, cut.custom.get("origin")) for name, cut in clips.items()} == {
        "evaluation/Radio Garble.wav": (0.2, {"freesound": "80399"}),
        "evaluation/toy rattle  2.wav": (0.3, {"freesound": "151300"}),
        "evaluation/ leading.wav": (0.4, None),
        "evaluation/Caf\xe9.wav": (0.5, {"freesound": "77"}),
    }
    captions = tools.captions(clips["evaluation/ leading.wav"])
    assert captions == [(f"leading.wav: {letter}", "caption") for letter in "abcde"]


def test_clotho_as_aac_datasets_lays_it_out_and_without_metadata(tmp_path):
    tree.clotho(tmp_path)
    (tmp_path / "clotho_audio_files").mkdir()
    (tmp_path / "clotho_csv_files").mkdir()
    (tmp_path / "evaluation").rename(tmp_path / "clotho_audio_files/evaluation")
    name = "clotho_captions_evaluation.csv"
    (tmp_path / name).rename(tmp_path / "clotho_csv_files" / name)
    (tmp_path / "clotho_metadata_evaluation.csv").unlink()
    clips = list(Clotho(tmp_path).clips("evaluation"))
    assert [clip.audio.is_file() for clip in clips] == [True, True, True, True, False]
    assert not any(clip.origin for clip in clips)
    with pytest.raises(FileNotFoundError, match=r"clotho_captions_development\.csv, which is part of the corpus"):
        next(Clotho(tmp_path).clips("development"))


# -- WavCaps ----------------------------------------------------------------------------------------------------------


def test_wavcaps(tmp_path):
    tree.wavcaps(tmp_path / "wavcaps")
    made = tools.prepare("wavcaps", tmp_path / "wavcaps", tmp_path / "out")
    clips = {name: cut for split in made.clips.values() for name, cut in split.items()}
    assert {name: (cut.duration, cut.custom["origin"]) for name, cut in clips.items()} == {
        "AudioSet_SL/Yb0RFKhbpFJA": (0.5, {"youtube": "b0RFKhbpFJA"}),
        "AudioSet_SL/Yr1nicOVtvkQ": (0.5, {"youtube": "r1nicOVtvkQ"}),
        "BBC_Sound_Effects/07066104": (0.4, {"bbc": "07066104"}),
        "FreeSound/180913": (0.3, {"freesound": "180913"}),
        "FreeSound/100": (0.3, {"freesound": "100"}),
        "SoundBible/2219": (0.2, {"soundbible": "2219"}),
    }
    assert [record["official"] for record in made.report.values()] == [108_317, 31_201, 262_300, 1_232]
    assert made.report["FreeSound"]["left_out"] == {"no caption": {"count": 1, "first": ["99"]}}


def test_blacklists_of_wavcaps(tmp_path):
    tree.wavcaps(tmp_path / "wavcaps")
    blacklists = [str(path) for path in sorted((tmp_path / "wavcaps/json_files/blacklist").iterdir())]
    made = tools.prepare(
        "wavcaps", tmp_path / "wavcaps", tmp_path / "out", "--splits", "AudioSet_SL", "FreeSound",
        "--blacklists", json.dumps(blacklists),
    )  # fmt: skip
    assert list(made.clips["AudioSet_SL"]) == ["AudioSet_SL/Yb0RFKhbpFJA"]
    assert list(made.clips["FreeSound"]) == ["FreeSound/180913"]
    reason = "on the blacklist blacklist_exclude_all_ac.json"
    assert made.report["AudioSet_SL"]["left_out"] == {reason: {"count": 1, "first": ["Yr1nicOVtvkQ.wav"]}}
    (tmp_path / "wrong.json").write_text('["180913"]')
    with pytest.raises(ManifestError, match=r'wrong\.json: a blacklist is \{"AudioSet"'):
        WavCaps(tmp_path / "wavcaps", blacklists=[tmp_path / "wrong.json"])


# -- WebDataset -------------------------------------------------------------------------------------------------------


def test_laions_tar_files(tmp_path):
    tree.laion(tmp_path / "set", tmp_path / "scratch")
    made = tools.prepare("webdataset", tmp_path / "set", tmp_path / "out", "--name", "webdataset")
    assert tools.counts(made.report["train"]) == {"official": 11, "listed": 11, "found": 11}
    assert list(made.clips["train"]) == [f"train/{number}/{number}" for number in range(11)]
    cut = made.clips["train"]["train/10/10"]
    assert tools.captions(cut) == [("caption 10", "caption"), ("again 10", "caption")]
    assert (cut.sampling_rate, cut.load_audio().shape) == (48000, (1, 9600))
    assert tools.counts(made.report["test"]) == {"official": 4, "listed": 3, "found": 2, "unreadable": 1}
    assert {name: tools.captions(cut) for name, cut in made.clips["test"].items()} == {
        "test/0/0": [("the sounds of Harp and Music", "tags")], "test/0/2": [("one text", "caption")]
    }  # fmt: skip
    assert {reason: names["first"] for reason, names in made.report["test"]["left_out"].items()} == {
        "neither text nor tags": ["test/0/1"],
        "refused: not JSON": ["0.tar: 4.json"],
        "audio without JSON": ["0.tar: 3"],
    }
    moved = (tmp_path / "out").rename(tmp_path / "moved")  # audio is below OUT, so the folder moves as a whole
    assert (moved / "audio/train/10/10.flac").is_file()
    assert tools.read_manifest(moved / "train.jsonl.gz")[0].load_audio().shape == (1, 9600)


def test_splits_may_get_their_right_names(tmp_path, caplog):
    for split in ("valid", "test"):
        tree.tar(tmp_path / "clotho" / split / "0.tar", tree.sample(tmp_path, 0, [split]))
    with caplog.at_level(logging.WARNING):
        WebDataset(tmp_path / "clotho")
    assert "call its evaluation `valid`" in caplog.text
    names = {"valid": "evaluation", "test": "validation"}
    corpus = WebDataset(tmp_path / "clotho", rename=names)
    corpus.out = tmp_path / "out"
    assert sorted(corpus.splits()) == ["evaluation", "validation"]
    assert [(clip.split, clip.captions) for clip in corpus.clips("evaluation")] == [("evaluation", ["valid"])]
    with pytest.raises(ValueError, match="rename names the split train, but there are test, valid"):
        WebDataset(tmp_path / "clotho", rename={"train": "development"})


def test_nothing_is_unpacked_that_leads_elsewhere(tmp_path):
    audio, about = (content for _, content in tree.sample(tmp_path, 0, ["a caption"]))
    link, hard = tarfile.TarInfo("2.flac"), tarfile.TarInfo("3.flac")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard.type, hard.linkname = tarfile.LNKTYPE, "../secret"
    device = tarfile.TarInfo("4.flac")
    device.type = tarfile.CHRTYPE
    members = [
        (f"{tmp_path}/0.flac", audio), (f"{tmp_path}/0.json", about), ("../../1.flac", audio), ("../../1.json", about),
        (link, b""), ("2.json", about), (hard, b""), ("3.json", about), (device, b""), ("4.json", about),
        ("5.flac", audio * 100), ("5.json", about), ("a\\6.flac", audio), ("a\\6.json", about),
        ("7.flac", audio), ("7.json", about), ("7.flac", b"other"),
    ]  # fmt: skip
    tree.tar(tmp_path / "set" / "0.tar", members)
    corpus = WebDataset(tmp_path / "set", most_bytes=len(audio) * 99)
    corpus.out = tmp_path / "out"
    before = {path for path in tmp_path.rglob("*") if tmp_path / "out" not in path.parents}
    assert [clip.id for clip in corpus.clips("all")] == ["set/all/0/7"]
    assert [path.name for path in corpus.out.rglob("*") if path.is_file() or path.is_symlink()] == ["7.flac"]
    assert (corpus.out / "audio/all/0/7.flac").read_bytes() == audio
    after = {path for path in tmp_path.rglob("*") if tmp_path / "out" not in path.parents}
    assert after - {tmp_path / "out"} == before
    left = {reason: len(names) for reason, names in corpus.left_out.items()}
    assert left.pop("JSON without audio") == 4
    assert left == {
        "refused: its name leads out of its folder": 6, "refused: a link": 2, "refused: no plain file": 1,
        f"refused: more than {len(audio) * 99} bytes": 1, "a name that its tar file has twice": 1,
    }  # fmt: skip


def test_a_damaged_tar_file_does_not_stop_the_others(tmp_path):
    for number in range(2):
        samples = [member for key in range(3) for member in tree.sample(tmp_path, key, [f"caption {number}"])]
        tree.tar(tmp_path / "set" / f"{number}.tar", samples)
    whole = (tmp_path / "set/0.tar").read_bytes()
    (tmp_path / "set/0.tar").write_bytes(whole[: whole.index(b"1.flac") + 700])  # within the audio of the second sample
    (tmp_path / "set/2.tar").write_bytes(b"no tar file")
    corpus = WebDataset(tmp_path / "set")
    corpus.out = tmp_path / "out"
    assert [clip.id for clip in corpus.clips("all")] == ["set/all/0/0", *(f"set/all/1/{key}" for key in range(3))]
    assert len(corpus.left_out["the rest of a damaged tar file"]) == 2
    assert not list((tmp_path / "out").rglob("*.part"))


def test_unpacking_goes_on_where_it_was(tmp_path):
    tree.tar(tmp_path / "set" / "0.tar", tree.sample(tmp_path, 0, ["a caption"]))
    corpus = WebDataset(tmp_path / "set")
    with pytest.raises(ValueError, match="set `out`"):
        next(corpus.clips("all"))
    corpus.out = tmp_path / "out"
    (clip,) = corpus.clips("all")
    before = clip.audio.stat().st_mtime_ns
    assert list(corpus.clips("all")) == [clip]
    assert clip.audio.stat().st_mtime_ns == before
    clip.audio.write_bytes(b"half")
    assert list(corpus.clips("all")) == [clip]
    assert clip.audio.stat().st_size > 4
