"""Speech Commands, CREMA-D and RAVDESS: lists, and labels in file names."""

import pytest
from torchaudio.datasets import SPEECHCOMMANDS

import tree_speech as tree
import tree_tools as tools
from slap.datamodules.corpora import CREMAD, RAVDESS, SpeechCommands
from slap.datamodules.corpora.cremad import evar_split
from slap.datamodules.corpora.speechcommands import WORDS
from slap.datamodules.manifests.clip import ManifestError


def test_speech_commands(tmp_path):
    tree.speechcommands(tmp_path / "commands")
    made = tools.prepare("speechcommands", tmp_path / "commands", tmp_path / "out")
    assert tools.counts(made.report["train"]) == {"official": 84_843, "listed": 3, "found": 3}
    assert tools.counts(made.report["validation"]) == {"official": 9_981, "listed": 2, "found": 1, "missing": 1}
    assert tools.counts(made.report["test"]) == {"official": 11_005, "listed": 1, "found": 1}
    assert list(made.clips["train"]) == ["wow/01d22d03_nohash_0", "yes/004ae714_nohash_0", "yes/004ae714_nohash_1"]
    cut = made.clips["test"]["yes/0a7c2a8d_nohash_0"]
    assert cut.custom["labels"] == {"speechcommands": "yes"}
    assert tools.captions(cut) == [("a person says yes", "template")]
    assert len(WORDS) == 35


def test_the_splits_of_speech_commands_are_torchaudios(tmp_path):
    root = tmp_path / "SpeechCommands" / "speech_commands_v0.02"
    tree.speechcommands(root)
    (root / "yes" / "._004ae714_nohash_0.wav").unlink()  # torchaudio would take it for a recording
    for split, subset in {"train": "training", "validation": "validation", "test": "testing"}.items():
        theirs = SPEECHCOMMANDS(str(tmp_path), url="speech_commands_v0.02", subset=subset)
        ours = [str(clip.audio) for clip in SpeechCommands(root).clips(split)]
        assert sorted(ours) == sorted(theirs._walker)


def test_a_word_that_is_none_of_the_35_is_named(tmp_path):
    tree.speechcommands(tmp_path)
    (tmp_path / "testing_list.txt").write_text("yes/0a7c2a8d_nohash_0.wav\nhello/0a7c2a8d_nohash_0.wav\n")
    with pytest.raises(
        ManifestError, match=r"testing_list.txt, line 2: 'hello/0a7c2a8d_nohash_0.wav' is not a file of one of the 35"
    ):
        list(SpeechCommands(tmp_path).clips("train"))


def test_crema_d(tmp_path):
    tree.cremad(tmp_path / "cremad")
    made = tools.prepare("cremad", tmp_path / "cremad", tmp_path / "out")
    assert tools.counts(made.report["all"]) == {
        "official": 7_442,
        "listed": 5,
        "found": 3,
        "missing": 1,
        "empty": 1,
    }
    assert made.report["all"]["empty"]["first"][0].startswith("cremad/1076_MTI_SAD_XX")
    cut = made.clips["all"]["1001_IEO_HAP_HI"]
    assert cut.custom["labels"] == {"cremad": "happy"}
    assert tools.captions(cut) == [("a person is talking, feeling happy", "template")]


def test_crema_d_with_all_that_its_names_say(tmp_path):
    tree.cremad(tmp_path / "cremad", listed=False)
    made = tools.prepare("cremad", tmp_path / "cremad", tmp_path / "out", "--labels", "all")
    assert tools.counts(made.report["all"]) == {"official": 7_442, "listed": 4, "found": 3, "empty": 1}
    assert made.clips["all"]["1001_IEO_HAP_HI"].custom["labels"] == {
        "cremad": "happy",
        "cremad_sentence": "It's eleven o'clock",
        "cremad_level": "high",
        "cremad_actor": "1001",
    }
    assert "cremad_level" not in made.clips["all"]["1001_DFA_ANG_XX"].custom["labels"]


def test_crema_d_by_actors_as_evar_splits_it(tmp_path):
    tree.cremad(tmp_path / "cremad")
    made = tools.prepare("cremad", tmp_path / "cremad", tmp_path / "out", "--actors", "evar")
    found = {split: (report["official"], report["listed"], report["found"]) for split, report in made.report.items()}
    assert found == {"train": (5155, 3, 1), "valid": (732, 0, 0), "test": (1551, 2, 2)}
    assert list(made.clips["test"]) == ["1001_DFA_ANG_XX", "1001_IEO_HAP_HI"]
    splits = [evar_split(actor) for actor in range(1001, 1092)]
    assert {split: splits.count(split) for split in ("train", "valid", "test")} == {"train": 63, "valid": 9, "test": 19}


def test_a_name_that_crema_d_does_not_have(tmp_path):
    tools.tone(tmp_path / "AudioWAV" / "1001_ABC_ANG_XX.wav")
    with pytest.raises(ManifestError, match="'1001_ABC_ANG_XX' is not named like 1001_DFA_ANG_XX"):
        list(CREMAD(tmp_path).clips("all"))


@pytest.mark.parametrize("zipped", [True, False])
def test_ravdess(zipped, tmp_path):
    tree.ravdess(tmp_path / "ravdess", zipped)
    made = tools.prepare("ravdess", tmp_path / "ravdess", tmp_path / "out", "--labels", "all")
    assert tools.counts(made.report["speech"]) == {"official": 1440, "listed": 1440, "found": 2, "missing": 1438}
    assert tools.counts(made.report["song"]) == {"official": 1012, "listed": 1012, "found": 2, "missing": 1010}
    cut = made.clips["speech"]["03-01-08-02-02-01-12"]
    assert cut.custom["labels"] == {
        "ravdess": "surprised",
        "ravdess_intensity": "strong",
        "ravdess_statement": "Dogs are sitting by the door",
        "ravdess_actor": "12",
        "ravdess_gender": "female",
    }
    assert tools.captions(cut) == [("a person is talking, feeling surprised", "template")]
    assert tools.captions(made.clips["song"]["03-02-06-01-01-01-01"]) == [
        ("a person is singing, feeling fearful", "template")
    ]
    assert cut.num_channels == 2


def test_the_lists_of_ravdess_follow_its_design(tmp_path):
    speech, song = ([clip.id for clip in RAVDESS(tmp_path).clips(split)] for split in ("speech", "song"))
    assert (len(set(speech)), len(set(song))) == (1440, 1012)
    assert not [name for name in song if name.endswith("-18")]
    assert not [name for name in speech + song if "-01-02-0" in name and name.split("-")[2:4] == ["01", "02"]]
