"""Hugging Face data sets with random access as manifests: parquet, arrow, and folders of audio files."""

import gc
import io
import json
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from epochs import epoch, tokenize
from hf_tables import RATE, row, sound, table
from slap.core.bad_clip import BadClip
from slap.core.errors import MissingDependencyError
from slap.datamodules import AudioTextData, ManifestError, read_manifest
from slap.datamodules.audio.load import load, mono
from slap.datamodules.huggingface import read as module

datasets = pytest.importorskip("datasets")

COUNT = 12


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """parquet/ with a train split of 12 rows and a test split of 3, saved/ and splits/ by save_to_disk."""
    folder = tmp_path_factory.mktemp("sets")
    made = table([row(i) for i in range(COUNT)])
    (folder / "parquet" / "data").mkdir(parents=True)
    made.to_parquet(folder / "parquet" / "data" / "train-00000-of-00001.parquet")
    made.select(range(3)).to_parquet(folder / "parquet" / "data" / "test-00000-of-00001.parquet")
    made.save_to_disk(folder / "saved", num_shards=2)
    datasets.DatasetDict(train=made, test=made.select(range(2))).save_to_disk(folder / "splits")
    return folder


NAMES = ["parquet?split=train", "parquet/data/train-*.parquet", "saved", "splits?split=train"]


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_clips(folder: Path, name: str) -> None:
    clips = read_manifest(f"hf:{folder}/{name}")
    assert len(clips) == COUNT
    assert len(set(clips.keys.tolist())) == COUNT
    for i, cut in enumerate(clips):
        assert [caption.text for caption in cut.supervisions] == [f"caption {i}"]
        assert cut.custom["where"] == f"hf:{folder}/{name}, row {i}"
        expected, _ = soundfile.read(io.BytesIO(sound(0.2 + 0.01 * i, 1 + i % 2, "flac")), always_2d=True)
        np.testing.assert_allclose(load(mono(cut, RATE)).numpy(), expected.mean(1), atol=1e-6)
        assert clips.durations[i] == len(expected) / RATE


def test_headers_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_manifest(f"hf:{folder}/saved")
    with monkeypatch.context() as patch:
        patch.setattr(module, "_header", lambda *_: pytest.fail("the headers are read again"))
        again = read_manifest(f"hf:{folder}/saved")
    assert again.cut(3) == first.cut(3)
    assert again.keys.tolist() == first.keys.tolist()
    (kept,) = (folder / "saved").glob("slap-*.npz")
    kept.write_bytes(b"damaged")
    assert len(read_manifest(f"hf:{folder}/saved")) == COUNT


