"""Shar: packed as Lhotse reads it, the same in training as from the manifest, each clip once, truncation an error."""

import gc
import json
import pickle
import shutil
import tarfile
from collections import Counter
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet, MonoCut
from lhotse.shar import SharWriter

from epochs import epoch, tokenize
from slap.cli.main import main
from slap.datamodules import (
    AudioTextData,
    Clip,
    ManifestError,
    read_manifest,
    write_cuts,
    write_manifest,
)
from slap.datamodules.audio.load import DecodeError, load, mono
from slap.datamodules.manifests import cut_index
from slap.datamodules.manifests import cuts as cuts_module
from slap.datamodules.shar import read as shar_module
from slap.datamodules.shar import shard as shard_module
from slap.datamodules.shar import write as packing

RATE = 16000
N = 23

LHOTSE = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
"""For tests in which Lhotse's reader of Shar runs: it leaves its files open (lhotse 1.33)."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """m.jsonl: 23 clips with ids in folders; mono and stereo, three rates, one a segment of another's file."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    clips = []
    for i in range(N):
        rate, channels = (8000, 16000, 44100)[i % 3], 1 + (i % 5 == 0)
        soundfile.write(folder / f"{i}.wav", rng.uniform(-0.5, 0.5, (round((0.2 + 0.02 * i) * rate), channels)), rate)
        clips.append(Clip(f"set/é{i}.x", folder / f"{i}.wav", [f"sound {i}", f"noise {i}"], {"parity": str(i % 2)}))
    clips[7] = Clip("set/part", folder / "22.wav", ["a part"], {}, 0.1, 0.333)
    write_manifest(folder / "m.jsonl", clips)
    return folder


@pytest.fixture(scope="module")
def packed(corpus: Path) -> Path:
    """Pack the clips in five shards."""
    out = corpus / "shards"
    packing.pack(corpus / "m.jsonl", out, shard_size=5, workers=0)
    return out


@pytest.fixture
def copied(packed: Path, tmp_path: Path) -> Path:
    """Copy the shards, for tests that damage them."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for path in packed.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def data_of(*manifests: Path, **options) -> AudioTextData:
    data = AudioTextData(manifests, max_duration=2.0, max_clip=None, num_buckets=2, **options)
    data.connect(RATE, tokenize)
    return data


def by_lhotse(folder: Path) -> list[MonoCut]:
    cuts = list(CutSet.from_shar(in_dir=folder))
    gc.collect()  # now, not in another test
    return cuts


@LHOTSE
def test_lhotse_reads_it(corpus: Path, packed: Path) -> None:
    names = sorted(path.name for path in packed.iterdir())
    numbers = [f"{i:06d}" for i in range(5)]
    assert names == [f"cuts.{i}.jsonl.gz" for i in numbers] + [f"recording.{i}.tar" for i in numbers]
    cuts = by_lhotse(packed)
    manifest = read_manifest(corpus / "m.jsonl")
    assert [cut.id for cut in cuts] == [cut.id for cut in manifest]
    for ours, theirs in zip(manifest, cuts, strict=True):
        np.testing.assert_array_equal(theirs.load_audio(), ours.load_audio())
        assert [part.text for part in theirs.supervisions] == [part.text for part in ours.supervisions]
        assert "where" not in theirs.custom


def test_clips_are_those_of_the_manifest(corpus: Path, packed: Path) -> None:
    manifest, shards = read_manifest(corpus / "m.jsonl"), read_manifest(packed)
    assert shards.parts.tolist() == [0, 5, 10, 15, 20, 23]
    assert shards.keys.tolist() == manifest.keys.tolist()
    assert shards.samples(RATE).tolist() == manifest.samples(RATE).tolist()
    assert shards.tasks == manifest.tasks == ("parity",)
    assert shards[6].where == f"{packed / 'cuts.000001.jsonl.gz'}, line 2"
    for ours, theirs in zip(manifest, pickle.loads(pickle.dumps(shards)), strict=True):
        assert torch.equal(load(mono(theirs, RATE)), load(mono(ours, RATE)))
        assert theirs.custom["labels"] == ours.custom["labels"]
    part = mono(shards[9], RATE).truncate(offset=0.1, duration=0.05)
    assert len(load(part)) == 800


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_each_clip_is_read_once_over_ranks_and_workers(packed: Path, world: int, workers: int) -> None:
    """Lhotse's own reader gives each clip once for each worker, unless it is told to split."""
    for number in range(2):
        ranks = []
        for rank in range(world):
            data = data_of(packed, num_workers=workers if rank == 0 else 0)
            strategy = SimpleNamespace(root_device=torch.device("cpu"), broadcast=lambda found: found)
            model = SimpleNamespace(audio=SimpleNamespace(sample_rate=RATE), text=SimpleNamespace(tokenize=tokenize))
            data.trainer = SimpleNamespace(
                global_rank=rank,
                world_size=world,
                strategy=strategy,
                lightning_module=model,
                fast_dev_run=False,
                is_global_zero=True,
            )
            ranks.append(epoch(data, number))
        assert len({len(batches) for batches in ranks}) == 1
        names = Counter(name for batches in ranks for batch in batches for name in batch.ids)
        assert names == Counter(cut.id for cut in read_manifest(packed))
        assert max(len(batch.audio.values) for batches in ranks for batch in batches) <= 2 * RATE


