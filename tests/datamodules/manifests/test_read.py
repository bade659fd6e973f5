"""Manifests of each kind, and the message of every fault."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, Recording, SupervisionSegment
from lhotse.cut import MixedCut, MonoCut

from slap.datamodules import Clip, ManifestError, captions_of, read_manifest, write_manifest
from slap.datamodules.audio.load import DecodeError, load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a.wav, 1 s, 8 kHz, mono, and b.wav, 2 s, 44.1 kHz, stereo."""
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 8000)
    soundfile.write(tmp_path / "b.wav", np.zeros((88200, 2)), 44100)
    return tmp_path


def write(folder: Path, text: str | bytes, name: str = "m.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def facts(path: Path) -> list[tuple]:
    """Return the facts about each clip, with the id below the manifest's folder."""
    return [
        (
            cut.id.removeprefix(f"{path.parent}/"),
            cut.start,
            cut.duration,
            list(captions_of([cut])),
            cut.custom["labels"],
        )
        for cut in read_manifest(path)
    ]


def test_csv_with_repeated_rows_captions_with_commas_and_labels(folder: Path) -> None:
    text = (
        "\ufeffaudio,caption,label,label_place,other\n"
        "a.wav,a beep,beep,,1\n"
        'b.wav,"a hum, then a click",,room,2\n'
        "a.wav, again ,,,3\n"
    )
    assert facts(write(folder, text)) == [
        ("a.wav", 0.0, 1.0, ["a beep", "again"], {"label": "beep"}),
        ("b.wav", 0.0, 2.0, ["a hum, then a click"], {"place": "room"}),
    ]


def test_csv_with_several_caption_columns_ids_and_segments(folder: Path) -> None:
    text = "id,audio,caption_1,caption_2,start,duration\nx,b.wav,one,two,0.5,1\ny,b.wav,three,,1.25,\n,b.wav,four,,1,\n"
    assert facts(write(folder, text)) == [
        ("x", 0.5, 1.0, ["one", "two"], {}),
        ("y", 1.25, 0.75, ["three"], {}),
        ("b.wav@1.0", 1.0, 1.0, ["four"], {}),
    ]


@pytest.mark.parametrize("name", ["m.jsonl", "m.jsonl.gz"])
def test_json_lines(folder: Path, name: str) -> None:
    records = [
        {"audio": "a.wav", "caption": ["one", "two"], "labels": {"digit": "3"}, "label": "x", "label_who": "theo"},
        {"audio": "b.wav", "caption": "three", "offset": 0.5, "duration": 0.25, "id": None},
    ]
    text = "\n".join(json.dumps(record) for record in records) + "\n\n"
    path = write(folder, gzip.compress(text.encode()) if name.endswith("gz") else text, name)
    assert facts(path) == [
        ("a.wav", 0.0, 1.0, ["one", "two"], {"digit": "3", "label": "x", "who": "theo"}),
        ("b.wav@0.5+0.25", 0.5, 0.25, ["three"], {}),
    ]


def test_paths_start_from_the_manifests_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "lists").mkdir()
    monkeypatch.chdir(folder.parent)
    path = write(folder, f"audio,caption\n../a.wav,one\n{folder / 'b.wav'},two\n", "lists/m.csv")
    sources = [cut.recording.sources[0].source for cut in read_manifest(path)]
    assert [Path(source).resolve() for source in sources] == [folder / "a.wav", folder / "b.wav"]


def test_a_clip_says_where_it_is_from(folder: Path) -> None:
    clip = Clip(
        "x", folder / "a.wav", ["one", "two"], {}, tags={"events": ["dog", "rain"]}, corpus="c", split="train", fold=0,
        origin={"youtube": "abc"}, fields=["caption", "tags"],
    )  # fmt: skip
    (record,) = [json.loads(line) for line in write_manifest(folder / "m.jsonl", [clip]).read_text().splitlines()]
    assert record == {
        "id": "x", "audio": "a.wav", "caption": ["one", "two"], "tags": {"events": ["dog", "rain"]}, "fold": 0,
        "corpus": "c", "split": "train", "origin": {"youtube": "abc"}, "fields": ["caption", "tags"],
    }  # fmt: skip
    with pytest.raises(ValueError, match="2 captions need as many fields"):
        Clip("x", "a.wav", ["one", "two"], fields=["caption"])
    with pytest.raises(TypeError, match="sequences of texts"):
        Clip("x", "a.wav", ["one"], tags={"events": "dog"})


