"""Corpora of YouTube clips: ids with `-` and `_`, file names of downloaders, and their lists."""

import pytest

import tree_tools as tools
import tree_youtube as tree
from slap.datamodules.corpora import AudioSet, AudioSetCaps, AutoACD, MusicCaps, VGGSound
from slap.datamodules.corpora.youtube import Downloads, names, parse
from slap.datamodules.manifests.clip import ManifestError


def test_audioset(tmp_path):
    tree.audioset(tmp_path / "audioset")
    made = tools.prepare("audioset", tmp_path / "audioset", tmp_path / "out")
    assert tools.counts(made.report["balanced_train"]) == {
        "official": 22_160,
        "listed": 5,
        "found": 3,
        "missing": 1,
        "empty": 1,
    }
    assert made.report["balanced_train"]["missing"]["first"][0].startswith("audioset/gone-gone00")
    assert tools.counts(made.report["unbalanced_train"]) == {"official": 2_041_789, "listed": 1, "found": 1}
    assert tools.counts(made.report["eval"]) == {"official": 20_371, "listed": 1, "found": 1}
    clips = made.clips["balanced_train"]
    assert list(clips) == ["--4gqARaEJE", "YAb_cD-efGh", "-0RWZT-miFs"]
    cut = clips["-0RWZT-miFs"]
    assert cut.custom["tags"] == {"audioset": ["Speech", "Male speech, man speaking"]}
    assert tools.captions(cut) == [("the sound of speech and male speech, man speaking", "template")]
    assert cut.custom["origin"] == {"youtube": "-0RWZT-miFs"}
    assert (cut.custom["corpus"], cut.custom["split"]) == ("audioset", "balanced_train")


def test_a_class_that_audioset_does_not_have_is_named(tmp_path):
    tree.audioset(tmp_path)
    path = tmp_path / "metadata" / "eval_segments.csv"
    path.write_text(path.read_text().replace("/m/0bt9lr", "/m/none"))
    with pytest.raises(ManifestError, match=r"eval_segments.csv: '/m/none' is not one of the 5 classes"):
        list(AudioSet(tmp_path).clips("eval"))


def test_vggsound(tmp_path):
    tree.vggsound(tmp_path / "vggsound")
    made = tools.prepare(
        "vggsound", tmp_path / "vggsound", tmp_path / "out", "--audio", tmp_path / "vggsound" / "video"
    )
    assert tools.counts(made.report["train"]) == {"official": 183_730, "listed": 3, "found": 2, "missing": 1}
    assert tools.counts(made.report["test"]) == {"official": 15_446, "listed": 1, "found": 1}
    assert VGGSound(tmp_path).official("train") + VGGSound(tmp_path).official("test") == 199_176
    cut = made.clips["train"]["--56QUhyDQM_000185"]
    assert cut.custom["labels"] == {"vggsound": "bird chirping, tweeting"}
    assert tools.captions(cut) == [("the sound of bird chirping, tweeting", "template")]
    assert cut.custom["origin"] == {"youtube": "--56QUhyDQM"}


def test_a_split_that_vggsound_does_not_have_is_named(tmp_path):
    tools.table(tmp_path / "vggsound.csv", None, [("---g-f_I2yQ", 1, "people marching", "val")])
    with pytest.raises(ManifestError, match="---g-f_I2yQ is in the split 'val', not in train or test"):
        list(VGGSound(tmp_path).clips("train"))


def test_musiccaps(tmp_path):
    tree.musiccaps(tmp_path / "musiccaps")
    made = tools.prepare("musiccaps", tmp_path / "musiccaps", tmp_path / "out")
    assert tools.counts(made.report["train"]) == {"official": 2_663, "listed": 2, "found": 1, "missing": 1}
    assert tools.counts(made.report["eval"]) == {"official": 2_858, "listed": 1, "found": 1}
    assert tools.captions(made.clips["eval"]["-0Gj8-vB1q4"]) == [
        ("Slow,\nsad.", "caption"),
        ("low quality, 80's strings", "aspects"),
    ]
    assert tools.captions(made.clips["train"]["_-kssA-FOzU"]) == [('The singer says "hey".', "caption")]


def test_aspects_of_musiccaps_are_read_but_never_run(tmp_path):
    header = ["ytid", "start_s", "end_s", "aspect_list", "caption", "is_audioset_eval"]
    tools.table(tmp_path / "musiccaps-public.csv", header, [("a" * 11, 0, 10, "[print('run')]", "Music.", "False")])
    with pytest.raises(ManifestError, match=r"this list of aspects cannot be read: \"\[print"):
        list(MusicCaps(tmp_path).clips("train"))