def test_shards_and_manifests_together(corpus: Path, packed: Path, tmp_path: Path) -> None:
    other = write_manifest(tmp_path / "other.jsonl", [Clip(f"o{i}", corpus / f"{i}.wav", ["x"]) for i in range(9)])
    names = Counter(name for batch in epoch(data_of(packed, other, repeats=[1, 2])) for name in batch.ids)
    assert names == Counter({**{cut.id: 1 for cut in read_manifest(packed)}, **{f"o{i}": 2 for i in range(9)}})


def test_evaluation_reads_shards_too(packed: Path) -> None:
    data = AudioTextData(val=packed, max_duration=2.0, max_clip=None)
    data.connect(RATE, tokenize)
    batches = list(data.val_dataloader())
    assert Counter(name for batch in batches for name in batch.ids) == Counter(cut.id for cut in read_manifest(packed))


def test_shards_by_lhotse_without_numbers_and_the_index_beside(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cut_index, "SMALL", 5)
    monkeypatch.setattr(cuts_module, "SMALL", 5)
    folder = tmp_path / "theirs"
    folder.mkdir()
    with SharWriter(folder, {"recording": "wav"}, shard_size=None) as writer:
        for cut in read_manifest(corpus / "m.jsonl"):
            writer.write(cut)
    first = read_manifest(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs", "theirs.blocks", "theirs.index"]
    monkeypatch.setattr(shar_module, "index_copy", lambda *_: pytest.fail("the index was made again"))
    again = read_manifest(folder)
    assert again.parts.tolist() == first.parts.tolist() == [0, N]
    assert [cut.id for cut in again] == [cut.id for cut in read_manifest(corpus / "m.jsonl")]
    assert torch.equal(load(mono(again[11], RATE)), load(mono(read_manifest(corpus / "m.jsonl")[11], RATE)))


@pytest.mark.parametrize("keep", [0.3, 0.7])
def test_a_tar_that_was_cut_is_an_error(copied: Path, keep: float) -> None:
    """Lhotse returns the clips that are left and reports nothing if the tar was cut between two members."""
    tar = copied / "recording.000002.tar"
    tar.write_bytes(tar.read_bytes()[: round(tar.stat().st_size * keep)])
    with pytest.raises(ManifestError, match=r"recording\.000002\.tar"):
        read_manifest(copied)


def test_a_tar_that_was_cleanly_cut_is_an_error(copied: Path) -> None:
    tar = copied / "recording.000002.tar"
    with tarfile.open(tar) as opened:
        members = [(member, opened.extractfile(member).read()) for member in opened]
    with tarfile.open(tar, "w") as opened:
        for member, content in members[:6]:
            opened.addfile(member, BytesIO(content))
    with pytest.raises(ManifestError, match=r"recording\.000002\.tar was cut off: it lacks the audio of 'set/é13\.x'"):
        read_manifest(copied)


def test_cuts_that_were_cut_off_and_shards_that_lack_a_file(copied: Path) -> None:
    cuts = copied / "cuts.000001.jsonl.gz"
    whole = cuts.read_bytes()
    CutSet(list(CutSet.from_file(cuts))[:4]).to_file(cuts)
    with pytest.raises(ManifestError, match=r"cuts\.000001\.jsonl\.gz was cut off"):
        read_manifest(copied)
    cuts.write_bytes(whole)
    (copied / "recording.000003.tar").unlink()
    with pytest.raises(ManifestError, match=r"lack their cuts or their recording: cuts\.000003\.jsonl\.gz"):
        read_manifest(copied)


def test_a_tar_that_changes_under_a_run_is_told(copied: Path) -> None:
    shards = read_manifest(copied)
    tar = copied / "recording.000002.tar"
    content = tar.read_bytes()
    for change in (content[: len(content) // 2], b"\0" * 512 + content[:-512]):
        tar.write_bytes(change)
        with pytest.raises(DecodeError, match=r"set/é14\.x.*recording\.000002\.tar.*(cut off|has changed)"):
            load(shards[14])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../out.flac", tarfile.REGTYPE),
        ("/out.flac", tarfile.REGTYPE),
        ("a.flac", tarfile.SYMTYPE),
        ("a.flac", tarfile.LNKTYPE),
    ],
)
def test_members_that_point_outside_are_refused(copied: Path, name: str, kind: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(copied / "recording.000000.tar", "w") as tar:
        tar.addfile(member, BytesIO(b""))
    with pytest.raises(ManifestError, match=r"recording\.000000\.tar.*refused"):
        read_manifest(copied)


def test_sources_beside_the_tar_are_refused(copied: Path) -> None:
    mark = copied.parent / "mark"
    tar = copied / "recording.000000.tar"
    with tarfile.open(tar) as opened:
        members = [(member, opened.extractfile(member).read()) for member in opened]
    for source in ({"type": "command", "source": f"touch {mark}"}, {"type": "file", "source": "/etc/passwd"}):
        with tarfile.open(tar, "w") as opened:
            for member, content in members:
                if member.name.endswith(".json"):
                    about = json.loads(content)
                    about["sources"] = [{"channels": [0], **source}]
                    content = json.dumps(about).encode()
                    member.size = len(content)
                opened.addfile(member, BytesIO(content))
        with pytest.raises(ManifestError, match=r"cuts\.000000\.jsonl\.gz, line 1: a source of type .* is refused"):
            read_manifest(copied)
    assert not mark.exists()


def test_a_folder_that_is_no_shar(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"is no Shar folder: .*`slap pack` makes one"):
        read_manifest(tmp_path)


def test_the_command(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    assert (
        main(["pack", str(corpus / "m.jsonl"), str(out), "--shard-size", "9", "--format", "wav", "--workers", "1"]) == 0
    )
    assert f"{out}: {N} clips, 0.00 hours" in capsys.readouterr().out
    assert [cut.id for cut in read_manifest(out)] == [cut.id for cut in read_manifest(corpus / "m.jsonl")]
    assert main(["pack", str(corpus / "m.jsonl"), str(out)]) == 2
    assert f"{out} exists; name another folder, or remove it" in capsys.readouterr().err


def test_several_processes_write_the_same(corpus: Path, packed: Path, tmp_path: Path) -> None:
    packing.pack(corpus / "m.jsonl", tmp_path / "out", shard_size=5, workers=2)
    for ours, theirs in zip(read_manifest(packed), read_manifest(tmp_path / "out"), strict=True):
        assert ours.id == theirs.id
        assert torch.equal(load(mono(theirs, RATE)), load(mono(ours, RATE)))


@LHOTSE
def test_interrupted_it_goes_on_where_it_was(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, real, begun = tmp_path / "out", shard_module._loaded, []

    def interrupted(cut: MonoCut) -> MonoCut:
        begun.append(cut.id)
        if len(begun) == 13:
            raise KeyboardInterrupt
        return real(cut)

    monkeypatch.setattr(shard_module, "_loaded", interrupted)
    with pytest.raises(KeyboardInterrupt):
        packing.pack(corpus / "m.jsonl", out, shard_size=5, workers=0)
    assert not out.exists()
    with pytest.raises(ManifestError, match=r"out\.part is not complete; give the same command of `slap pack` again"):
        read_manifest(tmp_path / "out.part")
    with pytest.raises(ValueError, match=r"out\.part holds shards of another manifest, or with other settings"):
        packing.pack(corpus / "m.jsonl", out, shard_size=6, workers=0)
    begun.clear()
    monkeypatch.setattr(shard_module, "_loaded", lambda cut: begun.append(cut.id) or real(cut))
    done = packing.pack(corpus / "m.jsonl", out, shard_size=5, workers=0)
    assert len(begun) == N - 10
    assert (done.clips, done.shards) == (N, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(by_lhotse(out)) == N


@LHOTSE
def test_bad_clips_stop_it_or_are_left_out_and_named(corpus: Path, tmp_path: Path) -> None:
    for i in range(4):
        (tmp_path / f"{i}.wav").write_bytes((corpus / "1.wav").read_bytes())
    clips = [Clip(str(i), tmp_path / f"{i}.wav", ["x"]) for i in range(4)]
    manifest = write_cuts(tmp_path / "m.jsonl.gz", read_manifest(write_manifest(tmp_path / "m.jsonl", clips)))
    (tmp_path / "1.wav").write_bytes(b"junk")
    with pytest.raises(DecodeError, match=r"clip '1' .* cannot be decoded from .*1\.wav"):
        packing.pack(manifest, tmp_path / "out", shard_size=1, workers=0)
    done = packing.pack(manifest, tmp_path / "out", shard_size=1, workers=0, skip_bad=True)
    assert (done.clips, done.shards) == (3, 3)
    assert "clip '1'" in done.bad[0]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names[:3] == [f"cuts.00000{i}.jsonl.gz" for i in range(3)]
    assert [cut.id for cut in by_lhotse(tmp_path / "out")] == ["0", "2", "3"]
    for i in range(4):
        (tmp_path / f"{i}.wav").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"no clip of .*m\.jsonl\.gz could be read; the first: clip '0'"):
        packing.pack(manifest, tmp_path / "none", workers=0, skip_bad=True)


def test_ids_that_cannot_name_a_file_in_a_tar(corpus: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("../1.wav", "/1.wav", "a//b", "./a")):
        manifest = write_manifest(tmp_path / f"{number}.jsonl", [Clip(name, corpus / "1.wav", ["x"])])
        with pytest.raises(ManifestError, match=r"the id.*(refused|give the clip another `id`)"):
            packing.pack(manifest, tmp_path / "out", workers=0)
        assert not (tmp_path / "out").exists()
        shutil.rmtree(tmp_path / "out.part")
