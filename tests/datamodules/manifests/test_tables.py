"""Tables as spreadsheets, databases and pandas write them, and clips known by their files."""

import json
import logging
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile

from slap.core.bad_clip import BadClip
from slap.datamodules import ManifestError, captions_of, read_manifest
from slap.datamodules.manifests.collection import read_manifests
from slap.datamodules.overlap.warn import named, shared_by_name


def sound(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(8000), 8000)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a.wav and b.wav, 1 s each."""
    sound(tmp_path / "a.wav")
    sound(tmp_path / "b.wav")
    return tmp_path


def read(folder: Path, text: str | bytes, name: str = "m.csv", **options) -> list[tuple[str, list[str]]]:
    """Return the names of the files of a table, with their captions."""
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    cuts = read_manifest(folder / name, **options)
    return [(Path(cut.recording.sources[0].source).name, list(captions_of([cut]))) for cut in cuts]


PLAIN = "audio,caption\na.wav,one\nb.wav,two\n"
WANTED = [("a.wav", ["one"]), ("b.wav", ["two"])]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["m.csv", "M.CSV"])
def test_every_separator(folder: Path, separator: str, name: str) -> None:
    text = PLAIN.replace(",", separator)
    assert read(folder, text, name) == WANTED
    assert read(folder, f"sep={separator}\r\n{text}", name) == WANTED


def test_a_separator_in_quotes_and_one_in_tags(folder: Path) -> None:
    text = 'audio;caption;tags\na.wav;"one; or two, or three";"dog;rain"\n'
    assert read(folder, text) == [("a.wav", ["one; or two, or three"])]
    assert read_manifest(folder / "m.csv")[0].custom["tags"] == {"tags": ["dog", "rain"]}
    with pytest.raises(ManifestError, match=r"line 3: 3 cells for the 2 columns audio, caption; .* with a semicolon"):
        read(folder, "sep=;\naudio;caption\na.wav;one;two\n")


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_every_encoding_of_a_spreadsheet(folder: Path, encoding: str, name: str) -> None:
    text = 'audio\tcaption\r\na.wav\t"Säge, Ǆ and 𝄞"\r\nb.wav\ttwo\r\n'
    if name == "m.jsonl":
        text = '{"audio": "a.wav", "caption": "Säge, Ǆ and 𝄞"}\r\n{"audio": "b.wav", "caption": "two"}\r\n'
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    assert read(folder, (mark + text).encode(encoding), name) == [("a.wav", ["Säge, Ǆ and 𝄞"]), ("b.wav", ["two"])]


def test_utf_16_that_breaks_off_names_the_line(folder: Path) -> None:
    with pytest.raises(ManifestError, match="after line 2: this is not the utf-16 text"):
        read(folder, PLAIN.encode("utf-16")[:-1])


def test_rows_and_columns_without_content(folder: Path) -> None:
    text = "audio,caption,,\na.wav,one,,\n,,,\n\nb.wav,two,,\n,,,\n,,,,,,\n"
    assert read(folder, text) == WANTED
    assert read(folder, ",audio,caption\n0,a.wav,one\n1,b.wav,two\n") == WANTED  # the index of pandas


def test_a_decimal_comma_is_told(folder: Path) -> None:
    with pytest.raises(ManifestError, match="line 2: `start` must be a number of seconds, got '0,5'; write a point"):
        read(folder, "audio;caption;start\na.wav;one;0,5\n")


def test_a_key_that_an_object_has_twice(folder: Path) -> None:
    with pytest.raises(ManifestError, match="line 1: an object has the key `caption` twice"):
        read(folder, '{"audio": "a.wav", "caption": "x", "caption": "y"}\n', "m.jsonl")


@pytest.mark.parametrize("word", ["NaN", "nan", "null", "None", "NULL", "n/a", "N/A", "NA", "<NA>"])
@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_words_for_a_missing_caption_are_no_captions(
    folder: Path, word: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [("a.wav", "one", word), ("b.wav", word, word)]
    text = "\n".join(["audio,caption_1,caption_2", *map(",".join, rows)])
    if name == "m.jsonl":
        text = "\n".join(json.dumps({"audio": audio, "caption": captions}) for audio, *captions in rows)
    bad: list[BadClip] = []
    assert read(folder, text, name, max_bad=0.5, bad=bad) == [("a.wav", ["one"])]
    assert [(clip.id, clip.reason) for clip in bad] == [("b.wav", "caption")]
    assert "NaN, null, None and n/a count as empty" in bad[0].detail
    assert "3 captions and labels say NaN, null or the like and count as missing; the first is on line" in caplog.text


def test_words_for_a_missing_label(folder: Path) -> None:
    (folder / "m.csv").write_text("audio,caption,label,label_siren,tags\na.wav,one,NaN,None,null\n")
    (cut,) = read_manifest(folder / "m.csv")
    assert cut.custom["labels"] == {"siren": "None"}  # may be a class
    assert "tags" not in cut.custom


def test_nothing_but_a_number_that_is_none(folder: Path) -> None:
    assert read(folder, '{"audio": "a.wav", "caption": ["one", NaN]}\n', "m.jsonl") == [("a.wav", ["one"])]


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "written"),
    [
        ("Säge.wav", unicodedata.normalize("NFD", "Säge.wav")),
        (unicodedata.normalize("NFD", "Säge.wav"), "Säge.wav"),
        ("Dog.WAV", "dog.wav"),
        ("Clips/dog.wav", "clips/dog.wav"),
        ("clips/dog.wav", "clips\\dog.wav"),
        ("Clips/Säge.wav", "clips\\" + unicodedata.normalize("NFD", "säge.WAV")),
    ],
)
@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_files_that_are_spelled_otherwise(
    folder: Path, there: str, written: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = sound(folder / there)
    (folder / name).write_text(
        json.dumps({"audio": written, "caption": "x"}) if name == "m.jsonl" else f"audio,caption\n{written},x\n"
    )
    (cut,) = read_manifest(folder / name)
    assert Path(cut.recording.sources[0].source) == file
    assert cut.id == str(file)
    assert "1 files are spelled otherwise on the disk" in caplog.text


def test_a_name_that_two_files_may_have(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    sound(folder / "Dog.wav")
    sound(folder / "dog.WAV")
    with pytest.raises(ManifestError, match=r"line 2: there is no file .*dog\.wav"):
        read(folder, "audio,caption\ndog.wav,x\n")
    assert "Dog.wav and " in caplog.text or "dog.WAV and " in caplog.text


def test_a_file_that_is_missing_does_not_take_that_of_another(folder: Path) -> None:
    with pytest.raises(ManifestError, match=r"line 3: .* names both as 'a\.wav' and as 'A\.wav'"):
        read(folder, "audio,caption\na.wav,x\nA.wav,y\n")


def test_a_clip_is_known_by_its_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file under two paths, one of them through a link, is one clip in every manifest."""
    (folder / "lists").mkdir()
    (folder / "other").symlink_to(folder, target_is_directory=True)
    monkeypatch.chdir(folder.parent)
    tables = {
        "train.csv": "./a.wav",
        "lists/test.csv": "../other/a.wav",
        "lists/again.jsonl": f"{folder}/lists/../a.wav",
    }
    for name, written in tables.items():
        row = json.dumps({"audio": written, "caption": "x"})
        (folder / name).write_text(row if name.endswith("jsonl") else f"audio,caption\n{written},x\n")
    read = [read_manifest(Path(folder.name) / name) for name in tables]
    assert {cut.id for clips in read for cut in clips} == {str(folder / "a.wav")}
    assert len({int(clips.keys[0]) for clips in read}) == 1
    assert shared_by_name(read[0], read[1]) == (1, 0)


