"""The cost of the reader: ordinary files read by this version and by an earlier one, in turns.

    python benchmarks/reader.py --before 6632588
    python benchmarks/reader.py --before 6632588 --audio ../shared/data/esc10 --update

Each version runs in a process of its own with one thread, out of the repository's history, and both decode the same
files to mono at 16 kHz in turns. Counted is the time that the process computed, in the turn that took the least. The
aim is at most 1.05.

Without `--audio`, sounds are synthesized.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from results import keep

RATE = 16_000
FORMATS = {"wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}
ABOUT = """`python benchmarks/reader.py --before {before} --update`

Files of 44.1 kHz, decoded to mono at 16 kHz by this version and by {before}, in turns, each in its own process with one
thread. Milliseconds of processor time per file, in the turn that took the least; the aim is at most 1.05. Files were
read before, so what their headers claim is known to be true. A place in an MP3 of variable bit rate takes
longer: libsndfile, by which {before} went there, gives wrong samples after it."""


@dataclass(frozen=True)
class Case:
    """What is measured of a format.

    Attributes:
        name: of the row.
        seconds: length of the files.
        number: of files.
        call: name of one of `CALLS`.
    """

    name: str
    seconds: float
    number: int
    call: str


CASES = (
    Case("0.5 s", 0.5, 40, "whole"),
    Case("1 s", 1.0, 40, "whole"),
    Case("5 s", 5.0, 20, "whole"),
    Case("5 s, header", 5.0, 20, "header"),
    Case("20 s", 20.0, 6, "whole"),
    Case("60 s", 60.0, 3, "whole"),
    Case("5 s out of 60 s", 60.0, 3, "segments"),
)


def calls() -> dict[str, Callable[[str], Any]]:
    """Return what is measured, by name; imported in the process of a version."""
    from slap.audio.reader import AudioFile, header, read

    def segments(path: str) -> None:
        for start in (3.3, 17.1, 29.9, 41.7, 54.2):
            with AudioFile(path) as file:
                file.read(RATE, start, 5.0)

    return {"whole": lambda path: read(path, RATE), "header": header, "segments": segments}


def serve() -> None:
    """Read jobs from stdin, a name of `calls` and files in each line, and write the seconds that each takes."""
    import torch

    torch.set_num_threads(1)
    known = calls()
    for line in sys.stdin:
        call, *files = line.rstrip("\n").split("\t")
        begun = time.process_time()
        for file in files:
            known[call](file)
        print(time.process_time() - begun, flush=True)


class Version:
    """A process that reads with the code of a folder."""

    def __init__(self, source: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        environment |= {
            "MALLOC_MMAP_THRESHOLD_": "1000000000",
            "MALLOC_TRIM_THRESHOLD_": "1000000000",
        }  # else by chance
        command = [sys.executable, str(Path(__file__).resolve()), "--serve"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def take(self, call: str, files: list[Path]) -> float:
        """Return the seconds of processor time that a job takes."""
        assert self._process.stdin
        assert self._process.stdout
        print(call, *files, sep="\t", file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def earlier(revision: str, folder: Path) -> Path:
    """Unpack the package of a revision, and return the folder that is to be imported from."""
    archive = subprocess.run(["git", "archive", revision, "src"], capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder / "src"


def sounds(audio: Path | None, seconds: float, number: int) -> Iterator[np.ndarray]:
    """Yield sounds at 44.1 kHz of a length: of files in a folder, joined, or synthesized."""
    rng = np.random.default_rng(0)
    frames = round(seconds * 44_100)
    if audio:
        from slap.audio.reader import read
        from slap.audio.scan import scan

        files = [audio / found.path for found in scan(audio)]
        for _ in range(number):
            parts: list[np.ndarray] = []
            while sum(map(len, parts)) < frames:
                parts.append(read(files[rng.integers(len(files))], 44_100))
            yield np.concatenate(parts)[:frames]
        return
    for _ in range(number):
        walk = np.cumsum(rng.normal(size=frames))
        yield (0.5 * walk / np.abs(walk).max() + 0.02 * rng.normal(size=frames)).clip(-0.9, 0.9)


def written(folder: Path, audio: Path | None, case: Case, kind: str) -> list[Path]:
    """Write the files of a case in a format."""
    files = []
    for number, samples in enumerate(sounds(audio, case.seconds, case.number)):
        files.append(folder / f"{case.seconds:g}-{number}.{kind}")
        if not files[-1].exists():
            with soundfile.SoundFile(files[-1], "w", 44_100, 1, FORMATS[kind]) as file:
                for start in range(0, len(samples), 44_100):
                    file.write(samples[start : start + 44_100])
    return files


def measure(folder: Path, audio: Path | None, before: Version, now: Version, turns: int) -> list[dict[str, Any]]:
    """Measure all cases in all formats."""
    rows = []
    for kind in FORMATS:
        made = [written(folder, audio, case, kind) for case in CASES]
        time.sleep(3)  # what is found in a file is kept only where it was not changed just now
        for case, files in zip(CASES, made, strict=True):
            pairs = []
            for turn in range(turns + 1):  # the first one fills caches
                order = (before, now) if turn % 2 else (now, before)
                taken = {version: version.take(case.call, files) for version in order}
                pairs.append((taken[before], taken[now]))
            each = 1000 / len(files) / (5 if case.call == "segments" else 1)
            early, late = (each * min(taken) for taken in zip(*pairs[1:], strict=True))
            rows.append({"files": f"{kind}, {case.name}", "before, ms": early, "now, ms": late, "ratio": late / early})
            print(rows[-1], file=sys.stderr)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--before", default="6632588", metavar="REVISION", help="the earlier one (default: %(default)s)"
    )
    parser.add_argument("--audio", type=Path, help="a folder of recordings to make the files of")
    parser.add_argument("--turns", type=int, default=15, help="of each (default: %(default)s)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--update", action="store_true", help="replace this benchmark's section of RESULTS.md")
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return
    with tempfile.TemporaryDirectory() as folder:
        before = Version(earlier(arguments.before, Path(folder)))
        now = Version(Path(__file__).resolve().parents[1] / "src")
        rows = measure(Path(folder), arguments.audio, before, now, arguments.turns)
        before.close()
        now.close()
    about = ABOUT.format(before=arguments.before)
    keep("reader", "The reader beside an earlier one", about, rows, arguments.out, arguments.update)


if __name__ == "__main__":
    main()
