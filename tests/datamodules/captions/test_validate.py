"""Faulty captions among good ones: only their own clips are left out, with a reason."""

import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from slap.core.bad_clip import BadClip
from slap.core.packed import Packed
from slap.datamodules import AudioTextData, ManifestError, read_manifest
from slap.datamodules.captions.validate import LONGEST, text_error

RATE = 8000
COUNT = 20

FAULTY = {
    "NUL": ("a dog\0barks", r"a control character, U\+0000, in 'a dog"),
    "escape": ("\x1b[31ma dog", r"a control character, U\+001B"),
    "bidirectional": ("a \u202egod\u202c", r"a bidirectional control, U\+202E, in 'a \\u202egod"),
    "isolated": ("a \u2066dog\u2069", r"a bidirectional control, U\+2066"),
    "long": ("dog " * 250_000, "it has 1000000 characters, and at most 20000 are taken: 'dog dog"),
    "half a character": ("dog \ud83d", "it is no text: 'dog "),
}

BYTES = b"a caf\xe9 dog"  # Latin-1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """c0.wav, c1.wav, ... of 0.1 s."""
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        soundfile.write(tmp_path / f"c{i}.wav", rng.uniform(-0.5, 0.5, RATE // 10), RATE)
    return tmp_path


def tokenize(captions: Sequence[str]) -> Packed:
    return Packed.pack([torch.tensor([len(caption)]) for caption in captions])


def seen(manifest: Path) -> tuple[set[str], dict[str, BadClip]]:
    """Return the clips of an evaluation, and the faults of the other clips by their ids."""
    data = AudioTextData(val=manifest, max_duration=1.0, max_clip=None, max_bad=0.5)
    data.connect(RATE, tokenize)
    data.setup("validate")
    batches = list(data.val_dataloader())
    return {name for batch in batches for name in batch.ids}, {clip.id: clip for batch in batches for clip in batch.bad}


@pytest.mark.parametrize("name", FAULTY)
def test_what_is_no_caption(name: str) -> None:
    text, message = FAULTY[name]
    fault = text_error(text)
    assert fault is not None
    assert re.match(message, fault)
    fault.encode()
    assert len(fault) < 500


@pytest.mark.parametrize(
    "text",
    [
        "a dog barks",
        "ein Hund bellt, während es läutet",
        "\u05db\u05dc\u05d1 \u200fabc\u200f",  # Hebrew, with marks that hint at the direction
        "\u200eكلب ينبح",
        "a dog \U0001f469\u200d\U0001f467",  # joined by a zero-width joiner
        "two\nlines\tand a tab\r\n",
        "\ufeffafter a byte order mark",
        "狗叫",
        "x" * LONGEST,
    ],
)
def test_what_is_a_caption(text: str) -> None:
    assert text_error(text) is None


def rows(folder: Path, kind: str) -> bytes:
    """Return the rows of a manifest in which every third caption is faulty."""
    faulty = [text for text, _ in FAULTY.values()]
    lines = []
    for i in range(COUNT):
        text = faulty[i // 3] if i % 3 == 0 and i // 3 < len(faulty) else f"sound {i}"
        row = {"audio": str(folder / f"c{i}.wav"), "caption": text, "id": f"c{i}"}
        if kind == "csv":
            line = f'{row["audio"]},"{text}",c{i}'.encode("utf-8", "surrogatepass")
        else:
            record = row if kind == "jsonl" else _cut(folder, i, text)
            line = json.dumps(record).encode()
        lines.append(line.replace(b"sound 19", BYTES))
    head = [b"audio,caption,id"] if kind == "csv" else []
    return b"\n".join([*head, *lines])


def _cut(folder: Path, i: int, text: str) -> dict:
    recording = {"id": f"r{i}", "sources": [{"type": "file", "channels": [0], "source": f"c{i}.wav"}]}
    recording |= {"sampling_rate": RATE, "num_samples": RATE // 10, "duration": 0.1, "channel_ids": [0]}
    supervision = {"id": f"s{i}", "recording_id": f"r{i}", "start": 0.0, "duration": 0.1, "channel": 0, "text": text}
    return {
        "id": f"c{i}", "start": 0.0, "duration": 0.1, "channel": 0, "supervisions": [supervision],
        "recording": recording, "type": "MonoCut",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["csv", "jsonl", "cuts"])
def test_each_faulty_caption_costs_its_own_clip(folder: Path, kind: str) -> None:
    """Bytes that are not UTF-8 on a line in the middle used to stop Lhotse's reading of a manifest."""
    path = folder / ("m.csv" if kind == "csv" else "m.jsonl")
    path.write_bytes(rows(folder, kind))
    good, bad = seen(path)
    faulty = {f"c{3 * i}" for i in range(len(FAULTY))} | {"c19"}
    assert set(bad) == faulty
    assert {clip.reason for clip in bad.values()} == {"caption"}
    assert good == {f"c{i}" for i in range(COUNT)} - faulty
    assert "caf\\udce9 dog" in bad["c19"].detail or "caf\\\\udce9 dog" in bad["c19"].detail
    assert bad["c0"].where.endswith("line 2" if kind == "csv" else "line 1")
    for clip in bad.values():
        clip.detail.encode()  # it can be logged and written


def test_too_many_of_them_stop_loudly(folder: Path) -> None:
    (folder / "m.csv").write_bytes(rows(folder, "csv"))
    with pytest.raises(ManifestError, match=r"7 of 20 clips are bad \(7 caption\), more than max_bad=0.1 allows"):
        read_manifest(folder / "m.csv", max_bad=0.1)


def test_shards_with_bytes_that_are_no_text(folder: Path) -> None:
    from slap.cli.main import main

    (folder / "m.csv").write_text("".join(["audio,caption\n", *(f"c{i}.wav,sound {i}\n" for i in range(4))]))
    assert main(["pack", str(folder / "m.csv"), str(folder / "shards")]) == 0
    (cuts,) = (folder / "shards").glob("cuts.*.jsonl.gz")
    cuts.write_bytes(gzip.compress(gzip.decompress(cuts.read_bytes()).replace(b"sound 2", BYTES)))
    good, bad = seen(folder / "shards")
    assert {Path(name).name for name in good} == {"c0.wav", "c1.wav", "c3.wav"}
    assert {Path(name).name: clip.reason for name, clip in bad.items()} == {"c2.wav": "caption"}


@pytest.mark.parametrize("field", ["id", "labels", "origin"])
def test_a_cut_whose_name_is_no_text_is_refused_with_its_line(folder: Path, field: str) -> None:
    record = _cut(folder, 1, "a sound")
    record |= {"id": "c\udce9"} if field == "id" else {"custom": {field: {"kind": "c\udce9"}}}
    lines = [json.dumps(_cut(folder, 0, "a sound")), json.dumps(record)]
    (folder / "m.jsonl").write_text("\n".join(lines))
    with pytest.raises(ManifestError, match=r"m\.jsonl, line 2: .*UTF-8 text"):
        read_manifest(folder / "m.jsonl")


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_nul_in_a_path_costs_the_row(folder: Path, name: str) -> None:
    """Keep the name from libsndfile, which would read it up to NUL and open another file."""
    rows = [{"audio": f"c{i}.wav", "caption": "x", "id": f"c{i}"} for i in range(3)]
    rows[1]["audio"] = "c0.wav\0.flac"
    lines = [json.dumps(row) if name == "m.jsonl" else ",".join(row.values()) for row in rows]
    (folder / name).write_text("\n".join(([] if name == "m.jsonl" else ["audio,caption,id"]) + lines))
    good, bad = seen(folder / name)
    assert good == {"c0", "c2"}
    assert "`audio` has a character NUL in it" in bad["c1"].detail


def test_a_line_that_would_fill_the_memory_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a line of more than 64 MB in a few kB of gzip."""
    monkeypatch.setattr("slap.datamodules.manifests.lines.LONGEST_LINE", 10_000)
    line = json.dumps({"audio": "c0.wav", "caption": "x"}).encode()
    (folder / "m.jsonl.gz").write_bytes(gzip.compress(line + b"\n" + b" " * 20_000))
    with pytest.raises(ManifestError, match=r"line 2 has more than 10000 bytes, which are refused"):
        read_manifest(folder / "m.jsonl.gz")