def test_equal_names_in_two_folders_are_two_clips(tmp_path: Path) -> None:
    for corpus in ("one", "two"):
        sound(tmp_path / corpus / "clips" / "0000.wav")
        (tmp_path / corpus / "m.csv").write_text(f"audio,caption\nclips/0000.wav,{corpus}\n")
    paths = [tmp_path / corpus / "m.csv" for corpus in ("one", "two")]
    first, second = read_manifests(paths, 0.0, [])
    assert first[0].id != second[0].id
    assert shared_by_name(first, second) == (0, 0)
    # What the order of an epoch and shares of a manifest depend on stays where a folder moves as a whole.
    assert first.lasting.tolist() == second.lasting.tolist() != first.keys.tolist()


def test_rows_of_one_file_under_two_paths_are_one_clip(folder: Path) -> None:
    assert read(folder, f"audio,caption\na.wav,one\n./a.wav,two\n{folder}/a.wav,three\n") == [
        ("a.wav", ["one", "two", "three"])
    ]


def test_names_are_read_without_opening_audio(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "m.csv").write_text("audio,caption,youtube\na.wav,one,abc\ngone.wav,two,\n")
    (folder / "cuts.csv").write_text("audio,caption,youtube\nb.wav,one,abc\n")
    caplog.set_level(logging.INFO)
    ((_, first), (_, second)) = named([folder / "m.csv", folder / "cuts.csv"])
    assert (len(first), len(second)) == (2, 1)
    assert shared_by_name(first, second) == (0, 1)
    assert shared_by_name(read_manifest(folder / "m.csv", max_bad=0.5), second) == (0, 1)
