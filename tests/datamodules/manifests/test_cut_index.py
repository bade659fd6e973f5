"""Manifests of cuts of any size: an index in memory, cuts decoded on access, and checks of the index file."""

import gzip
import json
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource

from slap.core.batch import fingerprint
from slap.datamodules import ManifestError, read_manifest, write_cuts
from slap.datamodules.audio.load import mono
from slap.datamodules.manifests import cut_index
from slap.datamodules.manifests import cuts as cuts_module
from slap.datamodules.manifests.cuts import CutManifest
from slap.datamodules.manifests.sequence import ConcatClips, repeated, samples_of

N = 300  # cuts, in five blocks


def made(folder: Path, number: int, **changes) -> MonoCut:
    source = AudioSource("file", [0], str(folder / "audio" / f"{number}.wav"))
    recording = Recording(f"r{number}", [source], 8000, 8000, 1.0)
    captions = [SupervisionSegment(f"{number}-0", recording.id, 0, 1, text=f"sound {number}, straße")]
    fields = {"id": f"c{number}", "start": 0.0, "duration": 0.1 + number / 1000, "channel": 0}
    custom = {"labels": {"parity": "even"} if number % 2 == 0 else {"third": "x"}}
    return MonoCut(**{**fields, "supervisions": captions, "recording": recording, "custom": custom, **changes})


def write(folder: Path, count: int = N) -> Path:
    return write_cuts(folder / "m.jsonl.gz", (made(folder, i) for i in range(count)))


