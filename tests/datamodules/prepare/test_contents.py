"""Files of equal content in the report of `slap prepare`, and files that are not as the list says."""

import json
import shutil
import unicodedata
from pathlib import Path

import pytest

import tree_tools as tools
from slap.datamodules.prepare.known_files import ENDS

CASES = Path(__file__).parents[4] / "shared" / "data" / "cases"


def identical(out):
    return json.loads((out / "report.json").read_text())["identical"]


def pairs(found):
    return {line.replace("pets/", "") for line in found["first"]}


def test_files_of_equal_content_are_reported(tmp_path, capsys):
    """A test file that is a copy of a training file has another id and another path."""
    root = tmp_path / "pets"
    for number, name in enumerate(("train/dog/1.wav", "train/dog/2.wav", "train/cat/1.wav", "test/dog/7.wav")):
        tools.tone(root / name, 0.5, pitch=300 + 50 * number)  # all of one size
    shutil.copy(root / "train/dog/1.wav", root / "test/dog/copy.wav")
    shutil.copy(root / "train/cat/1.wav", root / "train/dog/copy.wav")
    made = tools.prepare("folder", root, tmp_path / "out", "--layout", "split/label")
    assert {split: len(clips) for split, clips in made.clips.items()} == {"test": 2, "train": 4}  # they stay
    found = identical(tmp_path / "out")
    assert (found["count"], found["across_splits"]) == (2, 1)
    assert pairs(found) == {
        "train/dog/1.wav (train) = test/dog/copy.wav (test)",
        "train/dog/copy.wav (train) = train/cat/1.wav (train)",
    }
    assert found["first"][0].endswith("(test)")  # what matters most comes first
    out = capsys.readouterr().out
    assert "identical           2   (files with the content of an earlier one, 1 of them of another split" in out


def test_only_equal_files_are_reported(tmp_path):
    """Files of one size whose begin and end agree may differ in between, and segments of a file are no copies."""
    root = tmp_path / "mine"
    tools.tone(root / "a.wav", 2.0)
    raw = bytearray((root / "a.wav").read_bytes())
    raw[len(raw) // 2] ^= 1
    assert len(raw) > 2 * ENDS
    (root / "b.wav").write_bytes(raw)
    (root / "train.csv").write_text("audio,caption,start,end\na.wav,x,0,1\na.wav,y,1,2\nb.wav,z,,\n")
    tools.prepare("csv", root, tmp_path / "out")
    assert identical(tmp_path / "out") == {"count": 0, "across_splits": 0, "first": []}


def test_splits_that_are_prepared_later_are_compared_too(tmp_path):
    root = tmp_path / "pets"
    tools.tone(root / "train/dog/1.wav")
    tools.tone(root / "test/dog/2.wav")
    for split, count in (("train", 0), ("test", 1)):
        tools.prepare("folder", root, tmp_path / "out", "--layout", "split/label", "--splits", split)
        assert identical(tmp_path / "out")["across_splits"] == count


def test_files_that_are_spelled_otherwise_are_found(tmp_path):
    root = tmp_path / "mine"
    tools.tone(root / unicodedata.normalize("NFD", "Säge.WAV"), 0.5)
    tools.tone(root / "dog.wav", 0.5)
    (root / "train.csv").write_text("audio,caption\nsäge.wav,a saw\ndog.wav,a dog\n")
    made = tools.prepare("csv", root, tmp_path / "out")
    assert made.report["train"]["missing"]["count"] == 0
    assert [cut.recording.sources[0].source for cut in made.clips["train"].values()] == [
        str(root / unicodedata.normalize("NFD", "Säge.WAV")), str(root / "dog.wav"),
    ]  # fmt: skip


def test_in_the_list_of_a_corpus_too(tmp_path):
    import tree_sounds as tree

    tree.gtzan(tmp_path / "gtzan")
    (file,) = (tmp_path / "gtzan").rglob("blues.00012.wav")
    file.rename(file.with_name("Blues.00012.WAV"))
    made = tools.prepare("gtzan", tmp_path / "gtzan", tmp_path / "out")
    assert made.clips["test"]["blues.00012"].recording.sources[0].source.endswith("Blues.00012.WAV")


def test_a_genre_that_is_missing(tmp_path):
    """The first one alone decided where the genres are."""
    import tree_sounds as tree

    tree.gtzan(tmp_path / "gtzan")
    shutil.rmtree(next((tmp_path / "gtzan").rglob("blues")))
    made = tools.prepare("gtzan", tmp_path / "gtzan", tmp_path / "out")
    assert made.status == 0
    assert "classical.00011" in made.clips["test"]
    assert made.report["test"]["missing"]["count"] > 0


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the recordings of ../shared/data")
def test_a_file_without_channels_is_named(tmp_path):
    root = tmp_path / "pets"
    tools.tone(root / "dog" / "1.wav")
    shutil.copy(CASES / "zero_channels.m4a", root / "dog" / "2.m4a")
    made = tools.prepare("folder", root, tmp_path / "out")
    assert list(made.clips["all"]) == ["pets/dog/1.wav"]
    (named,) = made.report["all"]["unreadable"]["first"]
    assert "dog/2.m4a" in named
    assert "line" not in named


def test_a_header_that_no_cut_may_have_is_the_fault_of_its_file(tmp_path, monkeypatch):
    """A file of 0 channels was a fault of a line of a manifest that was never written."""
    from slap.audio.decoders import Header
    from slap.datamodules.prepare import headers

    root = tmp_path / "pets"
    tools.tone(root / "dog" / "1.wav")
    tools.tone(root / "dog" / "2.wav")
    real = headers.read_header
    none = Header(3200, 16_000, 0)
    monkeypatch.setattr(headers, "read_header", lambda path: none if path.endswith("2.wav") else real(path))
    made = tools.prepare("folder", root, tmp_path / "out")
    assert list(made.clips["all"]) == ["pets/dog/1.wav"]
    (named,) = made.report["all"]["unreadable"]["first"]
    assert f"{root}/dog/2.wav: channels are a list of whole numbers, got []" in named