def test_what_is_written_is_read(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    clips = [
        Clip("one", folder / "a.wav", ["ein Ton", "a tone"], {"digit": "1"}),
        Clip("two", folder / "b.wav", ("zwei",), start=0.5, duration=1.0),
    ]
    inside = write_manifest(folder / "m.jsonl", clips)
    outside = write_manifest(tmp_path_factory.mktemp("other") / "new" / "m.jsonl", iter(clips))
    wanted = [("one", 0.0, 1.0, ["ein Ton", "a tone"], {"digit": "1"}), ("two", 0.5, 1.0, ["zwei"], {})]
    assert facts(inside) == facts(outside) == wanted
    assert json.loads(inside.read_text().splitlines()[0])["audio"] == "a.wav"
    assert sorted(path.name for path in folder.iterdir()) == ["a.wav", "b.wav", "m.jsonl"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("audio,text\na.wav,x\n", r"line 1: the columns `audio` and `caption`.*has audio, text"),
        ("", r"line 1: the columns `audio` and `caption`.*has none"),
        ("audio,caption\n", r"the manifest is empty"),
        ("audio,caption,caption\n", r"line 1: two columns have the same name"),
        ("audio,caption\na.wav,x\nc.wav,y\n", r"line 3: there is no file .*c\.wav; relative paths"),
        ("audio,caption\na.wav,  \n", r"line 2: the caption is empty"),
        ("audio,caption\n,hello\n", r"line 2: `audio` is missing or empty"),
        ("audio,caption\na.wav,a dog, barking\n", r"line 2: 3 cells for the 2 columns"),
        ('audio,caption\na.wav,"never closed\n', r"line 2: this is not CSV"),
        (b"audio,caption\na.wav,x\nb.wav,caf\xe9\n", r"line 3: manifests are UTF-8"),
        ("audio,caption,start\na.wav,x,soon\n", r"line 2: `start` must be a number of seconds, got 'soon'"),
        ("audio,caption,start\na.wav,x,nan\n", r"line 2: start must be 0 or more seconds, got nan"),
        ("audio,caption,start\na.wav,x,-1\n", r"line 2: start must be 0 or more"),
        ("audio,caption,start\na.wav,x,1\n", r"line 2: the clip from 1.0 to 1.0 s lies outside .* 1\.000 s"),
        ("audio,caption,duration\na.wav,x,1.1\n", r"line 2: the clip from 0.0 to 1.1 s lies outside"),
        ("audio,caption,duration\na.wav,x,0\n", r"line 2: duration must be more than 0"),
        ("audio,caption,start,offset\na.wav,x,0,0\n", r"line 1: `start` and `offset` are two names of the same thing"),
        ("audio,caption,id\na.wav,x,1\nb.wav,y,1\n", r"line 3: clip '1' is .*b\.wav.* but on line 2"),
        (
            "audio,caption,label\na.wav,x,p\na.wav,y,q\n",
            r"line 3: clip '.*/a.wav' has the label label 'q', but on line 2 'p'",
        ),
        ("audio,caption\nbad.wav,x\n", r"line 2: .*bad\.wav cannot be read as audio"),
        ("audio,caption\nempty.wav,x\n", r"line 2: .*empty\.wav holds no samples"),
    ],
)
def test_faults_in_csv_name_file_line_and_remedy(folder: Path, text: str | bytes, message: str) -> None:
    (folder / "bad.wav").write_bytes(b"RIFF nothing")
    soundfile.write(folder / "empty.wav", np.zeros(0), 8000)
    with pytest.raises(ManifestError, match=rf"m\.csv.*{message}"):
        read_manifest(write(folder, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"audio": "a.wav", "caption": "x"}\n{"audio": }\n', r"line 2: this is not JSON"),
        ('["a.wav", "x"]\n', r"line 1: each line must be a JSON object"),
        ('{"audio": "a.wav"}\n', r"line 1: the caption is empty"),
        ('{"caption": "x"}\n', r"line 1: `audio` is missing or empty; this row has caption"),
        ('{"audio": "a.wav", "caption": ["x", ""]}\n', r"line 1: `caption` must be text that is not empty"),
        ('{"audio": "a.wav", "caption": 3}\n', r"line 1: `caption` must be text"),
        ('{"audio": "a.wav", "caption": "x", "labels": "y"}\n', r"line 1: `labels` must be an object"),
        (
            '{"audio": "a.wav", "caption": "x", "labels": {"digit": 3}}\n',
            r"line 1: the digit label must be text.*got 3",
        ),
        (
            '{"audio": "a.wav", "caption": "x", "label": "p", "labels": {"label": "q"}}\n',
            r"line 1: `label` is 'p', but",
        ),
        (
            '{"audio": "a.wav", "caption": "x", "start": Infinity}\n',
            r"line 1: start must be 0 or more seconds, got inf",
        ),
    ],
)
def test_faults_in_json_lines(folder: Path, text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        read_manifest(write(folder, text, "m.jsonl"))


def test_faults_of_the_file_itself(folder: Path) -> None:
    with pytest.raises(ManifestError, match="there is no such manifest"):
        read_manifest(folder / "none.csv")
    with pytest.raises(ManifestError, match=r"ends in \.csv, \.tsv, \.jsonl, \.jsonl\.gz"):
        read_manifest(write(folder, "", "m.txt"))
    with pytest.raises(ManifestError, match="after line 0: the gzip file is damaged"):
        read_manifest(write(folder, b"not gzip", "m.jsonl.gz"))
    cut_short = gzip.compress(b'{"audio": "a.wav", "caption": "x"}\n')[:-4]
    with pytest.raises(ManifestError, match="after line 1: the gzip file is damaged"):
        read_manifest(write(folder, cut_short, "m.jsonl.gz"))


def test_clips_that_cannot_be(folder: Path) -> None:
    with pytest.raises(TypeError, match="sequence of texts, got the text 'a dog'"):
        Clip("x", "a.wav", "a dog")
    with pytest.raises(ValueError, match="none of them empty"):
        Clip("x", "a.wav", ["a dog", " "])
    with pytest.raises(ValueError, match="id and audio may not be empty"):
        Clip("", "a.wav", ["a dog"])
    with pytest.raises(ValueError, match=r"written as \.jsonl, got"):
        write_manifest(folder / "m.csv", [])


def cut(folder: Path, name: str = "a.wav", **changes) -> dict:
    """Return a Lhotse cut as JSON, with a path relative to the folder."""
    made = Recording.from_file(folder / name).with_path_prefix("/").to_cut()
    made.supervisions = [SupervisionSegment("s", made.recording_id, 0.0, made.duration, text="a beep")]
    made.custom = {"labels": {"digit": "3"}, "snr": 3}
    record = made.to_dict()
    record["recording"]["sources"][0]["source"] = name
    return {**record, **changes}


def cuts_file(folder: Path, *records: dict) -> Path:
    return write(folder, "".join(json.dumps(record) + "\n" for record in records), "cuts.jsonl")


def test_cutset_manifest(folder: Path) -> None:
    path = cuts_file(folder, cut(folder), cut(folder, "b.wav", id="other", start=0.5, duration=1.0))
    assert facts(path) == [("a", 0.0, 1.0, ["a beep"], {"digit": "3"}), ("other", 0.5, 1.0, ["a beep"], {"digit": "3"})]
    first = next(iter(read_manifest(path)))
    assert first.recording.sources[0].source == str(folder / "a.wav")
    assert first.where == f"{path}, line 1"


def test_what_lhotse_writes_is_read(folder: Path) -> None:
    made = Recording.from_file(folder / "a.wav").to_cut()
    made.supervisions = [SupervisionSegment("s", made.recording_id, 0.0, 1.0, text="a beep")]
    mix = made.mix(made.truncate(duration=0.5), offset_other_by=0.25)
    assert isinstance(mix, MixedCut)
    CutSet([made, mix]).to_file(folder / "cuts.jsonl.gz")
    single, mixed = read_manifest(folder / "cuts.jsonl.gz")
    assert list(captions_of([single])) == ["a beep"]
    assert list(captions_of([mixed])) == ["a beep", "a beep"]
    assert isinstance(mixed, MonoCut)
    assert mixed.duration == 1.0


@pytest.mark.parametrize(
    "source",
    [
        {"type": "command", "source": "touch {mark}"},
        {"type": "url", "source": "http://localhost/a.wav"},
        {"type": "shar", "source": ""},
        {"type": "file", "source": "pipe:touch {mark}"},
        {"type": "file", "source": " pipe:touch {mark}"},
        {"type": "file", "source": "touch {mark} |"},
        {"type": "file", "source": "s3://bucket/a.wav"},
    ],
)
def test_manifests_cannot_run_commands(folder: Path, source: dict) -> None:
    mark = folder / "mark"
    source = {"channels": [0], **source, "source": source["source"].format(mark=mark)}
    plain = cut(folder)
    direct = cut(folder)
    direct["recording"]["sources"] = [source]
    hidden = cut(folder)
    hidden["custom"] = {"noise": {**plain["recording"], "sources": [source]}}
    reverb = cut(folder)
    rir = {**plain["recording"], "sources": [source]}
    reverb["recording"]["transforms"] = [{"name": "ReverbWithImpulseResponse", "kwargs": {"rir": rir}}]
    mixed = {"id": "m", "type": "MixedCut", "tracks": [{"cut": direct, "type": "MonoCut", "offset": 0}]}
    for record in (direct, hidden, reverb, mixed):
        with pytest.raises(ManifestError, match=r"cuts\.jsonl, line 2: .*refused"):
            read_manifest(cuts_file(folder, plain, json.loads(json.dumps(record))))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "PaddingCut"}, "a cut of type 'PaddingCut'; accepted are MonoCut, MultiCut, MixedCut"),
        ({"supervisions": []}, "cut 'a' needs supervisions, each with a caption"),
        ({"duration": float("nan")}, "lasts nan s"),
        ({"duration": -1.0}, "lasts -1.0 s"),
        ({"start": -1.0}, "must be a positive, finite time"),
        ({"custom": {"labels": ["3"]}}, "`labels` must map tasks to texts"),
        ({"custom": {"labels": {"digit": 3}}}, "`labels` must map tasks to texts"),
        ({"custom": {"tags": {"scene": "rain"}}}, "`tags` must map tasks to lists of texts"),
        ({"custom": {"fold": "two"}}, "`fold` must be a whole number"),
        ({"id": 3}, "needs an id that is text, got 3"),
        ({"nonsense": 1}, "this is not a Lhotse cut: TypeError"),
    ],
)
def test_faults_in_cuts(folder: Path, changes: dict, message: str) -> None:
    with pytest.raises(ManifestError, match=f"line 2: .*{message}"):
        read_manifest(cuts_file(folder, cut(folder, "b.wav"), cut(folder, **changes)))


