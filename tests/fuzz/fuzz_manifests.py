"""Manifests of damaged text, of damaged values, and of damaged shards."""

from __future__ import annotations

import gzip
import json
import shutil
from functools import cache
from math import isfinite
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import soundfile
from fuzz_tools import Rng, as_json, changed, damaged, odd_text, one_of, told
from lhotse import CutSet, Recording, SupervisionSegment

from slap.datamodules import ManifestError, read_manifest
from slap.datamodules.audio.load import check_captions, load, mono
from slap.datamodules.bad_clips import ClipError
from slap.datamodules.captions.validate import NO_TEXT
from slap.datamodules.manifests.sequence import Clips

RATE = 8000
LARGEST = 1 << 22


@cache
def sounds() -> Path:
    """A folder with two sounds, and with a Shar of three."""
    folder = Path(mkdtemp(prefix="fuzz_sounds"))
    rng = np.random.default_rng(0)
    soundfile.write(folder / "a.wav", rng.uniform(-0.3, 0.3, RATE // 10), RATE)
    soundfile.write(folder / "b.flac", rng.uniform(-0.3, 0.3, (RATE // 5, 2)), RATE)
    cuts = []
    for number, name in enumerate(("a.wav", "b.flac")):
        cut = Recording.from_file(folder / name).to_cut()
        cut.id = f"c{number}"
        cut.supervisions = [SupervisionSegment(cut.id, cut.recording_id, 0.0, cut.duration, text="a sound")]
        cut.custom = {"labels": {"kind": "x"}, "origin": {"site": "1"}}
        cuts.append(cut)
    mixed = cuts[0].mix(cuts[0].truncate(duration=0.05), offset_other_by=0.02)
    CutSet([*cuts, mixed]).to_file(folder / "cuts.jsonl")
    (folder / "shar").mkdir()
    CutSet(cuts[:1]).to_shar(folder / "shar", {"recording": "flac"}, shard_size=None)
    return folder


def rows_of_csv(rng: Rng, folder: Path) -> None:
    """Damaged CSV is refused with a message, or gives clips."""
    a, b = sounds() / "a.wav", sounds() / "b.flac"
    names = ["audio", "caption", "id", "start", "duration", "label", "caption_tags", "caption_2"]
    header = names[: int(rng.integers(2, len(names) + 1))]
    rows = []
    for number in range(int(rng.integers(1, 5))):
        row = [str(one_of([a, b], rng)), f"sound {number}", f"c{number}", "0", "0.05", "x", "tag", "more"]
        if rng.random() < 0.5:
            row[int(rng.integers(len(row)))] = odd_text(rng)
        rows.append(
            ["" if rng.random() < 0.05 else f'"{cell}"' if "," in cell else cell for cell in row[: len(header)]]
        )
    text = "\n".join([",".join(header), *(",".join(row) for row in rows)])
    raw = text.encode("utf-8", "surrogatepass")
    _read(folder / "m.csv", damaged(raw, rng) if rng.random() < 0.5 else raw)


def rows_of_json(rng: Rng, folder: Path) -> None:
    """Damaged JSON lines are refused with a message, or give clips."""
    rows = []
    for number in range(int(rng.integers(1, 5))):
        row: dict[str, Any] = {
            "audio": str(sounds() / "a.wav"),
            "caption": ["a", "b"],
            "id": f"c{number}",
            "start": 0.01,
        }
        row |= {
            "duration": 0.05,
            "labels": {"kind": "x"},
            "tags": {"t": ["u"]},
            "fields": ["f", "g"],
            "origin": {"s": "1"},
        }
        rows.append(as_json(changed(row, rng) if rng.random() < 0.5 else row, rng))
    raw = b"\n".join(rows)
    raw = damaged(raw, rng) if rng.random() < 0.3 else raw
    if rng.random() < 0.1:
        packed = gzip.compress(raw, 1)
        _read(folder / "m.jsonl.gz", damaged(packed, rng) if rng.random() < 0.5 else packed)
    else:
        _read(folder / "m.jsonl", raw)


@cache
def lines_of_cuts() -> list[dict[str, Any]]:
    """The records of some cuts by Lhotse, one of them mixed."""
    return [json.loads(line) for line in (sounds() / "cuts.jsonl").read_text().splitlines()]


def cuts(rng: Rng, folder: Path) -> None:
    """Cuts with odd values are refused with a message, or give clips, and run nothing."""
    records = [changed(record, rng) if rng.random() < 0.5 else record for record in lines_of_cuts()]
    raw = b"\n".join(as_json(record, rng) for record in records)
    _read(folder / "cuts.jsonl", damaged(raw, rng) if rng.random() < 0.2 else raw)


def shards(rng: Rng, folder: Path) -> None:
    """Damaged shards are refused with a message, or give clips."""
    shutil.copytree(sounds() / "shar", folder / "shar")
    path = one_of(sorted((folder / "shar").iterdir()), rng)
    raw = path.read_bytes()
    if path.suffix == ".gz" and rng.random() < 0.7:
        raw = gzip.compress(damaged(gzip.decompress(raw), rng), 1)
    else:
        raw = damaged(raw, rng)
    path.write_bytes(raw)
    _read(folder / "shar", None)


def _read(path: Path, raw: bytes | None) -> None:
    """Open a manifest, and load what is in it."""
    if raw is not None:
        path.write_bytes(raw)
    try:
        clips = read_manifest(path, max_bad=1.0)
        _load(clips)
    except ManifestError as error:
        told(error)


def _load(clips: Clips) -> None:
    for clip in clips:
        assert clip.id
        assert not NO_TEXT.search(clip.id)
        assert isfinite(clip.duration)
        assert clip.duration > 0
        assert clip.supervisions
        try:
            check_captions(clip)
            samples = load(mono(clip, RATE), LARGEST)
        except ClipError as error:
            told(error)
        else:
            assert bool(samples.isfinite().all())
