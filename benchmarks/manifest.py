"""Open a manifest of a million cuts: memory it takes, and the time to the first batch of audio.

    python benchmarks/manifest.py

Writes cuts that point at a few small files which it makes, then opens them in a fresh process, as training does:
nothing but the manifest and its index is there. Then Lhotse writes the manifest, in one gzip member, and it is opened
twice: the first time it is indexed.

The aim: less than 300 MB of memory more than before opening, and the first batch within 10 s.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from results import keep

FILES = 16  # small files of audio that all cuts share
RATE = 16000
ABOUT = """`python benchmarks/manifest.py --update`

Memory is that of the process beyond what it had before opening, with torch and Lhotse loaded; the first batch is one of
metadata and audio. The aims: less than 300 MB, and the first batch within 10 s."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=1_000_000, help="in the manifest (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="of the loader (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--update", action="store_true", help="replace this benchmark's section of RESULTS.md")
    arguments = parser.parse_args()
    rows = []
    for foreign in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(Path(folder), arguments.cuts, arguments.workers, foreign)
    keep("manifest", "Opening a manifest of many cuts", ABOUT, rows, arguments.out, arguments.update)


def measure(folder: Path, cuts: int, workers: int, foreign: bool) -> list[dict[str, Any]]:
    """Write a manifest and open it; one row for each opening."""
    manifest = folder / "train.jsonl.gz"
    writing = _in_fresh_process(_write, folder, manifest, cuts, foreign)
    about = {
        "written by": "Lhotse" if foreign else "write_cuts",
        "cuts": cuts,
        "writing, s": writing,
        "manifest, MB": manifest.stat().st_size / 1e6,
    }
    openings = ["first, which indexes", "second"] if foreign else ["first"]
    return [{**about, "opening": name, **_in_fresh_process(_open, manifest, workers)} for name in openings]


def _in_fresh_process(function: Any, *arguments: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _write(folder: Path, manifest: Path, count: int, foreign: bool) -> float:
    import soundfile
    from lhotse import CutSet, Recording

    from slap.datamodules import write_cuts

    rng = np.random.default_rng(0)
    recordings = []
    for number in range(FILES):
        path = folder / f"{number}.wav"
        soundfile.write(path, rng.uniform(-0.5, 0.5, 30 * RATE), RATE)
        recordings.append(Recording.from_file(path))
    started = time.perf_counter()
    cuts = _cuts(recordings, count, rng)
    if foreign:
        CutSet(cuts).to_file(manifest)
    else:
        write_cuts(manifest, cuts)
    return time.perf_counter() - started


def _cuts(recordings: Sequence[Any], count: int, rng: np.random.Generator) -> Iterator[Any]:
    from lhotse import MonoCut, SupervisionSegment

    durations = np.clip(np.exp(rng.normal(1.6, 0.8, count)), 0.5, 30.0)
    for number, seconds in enumerate(durations.tolist()):
        recording = recordings[number % FILES]
        captions = [
            SupervisionSegment(f"{number}-{n}", recording.id, 0.0, seconds, 0, f"sound number {number}, told {way}")
            for n, way in enumerate(("shortly", "in a few more words than would be needed"))
        ]
        yield MonoCut(f"corpus/{number:09d}", 0.0, seconds, 0, captions, None, recording, {"labels": {"x": "y"}})


def _open(manifest: Path, workers: int) -> dict[str, Any]:
    """Open a manifest as training does, and measure memory and time."""
    import torch

    from slap.core.packed import Packed
    from slap.datamodules import AudioTextData

    torch.set_num_threads(1)
    before = _resident()
    started = time.perf_counter()
    data = AudioTextData(manifest, num_workers=workers)
    data.connect(RATE, lambda captions: Packed.pack([torch.zeros(len(text), dtype=torch.long) for text in captions]))
    data.setup("fit")
    opened = time.perf_counter() - started
    memory = _resident() - before
    batch = next(iter(data.train_dataloader()))
    first = time.perf_counter() - started
    return {
        "opened after, s": opened,
        "first batch after, s": first,
        "clips in it": len(batch),
        "memory when opened, MB": memory,
        "most memory, MB": _peak() - before,
    }


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def _peak() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    main()
