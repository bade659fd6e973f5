"""What the trees that tests build are made of, and what `slap prepare` makes of them."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import soundfile

from slap.cli.main import main
from slap.datamodules.manifests.read import read_manifest


def tone(path, seconds=0.2, rate=16000, channels=1, pitch=440.0, format=None):  # noqa: A002
    """Write a tone; its pitch and length tell files apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, np.stack([wave] * channels, axis=1), rate, format=format)


def table(path, header, rows):
    """Write a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows] if header else rows)


def resource_fork(path):
    """The file that macOS leaves beside each one in an archive: named like audio, but none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        ")


def prepare(corpus, root, out, *options):
    """Run the command; for each split its report, and its clips by the id without the corpus' name in front."""
    status = main(["prepare", corpus, str(root), str(out), "--workers", "0", *map(str, options)])
    report = json.loads((out / "report.json").read_text())["splits"]
    clips = {}
    for split in report:
        manifest = out / f"{split}.jsonl.gz"
        cuts = read_manifest(manifest) if manifest.exists() else []
        clips[split] = {cut.id.removeprefix(f"{corpus}/"): cut for cut in cuts}
    return SimpleNamespace(status=status, report=report, clips=clips)


def counts(report):
    """The numbers of a split's report that are not zero."""
    numbers = {
        key: value["count"] if isinstance(value, dict) and "count" in value else value for key, value in report.items()
    }
    wanted = ("official", "listed", "found", "missing", "unreadable", "empty", "outside", "duplicated")
    return {key: numbers[key] for key in wanted if numbers[key]}


def captions(cut):
    """The captions of a cut with their fields."""
    return [(part.text, (part.custom or {}).get("field")) for part in cut.supervisions]