def test_missing_file_and_repeated_id_in_cuts(folder: Path) -> None:
    lost = cut(folder)
    lost["recording"]["sources"][0]["source"] = "gone.wav"
    (read,) = read_manifest(cuts_file(folder, lost))
    with pytest.raises(DecodeError, match=r"cuts\.jsonl, line 1\) cannot be decoded from .*gone\.wav"):
        load(read)
    with pytest.raises(ManifestError, match=r"line 2: the id 'a' was used before, in .*line 1"):
        read_manifest(cuts_file(folder, cut(folder), cut(folder)))


def test_custom_fields_that_are_known_are_kept(folder: Path) -> None:
    known = {
        "labels": {"digit": "3"},
        "tags": {"scene": ["street", "rain"]},
        "corpus": "esc50",
        "split": "train",
        "fold": 0,
        "origin": {"freesound": "17"},
    }
    record = cut(folder, custom={**known, "snr": 3, "other": {"labels": "x"}})
    record["supervisions"][0]["custom"] = {"field": "tags", "snr": 3}
    (read,) = read_manifest(cuts_file(folder, record))
    where = read.custom.pop("where")
    assert where.endswith("line 1")
    assert read.custom == known
    assert read.supervisions[0].custom == {"field": "tags"}
    (bare,) = read_manifest(cuts_file(folder, cut(folder, custom={"snr": 3})))
    assert set(bare.custom) == {"labels", "where"}


def test_tables_keep_fold_tags_and_origin(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(800), 8_000)
    known = {"fold": 3, "tags": {"events": ["dog", "rain"]}, "origin": {"freesound": "7"}, "corpus": "c", "split": "s"}
    clip = Clip("a", tmp_path / "a.wav", ["a dog"], **known)
    (read,) = read_manifest(write_manifest(tmp_path / "clips.jsonl", [clip]))
    assert {name: read.custom[name] for name in known} == known
    (tmp_path / "clips.csv").write_text("audio,caption,fold,tags\na.wav,a dog,2,dog; rain\n")
    (read,) = read_manifest(tmp_path / "clips.csv")
    assert (read.custom["fold"], read.custom["tags"]) == (2, {"tags": ["dog", "rain"]})
    (tmp_path / "clips.csv").write_text("audio,caption,fold\na.wav,a dog,first\n")
    with pytest.raises(ManifestError, match=r"line 2: `fold` must be a whole number, got 'first'"):
        read_manifest(tmp_path / "clips.csv")
