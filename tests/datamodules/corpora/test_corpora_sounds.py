"""FSD50K, UrbanSound8K and GTZAN: folds, splits, tags, and their known faults."""

import pytest

import tree_sounds as tree
import tree_tools as tools
from slap.datamodules.corpora import FSD50K, GTZAN
from slap.datamodules.manifests.clip import ManifestError


def test_fsd50k(tmp_path):
    tree.fsd50k(tmp_path / "fsd50k")
    made = tools.prepare("fsd50k", tmp_path / "fsd50k", tmp_path / "out")
    assert tools.counts(made.report["train"]) == {"official": 36_796, "listed": 3, "found": 2, "missing": 1}
    assert tools.counts(made.report["val"]) == {"official": 4_170, "listed": 1, "found": 1}
    assert tools.counts(made.report["eval"]) == {"official": 10_231, "listed": 2, "found": 1, "missing": 1}
    cut = made.clips["train"]["16399"]
    assert cut.custom["tags"] == {"fsd50k": ["Electric guitar", "Dog"]}
    assert cut.custom["origin"] == {"freesound": "16399"}
    assert tools.captions(cut) == [("the sound of electric guitar and dog", "template")]
    assert cut.duration == pytest.approx(0.2)


def test_a_label_beyond_the_vocabulary_is_named(tmp_path):
    tree.fsd50k(tmp_path)
    path = tmp_path / "FSD50K.ground_truth" / "eval.csv"
    path.write_text(path.read_text().replace("Electric_guitar", "Air_guitar"))
    with pytest.raises(ManifestError, match="clip 37199 has the label 'Air_guitar', not in vocabulary"):
        list(FSD50K(tmp_path).clips("eval"))


def test_urbansound8k(tmp_path):
    tree.urbansound8k(tmp_path / "us8k")
    made = tools.prepare("urbansound8k", tmp_path / "us8k", tmp_path / "out")
    assert tools.counts(made.report["all"]) == {"official": 8_732, "listed": 5, "found": 4, "missing": 1}
    clips = made.clips["all"]
    assert {name: cut.custom["fold"] for name, cut in clips.items()} == {
        "100032-3-0-0": 5,
        "100263-2-0-117": 5,
        "100263-2-0-121": 5,
        "57320-0-0-15": 1,
    }
    assert clips["100032-3-0-0"].custom["labels"] == {"urbansound8k": "dog bark"}
    assert (
        clips["100263-2-0-117"].custom["origin"] == clips["100263-2-0-121"].custom["origin"] == {"freesound": "100263"}
    )
    assert [cut.sampling_rate for cut in clips.values()] == [44100, 48000, 8000, 96000]
    assert clips["100032-3-0-0"].duration == pytest.approx(0.05)


def test_gtzan_as_torchaudio_filters_it(tmp_path):
    tree.gtzan(tmp_path / "gtzan")
    made = tools.prepare("gtzan", tmp_path / "gtzan", tmp_path / "out")
    sizes = {split: (report["official"], report["listed"]) for split, report in made.report.items()}
    assert sizes == {"train": (443, 443), "valid": (197, 197), "test": (290, 290)}
    found = {split: list(cuts) for split, cuts in made.clips.items()}
    assert found == {
        "train": ["jazz.00001", "rock.00099"],
        "valid": ["blues.00000"],
        "test": ["blues.00012", "classical.00011", "metal.00013", "rock.00010"],
    }
    clips = {name: cut for split in made.clips.values() for name, cut in split.items()}
    assert clips["blues.00012"].custom["labels"] == {"gtzan": "blues"}
    assert tools.captions(clips["blues.00012"]) == [("a blues song", "template")]
    from torchaudio.datasets.gtzan import filtered_test, filtered_train, filtered_valid

    ours = {split: {clip.id for clip in GTZAN(tmp_path / "gtzan").clips(split)} for split in ("train", "valid", "test")}
    theirs = {"train": filtered_train, "valid": filtered_valid, "test": filtered_test}
    assert ours == {split: {f"gtzan/{name}" for name in listed} for split, listed in theirs.items()}


def test_gtzan_whole_with_its_damaged_file(tmp_path):
    tree.gtzan(tmp_path / "gtzan", "genres_original")
    made = tools.prepare("gtzan", tmp_path / "gtzan", tmp_path / "out", "--subset", "all")
    assert list(made.report) == ["all"]
    assert tools.counts(made.report["all"]) == {
        "official": 1000,
        "listed": 1000,
        "found": 7,
        "missing": 992,
        "unreadable": 1,
    }
    assert made.report["all"]["unreadable"]["first"][0].startswith("gtzan/jazz.00054")
    assert made.clips["all"]["metal.00013"].recording.sources[0].source.endswith("metal.00013.au")


def test_gtzan_without_genres_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder of genres"):
        next(GTZAN(tmp_path).clips("test"))
