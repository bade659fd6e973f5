"""Canaries for the promise of SECURITY.md that `SLAP_DATA_ROOT` holds for every file that is opened as audio."""

import ast
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from slap.audio.reader import AudioError, AudioFile
from slap.audio.scan import content_hash
from slap.audio.sources import Segment
from slap.cli.main import main
from slap.core.data_root import VARIABLE, ElsewhereError
from slap.core.files import open_plain
from slap.datamodules import Clip, ManifestError, read_manifest, write_manifest
from slap.datamodules.audio.tar_member import TarMember
from slap.datamodules.manifests.lines import raw_lines
from slap.datamodules.prepare.known_files import ends_of
from slap.datamodules.shar.write import pack

ROOT = Path(__file__).parents[2]

OPENS = {"open", "open_audio", "open_plain", "open_tar", "SoundFile", "memmap"}
"""Names of calls that open a file."""

READERS = ("src/slap/audio", "datamodules", "src/slap/inference", "src/slap/search", "src/slap/core/data_root.py")

GATES = {
    "src/slap/audio/decoders.py": {"os.open"},  # behind `opened`, which looks at the root first
    "src/slap/audio/ffmpeg.py": {"Path(source).open", "av.open"},  # likewise
    "src/slap/audio/scan.py": {"open_audio"},
    "src/slap/core/data_root.py": {"open_plain"},
    "datamodules/audio/tar_member.py": {"open_audio", "open_plain", "open_tar", "tarfile.open"},
    "datamodules/prepare/known_files.py": {"open_audio"},
    "datamodules/shar/tar.py": {"open_audio", "tarfile.open"},
    "datamodules/webdataset/index.py": {"open_tar"},
    "src/slap/search/indexed_file.py": {"open_audio"},
}
"""The places that open a file which may hold audio: each looks at the data root first."""

OTHERS = {
    *("datamodules/corpora/csv_lists.py", "datamodules/manifests/cut_index.py", "datamodules/manifests/lines.py"),
    *("datamodules/manifests/index_file.py", "datamodules/overlap/parts.py", "datamodules/prepare/parts.py"),
    *("datamodules/huggingface/read.py", "datamodules/huggingface/stream.py", "datamodules/prepare/headers.py"),
    *("datamodules/remote/room.py", "datamodules/remote/tars.py", "datamodules/remote/uses.py"),
    *("src/slap/inference/embedding_table.py", "datamodules/stored.py"),
}
"""Files with opens of what holds no audio of others: lists, manifests, indexes, copies, what SLAP itself wrote."""


def opens(path: Path) -> set[str]:
    called = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return {ast.unparse(one) for one in called if ast.unparse(one).rpartition(".")[2] in OPENS}


def test_every_open_is_a_gate_or_opens_no_audio() -> None:
    """A new one belongs to one of the two lists."""
    files = [file for place in READERS for file in sorted((ROOT / place).rglob("*.py")) or [ROOT / place]]
    found = {str(file.relative_to(ROOT)): names for file in files if (names := opens(file))}
    assert {name: names for name, names in found.items() if name in GATES} == GATES
    assert {*found} - {*GATES} == OTHERS, {name: found[name] for name in {*found} - {*GATES} - OTHERS}


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound outside of the data root, to which a link in it leads."""
    (tmp_path / "data").mkdir()
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, 8000)
    for name in ("secret.wav", "data/a.wav"):
        soundfile.write(tmp_path / name, samples, 8000)
    (tmp_path / "data" / "link.wav").symlink_to(tmp_path / "secret.wav")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "data"))
    return tmp_path / "secret.wav"


@pytest.mark.parametrize("name", ["secret.wav", "data/link.wav", "data/../secret.wav"])
def test_each_gate_looks_at_the_data_root(outside: Path, name: str) -> None:
    path = outside.parent / name
    good = outside.parent / "data" / "a.wav"
    assert len(AudioFile(good).read(8000)) == 8000
    assert content_hash(good)
    assert ends_of(str(good)) != 0
    with pytest.raises(AudioError, match="audio must lie below"):
        AudioFile(path)
    with pytest.raises(AudioError, match="audio must lie below"):
        next(Segment(str(path)).blocks(8000))
    with pytest.raises(ElsewhereError, match="audio must lie below"):
        content_hash(path)
    with pytest.raises(AudioError, match="audio must lie below"):
        TarMember("memory", [0], str(path), offset=512, size=10).read()
    assert ends_of(str(path)) == 0


@pytest.mark.parametrize("kind", ["shar", "tars"])
@pytest.mark.parametrize("by", ["variable", "argument"])
def test_shards_lie_below_the_data_root(tmp_path: Path, kind: str, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder does, but one of its files is a link to elsewhere."""
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.3, 0.3, 8000), 8000)
    write_manifest(tmp_path / "m.jsonl", [Clip("a", tmp_path / "a.wav", ["a sound"])])
    pack(tmp_path / "m.jsonl", tmp_path / "shar")
    folder = tmp_path / "data" / "set"
    folder.mkdir(parents=True)
    (tar,) = (tmp_path / "shar").glob("recording*.tar")
    if kind == "shar":
        shutil.copy(tmp_path / "shar" / "cuts.000000.jsonl.gz", folder)
    name = tar.name if kind == "shar" else "000.tar"
    (folder / name).symlink_to(tar)
    read_manifest(folder, max_bad=1.0, captioned=False)
    assert len(list(folder.parent.rglob("*.index"))) + (kind == "shar") == 1  # it is remembered, and looked at again
    if by == "variable":
        monkeypatch.setenv(VARIABLE, str(tmp_path / "data"))
    with pytest.raises(ManifestError, match=rf"{name} is refused: audio must lie below"):
        read_manifest(folder, data_root=tmp_path / "data" if by == "argument" else None, captioned=False)


def test_the_commands_on_recordings_look_at_the_data_root(
    outside: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    link, model = str(tmp_path / "data" / "link.wav"), str(tiny_checkpoint)
    commands = [
        ["embed", model, link, "--out", str(tmp_path / "e.parquet")],
        ["classify", model, link, "--labels", "dog", "rain"],
        ["frames", model, link, "--texts", "a dog"],
        ["index", model, str(tmp_path / "data"), str(tmp_path / "index")],
    ]
    for command in commands:
        assert main(command) != 0, command
        said = capsys.readouterr()
        assert "audio must lie below" in said.err + said.out, command


def test_prepare_looks_at_the_data_root(outside: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "all.csv").write_text(f"audio,caption\n{tmp_path}/data/a.wav,x\n{outside},y\n")
    main(["prepare", "csv", str(tmp_path / "list"), str(tmp_path / "out")])
    said = capsys.readouterr()
    written = [path.read_text(errors="replace") for path in (tmp_path / "out").rglob("*") if path.suffix != ".gz"]
    assert "audio must lie below" in said.err + said.out + "".join(written)


def test_pipes_are_no_manifests_and_no_tar_files(tmp_path: Path) -> None:
    """A shard that is a pipe waited for ever."""
    for name in ("cuts.000000.jsonl.gz", "recording.000000.tar"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(ManifestError, match="is no plain file"):
        read_manifest(tmp_path)
    with pytest.raises(ManifestError, match="is no plain file"):
        next(raw_lines(tmp_path / "cuts.000000.jsonl.gz"))
    with pytest.raises(OSError, match="is no plain file"):
        open_plain(tmp_path / "recording.000000.tar")
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(ManifestError, match="is no plain file"):
        read_manifest(tmp_path / "a.tar")