def test_columns_have_known_names(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        clips = read_manifest(f"hf:{folder}/saved?label_animal=genre")
    assert clips.tasks == ("animal",)
    assert [cut.custom["labels"]["animal"] for cut in clips[:2]] == ["dog", "cat"]
    assert not caplog.text
    assert read_manifest(f"hf:{folder}/saved", columns={"label": "genre"}).tasks == ("label",)
    named = read_manifest(f"hf:{folder}/saved?label=genre&caption=text")
    assert named.cut(1).supervisions[0].text == "caption 1"
    with pytest.raises(ManifestError, match="there is no column 'sound'; there are audio, text, genre"):
        read_manifest(f"hf:{folder}/saved?audio=sound")
    with pytest.raises(ValueError, match="there is no option 'slpit'; did you mean 'split'"):
        read_manifest(f"hf:{folder}/saved?slpit=train")


def test_labels_and_lists_of_captions_and_segments(tmp_path: Path) -> None:
    rows = [
        {"audio": {"bytes": sound(0.5), "path": None}, "caption": ["a", "b"], "id": "one", "start": 0.1, "end": 0.3},
        {"audio": {"bytes": sound(0.4), "path": None}, "caption": None, "id": "two", "start": None, "end": None},
    ]
    table(rows).save_to_disk(tmp_path / "set")
    bad: list[BadClip] = []
    clips = read_manifest(f"hf:{tmp_path}/set", max_bad=1.0, bad=bad)
    assert [cut.id for cut in clips] == ["one"]
    assert [caption.text for caption in clips.cut(0).supervisions] == ["a", "b"]
    assert (clips.cut(0).start, clips.cut(0).duration) == (0.1, 0.2)
    assert [(clip.id, clip.reason) for clip in bad] == [("two", "caption")]
    assert read_manifest(f"hf:{tmp_path}/set", captioned=False).uncaptioned.tolist() == [1]


@pytest.mark.filterwarnings("ignore:unclosed file.*metadata.csv:ResourceWarning")  # by datasets
def test_a_folder_of_audio_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels from folders, or captions from metadata.csv; a file is the same clip as in any other manifest."""
    for i in range(4):
        path = tmp_path / "labels" / ("dog" if i % 2 else "cat") / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sound(0.3))
    clips = read_manifest(f"hf:{tmp_path}/labels")
    assert sorted(cut.supervisions[0].text for cut in clips) == ["the sound of cat"] * 2 + ["the sound of dog"] * 2
    files = read_manifest(tmp_path / "labels", captioned=False)
    assert sorted(clips.keys.tolist()) == sorted(files.keys.tolist())
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.wav").write_bytes(sound(0.3))
    (tmp_path / "texts" / "metadata.csv").write_text("file_name,text\na.wav,a sound\n")
    assert read_manifest(f"hf:{tmp_path}/texts").cut(0).supervisions[0].text == "a sound"
    with pytest.raises(ManifestError, match="audio must lie below"):
        read_manifest(f"hf:{tmp_path}/texts", data_root=[tmp_path / "labels"])
    gc.collect()  # or the warning comes in another test


def test_one_bad_row_costs_one_row(tmp_path: Path) -> None:
    rows = [row(i) for i in range(20)]
    rows[3]["audio"]["bytes"], rows[7]["audio"]["bytes"] = b"", b"no audio"
    rows[9]["text"] = "a\x00b"
    table(rows).save_to_disk(tmp_path / "set")
    for _ in range(2):  # the second time from what was kept
        bad: list[BadClip] = []
        assert len(read_manifest(f"hf:{tmp_path}/set", max_bad=0.2, bad=bad)) == 17
        assert [(clip.where.rpartition(" ")[2], clip.reason) for clip in bad] == [
            ("3", "empty"), ("7", "unreadable"), ("9", "caption")
        ]  # fmt: skip
    with pytest.raises(ManifestError, match="3 of 20 clips are bad"):
        read_manifest(f"hf:{tmp_path}/set")


def test_what_cannot_be_opened_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ManifestError, match=r"the splits are .*; name one"):
        read_manifest(f"hf:{folder}/splits")
    with pytest.raises(ManifestError, match="there is no 'dev'"):
        read_manifest(f"hf:{folder}/parquet?split=dev")
    with pytest.raises(ManifestError, match=r"there is no folder or file user/name; .*hf:user/name\?hub=true"):
        read_manifest("hf:user/name")
    with pytest.raises(ManifestError, match="a stream has no length"):
        read_manifest(f"hf:{folder}/saved?streaming=true")
    with pytest.raises(ValueError, match="hub is true or false"):
        read_manifest("hf:user/name?hub=yes")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'slap-audio\[hf-data\]'"):
        read_manifest(f"hf:{folder}/saved")


def test_the_hub_is_asked_only_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """And then by the library, without any permission to run code."""
    asked = []

    def refuse(name, *arguments, **options):
        asked.append((name, arguments, options))
        raise ConnectionError("no network here")

    monkeypatch.setattr(datasets, "load_dataset_builder", refuse)
    with pytest.raises(ManifestError, match="no network here"):
        read_manifest("hf:user/name?hub=true&config=en&revision=main")
    assert asked == [("user/name", ("en",), {"revision": "main"})]


def test_training_validation_and_exact_position(folder: Path) -> None:
    def data(workers: int = 0) -> AudioTextData:
        made = AudioTextData(
            f"hf:{folder}/saved", f"hf:{folder}/parquet?split=test", max_duration=1.0, max_clip=None,
            num_buckets=2, num_workers=workers,
        )  # fmt: skip
        made.connect(RATE, tokenize)
        return made

    first = data()
    batches = epoch(first)
    assert Counter(text for batch in batches for text in batch.captions) == Counter(
        f"caption {i}" for i in range(COUNT)
    )
    first.commit(0, 2)
    again = data(workers=1)
    again.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [batch.ids for batch in epoch(again)] == [batch.ids for batch in batches[2:]]
    again.teardown("fit")
    assert sorted(text for batch in first.val_dataloader() for text in batch.captions) == [
        f"caption {i}" for i in range(3)
    ]