def test_audiosetcaps(tmp_path):
    tree.audiosetcaps(tmp_path / "lists")
    tree.shared_audio(tmp_path / "audio")
    made = tools.prepare("audiosetcaps", tmp_path / "lists", tmp_path / "out", "--audio", tmp_path / "audio")
    assert tools.counts(made.report["audioset"]) == {"official": 1_910_920, "listed": 2, "found": 1, "missing": 1}
    assert made.report["audioset"]["left_out"] == {"empty caption": {"count": 1, "first": ["YYab_cd-efgh"]}}
    assert made.clips["audioset"]["Y---1_cCGK4M"].custom["origin"] == {"youtube": "---1_cCGK4M"}
    assert made.clips["vggsound"]["OxPnZzn1_L8_000883"].custom["origin"] == {"youtube": "OxPnZzn1_L8"}
    assert made.clips["youtube8m"]["_7Xe9vD3Hpg_4_10"].custom["origin"] == {"youtube": "_7Xe9vD3Hpg"}
    assert tools.captions(made.clips["youtube8m"]["_7Xe9vD3Hpg_4_10"]) == [("A cello.", "caption")]
    sizes = AudioSetCaps(tmp_path)
    assert sum(sizes.official(split) for split in sizes.splits()) == 6_117_099  # as its authors sum it up


def test_autoacd(tmp_path):
    tree.autoacd(tmp_path / "lists")
    tree.shared_audio(tmp_path / "audio")
    made = tools.prepare("autoacd", tmp_path / "lists", tmp_path / "out", "--audio", tmp_path / "audio")
    assert tools.counts(made.report["train"]) == {"listed": 3, "found": 2, "duplicated": 1}
    assert made.report["train"]["left_out"]["no YouTube id"]["first"] == ["https://youtu.be/abc"]
    assert made.clips["train"]["OxPnZzn1_L8_000883"].custom["origin"] == {"youtube": "OxPnZzn1_L8"}
    assert list(made.clips["test"]) == ["_7Xe9vD3Hpg"]
    assert AutoACD(tmp_path).official("train") is None


@pytest.mark.parametrize(
    "name",
    [
        "-_Y2345678a",
        "Y-_Y2345678a",
        "-_Y2345678a_000030",
        "Y-_Y2345678a_30.000_40.000",
        "-_Y2345678a_30000_40000",
        "-_Y2345678a_30_40",
        "-_Y2345678a_30_10",
        "-_Y2345678a_30.000",
        "-_Y2345678a_30000",
        "-_Y2345678a_30",
        "[-_Y2345678a]-[30-40]",
    ],
)
def test_audio_is_found_in_each_naming(name, tmp_path):
    file = tmp_path / "deep" / "down" / f"{name}.OGG"
    file.parent.mkdir(parents=True)
    file.touch()
    assert Downloads(tmp_path).find("-_Y2345678a", 30.0, 40.0) == file


def test_a_name_that_says_the_segment_wins_over_one_that_does_not(tmp_path):
    for name in ("aaaaaaaaaaa.wav", "aaaaaaaaaaa_000030.mp3", "aaaaaaaaaaa_000050.wav"):
        (tmp_path / name).touch()
    downloads = Downloads(tmp_path)
    assert downloads.find("aaaaaaaaaaa", 30, 40).name == "aaaaaaaaaaa_000030.mp3"
    assert downloads.find("aaaaaaaaaaa", 50, 60).name == "aaaaaaaaaaa_000050.wav"
    assert downloads.find("aaaaaaaaaaa", 70, 80).name == "aaaaaaaaaaa.wav"
    assert downloads.find("bbbbbbbbbbb", 70, 80) == tmp_path / "bbbbbbbbbbb.wav"  # where it would be expected


def test_the_walk_follows_links_but_not_in_circles(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "aaaaaaaaaaa.flac").touch()
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "audio").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "corpus")
    (tmp_path / "disk" / "._bbbbbbbbbbb.flac").touch()
    downloads = Downloads(tmp_path / "corpus")
    assert downloads.find("aaaaaaaaaaa") == tmp_path / "corpus" / "audio" / "aaaaaaaaaaa.flac"
    assert not downloads.find("bbbbbbbbbbb").exists()
    with pytest.raises(FileNotFoundError, match=r"nowhere; name the one that holds the audio"):
        Downloads(tmp_path / "nowhere")


def test_names_are_parsed_by_their_length_not_by_their_dashes():
    assert parse("Y" * 11) == ("Y" * 11, None, None)
    assert parse("Y" * 12) == ("Y" * 11, None, None)
    assert parse("a_b_c_d_e_f_10") == ("a_b_c_d_e_f", 10.0, None)
    assert parse("Zn4ViKWcw") == ("--Zn4ViKWcw", None, None)  # as a list wrote --Zn4ViKWcw
    for wrong in ("", "abc def", "https://youtu.be/abcdefghijk", "é" * 11):
        with pytest.raises(ValueError, match="is not named after a YouTube id"):
            parse(wrong)
    assert "-_Y2345678a" in set(names("-_Y2345678a", 1.5, None))
