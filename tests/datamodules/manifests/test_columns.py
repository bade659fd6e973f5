"""Columns of tables: other names of known ones, columns that are refused, and those that are ignored and listed."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile

from slap.core.errors import UserError
from slap.datamodules import ManifestError, captions_of, read_manifest
from slap.datamodules.manifests.columns import check_columns, known_name, list_ignored

KINDS = ("csv", "tsv", "jsonl")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a.wav, 5 s, at 8 kHz."""
    soundfile.write(tmp_path / "a.wav", np.zeros(40_000), 8000)
    list_ignored.cache_clear()
    return tmp_path


def table(folder: Path, kind: str = "csv", **columns: str) -> Path:
    """Write a table of one row."""
    path = folder / f"m.{kind}"
    row = {"audio": "a.wav", **columns}
    separator = "\t" if kind == "tsv" else ","
    lines = [json.dumps(row)] if kind == "jsonl" else [separator.join(row), separator.join(row.values())]
    path.write_text("\n".join(lines) + "\n")
    return path


def segment(path: Path, **options) -> tuple[float, float]:
    (cut,) = read_manifest(path, **options)
    return cut.start, cut.duration


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("columns", "seconds"),
    [
        ({"start": "1", "end": "2"}, (1.0, 1.0)),
        ({"start_time": "1", "end_time": "2"}, (1.0, 1.0)),
        ({"Start": "1", "DURATION": "1"}, (1.0, 1.0)),
        ({"begin": "1", "stop": "2"}, (1.0, 1.0)),
        ({"start seconds": "1", "end seconds": "2"}, (1.0, 1.0)),
        ({"start_s": "1", "duration_sec": "1"}, (1.0, 1.0)),
        ({"onset": "1", "offset": "2"}, (1.0, 1.0)),  # DCASE
        ({"offset": "1", "duration": "2"}, (1.0, 2.0)),  # Lhotse, NeMo
        ({"offset": "1"}, (1.0, 4.0)),
        ({"onset": "1", "duration": "2"}, (1.0, 2.0)),
        ({"end": "2"}, (0.0, 2.0)),
        ({"start": "1.1", "end": "2.3", "duration": "1.2"}, (1.1, 1.2)),
    ],
)
def test_times_by_other_names(folder: Path, kind: str, columns: dict, seconds: tuple[float, float]) -> None:
    """A caption of seconds 1 to 2 never gets all 5."""
    assert segment(table(folder, kind, caption="x", **columns)) == seconds


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"start": "1", "offset": "2"}, "`start` and `offset` are two names of the same thing, the begin of the clip"),
        ({"end": "2", "end_time": "2"}, "`end` and `end_time` are two names"),
        ({"label": "x", "Label": "y"}, "`label` and `Label` are two names"),
        ({"start": "2", "end": "1"}, "the end of the clip, 1.0, is not after its start, 2.0"),
        ({"end": "-1"}, "the end of the clip, -1.0, is not after"),
        ({"start": "1", "end": "2", "duration": "5"}, "does not last the 5.0 s of `duration`; .* '{duration: null}'"),
        ({"captoin_3": "y"}, r"`captoin_3` is not known; did you mean `caption_3`\?.*columns '{caption_3: captoin_3}'"),
        ({"lable": "y"}, "did you mean `label`"),
        ({"tag": "y"}, "did you mean `tags`"),
        ({"ende": "2"}, "did you mean `end`"),
        ({"start_ms": "1000"}, "`start_ms` may be the begin of the clip, which is read in seconds from `start`"),
        ({"end_sample": "8000"}, "`end_sample` may be the end of the clip"),
        ({"frame_offset": "8000"}, "`frame_offset` may be the begin of the clip"),
        ({"start": "1", "length": "1"}, "`length` may be the duration of the clip"),
        ({"youtube_id": "a", "start_time": "1"}, "beside `youtube_id`, `start_time` may be a time in a video"),
    ],
)
def test_columns_that_may_change_what_is_trained_on(folder: Path, kind: str, columns: dict, message: str) -> None:
    with pytest.raises(ManifestError, match=rf"m\.{kind}, line [12]: .*{message}"):
        read_manifest(table(folder, kind, caption="x", **columns))


