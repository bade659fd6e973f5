"""Your own tables and folders as corpora."""

import json

import pytest

import tree_tools as tools
from slap.cli.main import main
from slap.datamodules.corpora import CSV, Folder, JSONLines
from slap.datamodules.manifests.clip import ManifestError


@pytest.fixture
def mine(tmp_path):
    """Write two sounds to a folder, in which tests put tables of them."""
    root = tmp_path / "mine"
    tools.tone(root / "clips" / "a.wav", 0.5)
    tools.tone(root / "clips" / "b.flac", 1.0, 44100, 2)
    return root


def test_a_folder_of_csv_tables(mine, tmp_path):
    (mine / "train.csv").write_text(
        "audio,caption,label,fold,freesound,other\n"
        "clips/a.wav,a beep,beep,2,77,x\n"
        'clips/b.flac,"a hum, then a click",,,,\n'
        "clips/a.wav,again,,,,\n"
        "clips/gone.wav,not there,,,,\n"
        "clips/b.flac,,hum,,,\n"
    )
    (mine / "dev.csv").write_text("audio,caption,start,duration\nclips/b.flac,the middle,0.25,0.5\n")
    made = tools.prepare("csv", mine, tmp_path / "out")
    assert tools.counts(made.report["train"]) == {"listed": 3, "found": 2, "missing": 1}
    (left_out,) = made.report["train"]["left_out"]["no caption, or one that is no text"]["first"]
    assert left_out.startswith(f"{mine / 'train.csv'}, line 6: the caption is empty")
    first, second = made.clips["train"].values()
    assert (first.id, first.duration, tools.captions(first)) == (
        "mine/clips/a.wav", 0.5, [("a beep", "caption"), ("again", "caption")]
    )  # fmt: skip
    known = dict(first.custom)
    known.pop("where")
    assert known == {
        "labels": {"label": "beep"}, "corpus": "mine", "split": "train", "fold": 2, "origin": {"freesound": "77"}
    }  # fmt: skip
    assert second.num_channels == 2
    (middle,) = made.clips["dev"].values()
    assert (middle.id, middle.start, middle.duration) == ("mine/clips/b.flac@0.25+0.5", 0.25, 0.5)


def test_one_csv_table_is_split_by_its_column(mine, tmp_path):
    table = mine / "mine.csv"
    table.write_text("id,audio,caption,split\nx,clips/a.wav,one,train\ny,clips/b.flac,two,held out\n")
    made = tools.prepare("csv", table, tmp_path / "out", "--name", "ours")
    assert {split: list(clips) for split, clips in made.clips.items()} == {"train": ["ours/x"], "held out": ["ours/y"]}
    table.write_text("audio,caption\nclips/a.wav,one\n")
    assert [clip.id for clip in CSV(table).clips("all")] == ["mine/clips/a.wav"]
    assert CSV(table).splits() == ["all"]
    table.write_text("audio,caption,split\nclips/a.wav,one,train\nclips/b.flac,two,\n")
    with pytest.raises(ManifestError, match="some rows have a `split` and some have none"):
        CSV(table).splits()


def test_a_split_may_not_name_a_place_elsewhere(mine, tmp_path, capsys):
    (mine / "mine.csv").write_text("audio,caption,split\nclips/a.wav,one,../../x\n")
    assert main(["prepare", "csv", str(mine / "mine.csv"), str(tmp_path / "out")]) == 2
    assert "has the split '../../x'; use letters, digits" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_json_lines(mine, tmp_path):
    records = [
        {"audio": "clips/a.wav", "caption": ["one", "two"], "labels": {"digit": "3"}, "youtube": "abc", "fold": 1},
        {"audio": "clips/b.flac", "caption": " "},
        {"audio": "clips/b.flac", "caption": []},
    ]
    (mine / "train.jsonl").write_text("\n".join(map(json.dumps, records)))
    made = tools.prepare("jsonl", mine, tmp_path / "out")
    (cut,) = made.clips["train"].values()
    assert tools.captions(cut) == [("one", "caption"), ("two", "caption")]
    assert (cut.custom["labels"], cut.custom["fold"], cut.custom["origin"]) == ({"digit": "3"}, 1, {"youtube": "abc"})
    assert made.report["train"]["left_out"]["no caption, or one that is no text"]["count"] == 2
    with pytest.raises(ManifestError, match="line 1: this is a Lhotse cut; name the file itself as a manifest"):
        list(JSONLines(tmp_path / "out" / "train.jsonl.gz").clips("all"))


def test_faults_of_tables_name_the_row(mine):
    (mine / "train.csv").write_text("audio,caption,fold\nclips/a.wav,one,two\n")
    with pytest.raises(ManifestError, match=r"train\.csv, line 2: `fold` must be a whole number, got 'two'"):
        list(CSV(mine).clips("train"))
    with pytest.raises(FileNotFoundError, match=r"there is no table \(\.csv, \.tsv\)"):
        CSV(mine / "clips")
    (mine / "train.jsonl").touch()
    (mine / "train.jsonl.gz").touch()
    with pytest.raises(ValueError, match="would both be the split 'train'"):
        JSONLines(mine)


