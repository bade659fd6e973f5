"""Memory of a table of many rows in a training process and its loading processes.

Writes a table of JSON lines that names one file, opens it as training does, forks workers, lets each look at the clips
that it would read in an epoch, and prints the memory of all processes: PSS, which counts a page that is shared once.

    python benchmarks/table_memory.py --rows 1000000 --workers 8
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from slap.datamodules.manifests import read


def memory(pid: int) -> tuple[float, float]:
    """Return RSS and PSS of a process, in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return found["Rss"] / 1e3, found["Pss"] / 1e3


def write_table(folder: Path, rows: int) -> Path:
    """Write a table with a caption and a label in each row."""
    soundfile.write(folder / "x.wav", np.zeros(16000 * 60), 16000)
    path = folder / "table.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for row in range(rows):
            file.write(
                f'{{"id": "set/{row:09}", "audio": "x.wav", "start": {row % 50}.0, "duration": 10.0, "caption": '
                f'"a dog barks while rain falls on a roof, clip {row}", "label": "dog{row % 50}"}}\n'
            )
    return path


def main() -> None:
    """Print the memory before and after the workers have read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=8, help="forked processes (default: %(default)s)")
    parser.add_argument(
        "--share", type=float, default=1.0, help="share of its clips that each worker reads (default: %(default)s)"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = write_table(Path(folder), asked.rows)
        before, begin = memory(os.getpid())[0], time.perf_counter()
        clips = read.read_manifest(path)
        gc.collect()
        opened, opening = memory(os.getpid())[0], time.perf_counter() - begin
        order = np.random.default_rng(0).permutation(len(clips))
        children, begin = [], time.perf_counter()
        for worker in range(asked.workers):
            child = os.fork()
            if not child:
                mine = order[worker :: asked.workers]
                for number in mine[: round(len(mine) * asked.share)].tolist():
                    clips[number].duration  # noqa: B018
                os.kill(os.getpid(), signal.SIGSTOP)
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, os.WUNTRACED)
        reading = time.perf_counter() - begin
        total = memory(os.getpid())[1] + sum(memory(child)[1] for child in children)
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    print(
        f"{asked.rows} rows: opened in {opening:.1f} s, {opened - before:.0f} MB; with {asked.workers} workers that "
        f"read {asked.share:.0%} of them, {total:.0f} MB in all (PSS), {asked.rows * asked.share / reading:.0f} clips/s"
    )


if __name__ == "__main__":
    main()