def test_what_a_refusal_says_to_write_is_accepted(folder: Path) -> None:
    misspelled = table(folder, caption="x", captoin_3="y")
    assert list(captions_of(read_manifest(misspelled, columns={"caption_3": "captoin_3"}))) == ["x", "y"]
    assert list(captions_of(read_manifest(misspelled, columns={"caption_3": None}))) == ["x"]
    video = table(folder, caption="x", youtube_id="a", start_time="1")
    assert segment(video, columns={"start": "start_time"}) == (1.0, 4.0)
    assert segment(video, columns={"start": None}) == (0.0, 5.0)
    samples = table(folder, caption="x", start_ms="1000")
    assert segment(samples, columns={"start": None}) == (0.0, 5.0)
    longer = table(folder, caption="x", start="1", end="2", duration="5")
    assert segment(longer, columns={"duration": None}) == (1.0, 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_and_captions_by_other_names(folder: Path, kind: str) -> None:
    path = table(folder, kind, Caption="x", caption2="y", **{"Caption 3": "z", "Label": "dog", "LABEL_place": "room"})
    (cut,) = read_manifest(path)
    assert list(captions_of([cut])) == ["x", "y", "z"]
    assert cut.custom["labels"] == {"label": "dog", "place": "room"}


@pytest.mark.parametrize("kind", KINDS)
def test_ignored_columns_are_listed_once(folder: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    path = table(folder, kind, caption="x", title="y", captions="z", width="3")
    for _ in range(2):
        read_manifest(path)
    (told,) = [record.getMessage() for record in caplog.records if "ignored" in record.getMessage()]
    assert told == (f"{path}: columns that are ignored: 'title', 'captions' (nearest known name: caption), 'width'")


def test_custom_fields_of_cuts_that_are_ignored_are_listed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = {"type": "file", "channels": [0], "source": "a.wav"}
    recording = {"id": "a", "sources": [source], "sampling_rate": 8000, "num_samples": 40_000, "duration": 5.0}
    spoken = {"id": "s", "recording_id": "a", "start": 0, "duration": 5.0, "channel": 0, "text": "x"}
    record = {"id": "a", "start": 0, "duration": 5.0, "channel": 0, "type": "MonoCut", "recording": recording}
    record |= {"supervisions": [spoken], "custom": {"label": "dog", "fold": 1}}
    (folder / "cuts.jsonl").write_text(json.dumps(record) + "\n")
    read_manifest(folder / "cuts.jsonl")
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told.endswith("custom fields that are ignored: 'label' (nearest known name: labels)")


# -- columns of your own ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_your_own(folder: Path, kind: str) -> None:
    path = folder / f"own.{kind}"
    row = {"filepath": "a.wav", "title": "x", "from": "1", "caption": "not this"}
    separator = "\t" if kind == "tsv" else ";"
    lines = [json.dumps(row)] if kind == "jsonl" else [separator.join(row), separator.join(row.values())]
    path.write_text("\n".join(lines))
    (cut,) = read_manifest(path, columns={"audio": "filepath", "caption": "title", "start": "from"})
    assert (list(captions_of([cut])), cut.start) == (["x"], 1.0)
    with pytest.raises(ManifestError, match=r"Rename|e\.g\. columns '{audio: filepath}'"):
        read_manifest(path)
    with pytest.raises(ManifestError, match=r"`columns` names titel, which is no column here; there are: .*title"):
        read_manifest(path, columns={"audio": "filepath", "caption": "titel"})


def test_tables_with_the_known_names_beside_those_of_your_own(folder: Path) -> None:
    assert len(read_manifest(table(folder, caption="x"), columns={"audio": "filepath", "caption": "title"})) == 1
    with pytest.raises(ManifestError, match="`columns` names title, which is no column here"):
        read_manifest(table(folder, caption="x"), columns={"caption": "title"})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"captoin": "title"}, r"'captoin' is none: did you mean 'caption'\?"),
        ({"onset": "from"}, "'onset' is none"),
        ({"audio": "x", "caption": "x"}, "names 'x' twice"),
    ],
)
def test_mappings_of_columns_that_cannot_be_meant(columns: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_columns(columns)


def test_names_that_are_left_alone() -> None:
    """None of these is a known column."""
    for name in ("title", "labelled", "audio_id", "captioned", "tagset", "starting", "offsetting", "text", ""):
        assert known_name(name) is None