@pytest.fixture
def nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat the manifests here as large ones."""
    monkeypatch.setattr(cut_index, "SMALL", 100)
    monkeypatch.setattr(cuts_module, "SMALL", 100)
    monkeypatch.setattr(cut_index, "LARGEST", 1 << 16)


def by_lhotse(path: Path, count: int = N) -> Path:
    CutSet([made(path.parent, i) for i in range(count)]).to_file(path)
    return path


@pytest.fixture
def no_rebuild(monkeypatch: pytest.MonkeyPatch):
    """Return a function that forbids making an index from then on."""

    def forbid() -> None:
        monkeypatch.setattr(cuts_module, "index_file", lambda *_: pytest.fail("the index was made again"))

    return forbid


def test_what_is_written_is_read_and_by_lhotse_too(tmp_path: Path, no_rebuild) -> None:
    path = write(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.jsonl.gz", "m.jsonl.gz.index"]
    no_rebuild()
    cuts = read_manifest(path)
    assert isinstance(cuts, CutManifest)
    assert [cut.id for cut in cuts] == [f"c{i}" for i in range(N)] == [cuts[i].id for i in range(N)]
    assert cuts[200].supervisions[0].text == "sound 200, straße"
    assert cuts[-1].where == f"{path}, line {N}"
    assert cuts[7].recording.sources[0].source == str(tmp_path / "audio" / "7.wav")
    assert cuts.tasks == ("parity", "third")
    assert cuts.durations.tolist() == [cut.duration for cut in cuts]
    assert cuts.keys.tolist() == fingerprint([cut.id for cut in cuts]).tolist()
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    assert len(lines) == N
    assert json.loads(lines[3])["recording"]["sources"][0]["source"] == "audio/3.wav"
    assert [cut.id for cut in CutSet.from_file(path)] == [f"c{i}" for i in range(N)]


def test_slices_and_indices_are_those_of_a_list(tmp_path: Path) -> None:
    cuts = read_manifest(write(tmp_path))
    assert [cut.id for cut in cuts[290:]] == [f"c{i}" for i in range(290, N)]
    assert cuts[10:100:30].durations.tolist() == cuts.durations[10:100:30].tolist()
    assert len(cuts[::-1]) == N
    for wrong in (N, -N - 1):
        with pytest.raises(IndexError, match=f"there are {N} clips, none has the index {wrong}"):
            cuts[wrong]


def test_a_cut_is_decoded_without_those_around_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = read_manifest(write(tmp_path))
    read, decoded = [], []
    real = cuts_module.decoded_cut
    monkeypatch.setattr(cuts_module, "decoded_cut", lambda *line: decoded.append(line[2]) or real(*line))
    real_read = cut_index.CutIndex.read
    monkeypatch.setattr(cut_index.CutIndex, "read", lambda self, block: read.append(block) or real_read(self, block))
    assert cuts[130].id == "c130"
    assert cuts[130] is cuts[130]
    assert (read, decoded) == ([2], [131])


def test_only_some_blocks_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts_module, "REMEMBERED", 2)
    cuts = read_manifest(write(tmp_path))
    order = random.Random(0).sample(range(N), N)
    assert [cuts[i].id for i in order] == [f"c{i}" for i in order]
    assert len(cuts._blocks) == 2


@pytest.mark.usefixtures("nothing_is_small")
@pytest.mark.parametrize("name", ["m.jsonl", "m.jsonl.gz"])
def test_manifests_of_others_are_indexed_once(tmp_path: Path, name: str, no_rebuild) -> None:
    path = by_lhotse(tmp_path / name)
    first = read_manifest(path)
    copy = [f"{name}.blocks"] if name.endswith("gz") else []
    assert sorted(file.name for file in tmp_path.iterdir()) == [name, *copy, f"{name}.index"]
    no_rebuild()
    again = read_manifest(path)
    for cuts in (first, again):
        assert [cuts[i].id for i in (299, 0, 64, 63)] == ["c299", "c0", "c64", "c63"]
        assert cuts[64].where == f"{path}, line 65"
    assert first.durations.tolist() == again.durations.tolist()


@pytest.mark.parametrize("name", ["m.jsonl", "m.jsonl.gz"])
def test_small_manifests_of_others_leave_nothing_behind(tmp_path: Path, name: str) -> None:
    cuts = pickle.loads(pickle.dumps(read_manifest(by_lhotse(tmp_path / name))))
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert [cuts[i].id for i in (150, 299)] == ["c150", "c299"]


@pytest.mark.usefixtures("nothing_is_small")
def test_where_nothing_can_be_written_the_index_stays_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(path: Path, mode: str) -> None:
        raise PermissionError(f"read-only: {path.name} ({mode})")

    monkeypatch.setattr(cut_index, "atomic_write", refused)
    cuts = read_manifest(by_lhotse(tmp_path / "m.jsonl.gz"))
    assert [cuts[i].id for i in (150, 299)] == ["c150", "c299"]
    assert "its index cannot be kept beside it" in caplog.text
    assert [file.name for file in tmp_path.iterdir()] == ["m.jsonl.gz"]


def test_blank_lines_and_a_missing_last_newline(tmp_path: Path) -> None:
    lines = [json.dumps(made(tmp_path, i).to_dict()) for i in range(N)]
    text = "\ufeff" + "\n\n".join(lines)
    (tmp_path / "m.jsonl").write_text(text, encoding="utf-8")
    (tmp_path / "g.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("m.jsonl", "g.jsonl.gz"):
        cuts = read_manifest(tmp_path / name)
        assert [cut.id for cut in cuts] == [f"c{i}" for i in range(N)]
        assert cuts[100].where.endswith("line 201")


def test_a_manifest_without_its_index_is_read_in_place(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "m.jsonl.gz.index").unlink()
    cuts = read_manifest(path)
    assert cuts.cut_index.path == path
    assert cuts.cut_index.data is None
    assert cuts[299].where == f"{path}, line 300"


def test_gzip_members_serve_as_blocks_only_if_they_hold_whole_lines(tmp_path: Path) -> None:
    text = b"".join(json.dumps(made(tmp_path, i).to_dict()).encode() + b"\n" for i in range(200))
    half = text.index(b"\n", len(text) // 2) + 1
    whole, torn = (gzip.compress(text[:at]) + gzip.compress(text[at:]) for at in (half, half + 5))
    first = len(gzip.compress(text[:half]))
    cases = {
        "whole": (whole, [(first, text[:half].count(b"\n")), (len(whole), text[half:].count(b"\n"))]),
        "torn": (torn, None),
        "damaged": (whole[:-20], None),
        "followed": (whole + b"junk", None),
        "empty": (b"", None),
    }
    for name, (content, expected) in cases.items():
        (tmp_path / f"{name}.jsonl.gz").write_bytes(content)
        assert cut_index.members(tmp_path / f"{name}.jsonl.gz") == expected, name
    for name in ("whole", "torn"):
        cuts = read_manifest(tmp_path / f"{name}.jsonl.gz")
        assert [(cut.id, cut.where.rpartition(" ")[2]) for cut in cuts] == [(f"c{i}", str(i + 1)) for i in range(200)]
        assert (cuts.cut_index.data is None) == (name == "whole")
    for name in ("damaged", "followed"):
        with pytest.raises(ManifestError, match=r"after line \d+: the gzip file is damaged"):
            read_manifest(tmp_path / f"{name}.jsonl.gz")


def test_an_index_goes_with_its_manifest_alone(tmp_path: Path, no_rebuild) -> None:
    path = write(tmp_path)
    index = (tmp_path / "m.jsonl.gz.index").read_bytes()
    write(tmp_path, 200)
    (tmp_path / "m.jsonl.gz.index").write_bytes(index)
    assert len(read_manifest(path)) == 200
    for damage in (b"", index[:-100], b"PK junk", index.replace(b'"version": 1', b'"version": 9')):
        (tmp_path / "m.jsonl.gz.index").write_bytes(damage)
        assert len(read_manifest(path)) == 200
    write(tmp_path)
    os.utime(path, (0, 0))  # as a copy has it, whose content is the same
    no_rebuild()
    assert len(read_manifest(path)) == N


def test_an_index_is_no_pickle(tmp_path: Path) -> None:
    path = write(tmp_path)

    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "mark",)

    np.savez(tmp_path / "evil.npz", about=np.array([Payload()], dtype=object))
    (tmp_path / "evil.npz").rename(tmp_path / "m.jsonl.gz.index")
    assert len(read_manifest(path)) == N
    assert not (tmp_path / "mark").exists()


@pytest.mark.usefixtures("nothing_is_small")
def test_commands_are_refused_when_a_cut_is_decoded_too(tmp_path: Path) -> None:
    path = by_lhotse(tmp_path / "m.jsonl")
    text, time = path.read_text(), path.stat().st_mtime_ns
    read_manifest(path)
    source = json.dumps(str(tmp_path / "audio" / "150.wav"))
    path.write_text(text.replace(source, f'"{"touch mark".ljust(len(source) - 3)}|"'))
    os.utime(path, ns=(time, time))
    cuts = read_manifest(path)  # the index fits, by size and time
    assert cuts[149].id == "c149"
    with pytest.raises(ManifestError, match=r"m\.jsonl, line 151: the source 'touch mark .* is refused"):
        cuts[150]


def test_a_manifest_that_changes_under_a_run_is_told(tmp_path: Path) -> None:
    path = write(tmp_path)
    cuts = read_manifest(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ManifestError, match=r"m\.jsonl\.gz, line 257: the manifest has changed"):
        cuts[299]


def test_repeated_ids_are_named_by_their_lines(tmp_path: Path) -> None:
    cuts = [made(tmp_path, i) for i in range(N)]
    cuts[200].id = "c20"
    with pytest.raises(ManifestError, match=r"line 201: the id 'c20' was used before, in .*line 21"):
        write_cuts(tmp_path / "m.jsonl.gz", cuts)
    assert list(tmp_path.iterdir()) == []
    CutSet(cuts).to_file(tmp_path / "m.jsonl.gz")
    with pytest.raises(ManifestError, match=r"line 201: the id 'c20' was used before, in .*line 21"):
        read_manifest(tmp_path / "m.jsonl.gz")
    assert list(repeated(np.array([5, 3, 5, 4, 3, 5]))) == [(1, 4), (0, 2), (2, 5)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"supervisions": []}, "cut 'c1' needs supervisions"),
        ({"duration": float("inf")}, "lasts inf s"),
        ({"recording": None}, "has no recording"),
        ({"custom": {"tags": {"a": "b"}}}, "`tags` must map tasks to lists of texts"),
    ],
)
def test_what_reading_would_refuse_is_not_written(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ManifestError, match=f"line 2: .*{message}"):
        write_cuts(tmp_path / "m.jsonl.gz", [made(tmp_path, 0), made(tmp_path, 1, **changes)])
    assert list(tmp_path.iterdir()) == []


def test_neither_are_memory_nothing_and_other_kinds(tmp_path: Path) -> None:
    memory = made(tmp_path, 0)
    memory.recording.sources[0] = AudioSource("memory", [0], b"RIFF")
    with pytest.raises(ManifestError, match="cut 'c0' holds audio in memory; a manifest names files"):
        write_cuts(tmp_path / "m.jsonl.gz", [memory])
    with pytest.raises(ManifestError, match="there are no cuts to write"):
        write_cuts(tmp_path / "m.jsonl.gz", [])
    with pytest.raises(ValueError, match=r"written as \.jsonl\.gz, got"):
        write_cuts(tmp_path / "m.jsonl", [])


def test_samples_are_those_of_mono(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(8), 8000)
    cut = Recording.from_file(tmp_path / "a.wav").to_cut()
    rng = random.Random(0)
    durations = [rng.uniform(1e-6, 40) for _ in range(300)]
    durations += [n / rate for rate in (8000, 11025, 44100) for n in (1, 7, 31, 12345)]
    durations += [(n + 0.5) / 16000 for n in range(60)] + [1e-9, 3600.00003125]
    for rate in (8000, 16000, 22050, 48000):
        wanted = []
        for seconds in durations:
            cut.duration = seconds
            wanted.append(mono(cut, rate).num_samples)
        assert samples_of(np.array(durations), rate).tolist() == wanted


def test_joined_sources(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, two = read_manifest(write(tmp_path)), read_manifest(write(tmp_path / "other", 70))[5:]
    both = ConcatClips([one, two])
    assert len(both) == 365
    assert [both[i].id for i in (0, 299, 300, 364)] == ["c0", "c299", "c5", "c69"]
    assert both.durations.tolist() == [cut.duration for cut in both]
    assert both.keys.tolist() == fingerprint([cut.id for cut in both]).tolist()
