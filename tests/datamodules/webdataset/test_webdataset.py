"""WebDataset tar files as training data: indexed once, read in place, with captions beside the audio."""

import io
import json
import logging
import os
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from epochs import epoch, tokenize
from slap.core.bad_clip import BadClip
from slap.core.errors import UserError
from slap.datamodules import AudioTextData, ManifestError, read_manifest
from slap.datamodules.audio.load import load, mono
from slap.datamodules.webdataset.samples import expanded, record_of_sample

RATE = 8000


def sound(seconds: float, channels: int = 1, suffix: str = "wav") -> bytes:
    rng = np.random.default_rng(round(seconds * 1000))
    file = io.BytesIO()
    soundfile.write(file, rng.uniform(-0.5, 0.5, (round(seconds * RATE), channels)), RATE, format=suffix)
    return file.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        folder = tarfile.TarInfo("./")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return path


def members(first: int, count: int) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for i in range(first, first + count):
        found[f"./{i:04d}.json"] = json.dumps({"text": [f"caption {i}", f"sound {i}"], "tag": ["x"]}).encode()
        found[f"./{i:04d}.flac"] = sound(0.2 + 0.01 * i, 1 + i % 2, "flac")
    return found


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three tar files of 6 clips, 0.2 to 0.37 s."""
    for number in range(3):
        write_tar(tmp_path / "train" / f"{number:03d}.tar", members(6 * number, 6))
    return tmp_path / "train"


def module(train: Path | str, **options) -> AudioTextData:
    data = AudioTextData(train, max_duration=1.0, max_clip=None, num_buckets=2, **options)
    data.connect(RATE, tokenize)
    return data


@pytest.mark.parametrize("name", ["", "{000..002}.tar", "*.tar", "{000,001,002}.tar"])
def test_tar_files_are_a_manifest(shards: Path, name: str) -> None:
    clips = read_manifest(shards / name)
    assert [cut.id for cut in clips] == [f"train/{i // 6:03d}/{i:04d}" for i in range(18)]
    assert clips.parts.tolist() == [0, 6, 12, 18]
    for i, cut in enumerate(clips):
        assert [caption.text for caption in cut.supervisions] == [f"caption {i}", f"sound {i}"]
        assert cut.duration == round((0.2 + 0.01 * i) * RATE) / RATE
        assert cut.custom["where"] == f"{shards}/{i // 6:03d}.tar: ./{i:04d}.flac"
        expected, _ = soundfile.read(io.BytesIO(sound(0.2 + 0.01 * i, 1 + i % 2, "flac")), always_2d=True)
        np.testing.assert_allclose(load(mono(cut, RATE)).numpy(), expected.mean(1), atol=1e-6)


def test_the_index_is_made_once_and_again_where_a_file_has_changed(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_manifest(shards)
    read = []
    from slap.datamodules.webdataset import index

    monkeypatch.setattr(
        index, "_samples", lambda tar, *rest, of=index._samples: (read.append(tar.name), of(tar, *rest))[1]
    )
    again = read_manifest(shards)
    assert not read
    assert again.durations.tolist() == first.durations.tolist()
    assert again.cut(7) == first.cut(7)
    write_tar(shards / "001.tar", members(6, 5))
    assert len(read_manifest(shards)) == 17
    assert read == ["001.tar"]
    os.utime(shards / "002.tar", (1, 1))  # copied over, perhaps by another of the same size
    read_manifest(shards)
    assert read == ["001.tar", "002.tar"]


def test_a_folder_that_cannot_be_written_is_read_all_the_same(
    shards: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path, *arguments, **options):
        raise PermissionError(f"read-only: {path}")

    monkeypatch.setattr("slap.datamodules.manifests.cut_index.atomic_write", refuse)
    with caplog.at_level(logging.WARNING):
        assert len(list(read_manifest(shards))) == 18
    assert "made each time" in caplog.text


def test_captions_beside_the_audio() -> None:
    def record(**texts: str | bytes) -> dict:
        return record_of_sample(
            {name: text if isinstance(text, bytes) else text.encode() for name, text in texts.items()}
        )

    assert record(txt="a dog\nbarks\n") == {"caption": ["a dog barks"], "fields": ["caption"]}
    assert record(cls="dog")["label"] == "dog"
    assert record(cls="dog")["caption"] == ["the sound of dog"]
    assert record(cls="3") == {"label": "3"}
    assert record(json='{"text": "rain", "label_place": "roof"}', txt="rain") == {
        "label_place": "roof", "caption": ["rain"], "fields": ["caption"]
    }  # fmt: skip
    assert record(json='{"caption": ["a", "b"]}')["caption"] == ["a", "b"]
    assert record(json='{"tag": ["dog", "rain"]}') == {"caption": ["the sounds of dog and rain"], "fields": ["tags"]}
    for damaged in ({"json": "[1]"}, {"json": "{"}, {"txt": b"\xff"}):
        with pytest.raises(ManifestError):
            record(**damaged)


def test_one_bad_sample_costs_one_sample(tmp_path: Path) -> None:
    """Also when the index is read again; a picture beside the audio is passed over."""
    found = {**members(0, 30), "x.wav": b"RIFF", "x.txt": b"a", "y.txt": b"alone", "z.wav": sound(0.2), "z.png": b"p"}
    found |= {"w.json": b"no", "w.wav": sound(0.3)}
    path = write_tar(tmp_path / "a.tar", found)
    for _ in range(2):
        bad: list[BadClip] = []
        clips = read_manifest(path, max_bad=0.1, bad=bad)
        assert len(clips) == 30
        assert {clip.id.rpartition("/")[2]: clip.reason for clip in bad} == {
            "x": "unreadable", "z": "caption", "w": "caption"
        }  # fmt: skip
    assert read_manifest(path, max_bad=0.1, captioned=False).uncaptioned.tolist() == [30]
    with pytest.raises(ManifestError, match="3 of 33 clips are bad"):
        read_manifest(path)


def test_what_cannot_be_read_is_told(tmp_path: Path, shards: Path) -> None:
    with pytest.raises(ManifestError, match=r"there is no tar file .*003\.tar"):
        read_manifest(shards / "{000..003}.tar")
    with pytest.raises(UserError, match="it must ascend"):
        expanded("{9..1}.tar")
    (tmp_path / "b.tar.gz").write_bytes(b"")
    with pytest.raises(ManifestError, match="is compressed"):
        read_manifest(tmp_path / "b.tar.gz")
    whole = (shards / "000.tar").read_bytes()
    (shards / "000.tar").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(ManifestError, match=r"cut off|cannot be read as a tar file"):
        read_manifest(shards)


def test_a_training_epoch_and_its_position(shards: Path) -> None:
    data = module(shards / "{000..002}.tar")
    batches = epoch(data)
    assert Counter(name for batch in batches for name in batch.ids) == Counter(
        f"train/{i // 6:03d}/{i:04d}" for i in range(18)
    )
    data.commit(0, 2)
    again = module(shards, num_workers=1)
    again.load_state_dict(data.state_dict())
    rest = epoch(again)
    again.teardown("fit")
    assert [batch.ids for batch in rest] == [batch.ids for batch in batches[2:]]
    assert [batch.captions for batch in rest] == [batch.captions for batch in batches[2:]]


def test_processes_read_different_tar_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        write_tar(
            tmp_path / "s" / f"{number}.tar",
            {f"{i}.wav": sound(0.2) for i in range(10 * number, 10 * number + 10)}
            | {f"{i}.txt": b"a" for i in range(10 * number, 10 * number + 10)},
        )
    read = []
    for rank in (0, 1):
        monkeypatch.setattr(AudioTextData, "_process", lambda self, rank=rank: (rank, 2))
        read.append(Counter(name.split("/")[1] for batch in epoch(module(tmp_path / "s"))[:-2] for name in batch.ids))
    assert len(set(read[0]) & set(read[1])) <= 3
    assert all(len(tars) < 8 for tars in read)