def test_folders_are_labels(tmp_path):
    root = tmp_path / "pets"
    for name in ("small_dog/2.wav", "small_dog/july/1.ogg", "cat/1.wav", "loose.wav"):
        tools.tone(root / name, 0.3)
    tools.resource_fork(root / "cat" / "1.wav")
    (root / "cat" / "notes.txt").touch()
    (root / ".cache").mkdir()
    made = tools.prepare("folder", root, tmp_path / "out", "--task", "pet", "--template", "a {label} can be heard")
    assert [(name, cut.custom["labels"]) for name, cut in made.clips["all"].items()] == [
        ("pets/cat/1.wav", {"pet": "cat"}),
        ("pets/small_dog/2.wav", {"pet": "small dog"}),
        ("pets/small_dog/july/1.ogg", {"pet": "small dog"}),
    ]
    assert tools.captions(made.clips["all"]["pets/small_dog/2.wav"]) == [("a small dog can be heard", "template")]
    assert made.report["all"]["left_out"]["not in a folder named after its label"]["count"] == 1
    with pytest.raises(ValueError, match=r"the template needs \{label\}"):
        Folder(root, template="a sound")


def test_a_flat_folder_is_told_the_ways_on(tmp_path, capsys):
    """No label lies in it: a table does it, or a trained model. What is named works."""
    root = tmp_path / "flat"
    for number in range(3):
        tools.tone(root / f"{number}.wav", 0.3)
    assert main(["prepare", "folder", str(root), str(tmp_path / "out"), "--workers", "0"]) == 2
    error = capsys.readouterr().err
    assert f"{root} holds 3 recordings and no folders of them" in error
    assert "`slap index MODEL" in error
    assert f"slap prepare csv {root}/captions.csv OUT" in error
    (root / "meta.csv").write_text("audio,caption\n0.wav,a beep\n1.wav,two beeps\n")
    assert main(["prepare", "folder", str(root), str(tmp_path / "out"), "--workers", "0"]) == 2
    assert f"`slap prepare csv {root}/meta.csv OUT`" in capsys.readouterr().err
    assert main(["prepare", "csv", f"{root}/meta.csv", str(tmp_path / "csv"), "--workers", "0"]) == 0
    assert f"slap fit --recipe own_data --data.train '[{tmp_path}/csv/all.jsonl.gz]'" in capsys.readouterr().out


def test_folders_may_have_splits_above_the_labels(tmp_path):
    for name in ("train/dog/1.wav", "train/cat/1.wav", "test/dog/1.wav"):
        tools.tone(tmp_path / "pets" / name, 0.3)
    made = tools.prepare("folder", tmp_path / "pets", tmp_path / "out", "--layout", "split/label")
    labels = {split: [cut.custom["labels"]["label"] for cut in clips.values()] for split, clips in made.clips.items()}
    assert labels == {"test": ["dog"], "train": ["cat", "dog"]}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_nothing_of_a_table_is_lost(mine, tmp_path, kind):
    """Fields of captions and origins vanished, and captions made of labels became real ones."""
    records = [
        {"audio": "clips/a.wav", "caption": "one", "caption_tags": "beep", "label": "x", "youtube": "abc", "fold": "1"},
        {"audio": "./clips/../clips/a.wav", "caption": "two"},
    ]
    if kind == "jsonl":
        records[1]["origin"] = {"bbc": "7"}
        text = "\n".join(map(json.dumps, records))
    else:
        text = "\n".join([",".join(records[0]), ",".join(records[0].values()), "./clips/../clips/a.wav,two,,,,"])
    (mine / f"train.{kind}").write_text(text)
    made = tools.prepare(kind, mine, tmp_path / "out")
    (cut,) = made.clips["train"].values()
    assert cut.id == "mine/clips/a.wav"
    assert tools.captions(cut) == [("one", "caption"), ("beep", "tags"), ("two", "caption")]
    assert (cut.custom["origin"]["youtube"], cut.custom["fold"], cut.custom["labels"]) == ("abc", 1, {"label": "x"})


def test_captions_made_of_labels_are_known_as_such(mine, tmp_path):
    (mine / "train.csv").write_text("audio,label\nclips/a.wav,beep\n")
    made = tools.prepare("csv", mine, tmp_path / "out")
    assert tools.captions(made.clips["train"]["mine/clips/a.wav"]) == [("the sound of beep", "template")]


def test_columns_of_your_own(mine, tmp_path, capsys):
    (mine / "train.tsv").write_text("filepath\ttitle\nclips/a.wav\tone\n")
    made = tools.prepare("csv", mine, tmp_path / "out", "--columns", "{audio: filepath, caption: title}")
    assert tools.captions(made.clips["train"]["mine/clips/a.wav"]) == [("one", "caption")]
    assert main(["prepare", "csv", str(mine), str(tmp_path / "none")]) == 2
    assert "this file has filepath, title. Rename them, or say which they are" in capsys.readouterr().err


def test_a_file_elsewhere_is_named_by_its_path(mine, tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.csv").write_text("audio,caption\n../mine/clips/a.wav,one\n")
    (clip,) = CSV(tmp_path / "lists").clips("train")
    assert clip.id == f"lists{mine}/clips/a.wav"
