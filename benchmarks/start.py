"""Start-up time: of the command line, and of loading a saved model.

    python benchmarks/start.py --update

Each time is the median of some new processes. The saved model is `base` with random weights, as from `slap export`.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from rows import Row, add_options, finish

from slap.inference.model import Model
from slap.inference.network_backend import NetworkBackend
from slap.inference.saved_model import save
from slap.model.network import Network

ABOUT = """`python benchmarks/start.py`: seconds of new processes, the median of some. Loading: a saved model of
`base` encoders with its checksum, after torch is imported. Files were just written, so disks do not count."""

ARGUMENTS = {
    "audio": {"name": "transformer", "size": "base"},
    "text": {"name": "transformer", "size": "base"},
    "embedding_dim": 512,
    "objectives": {"contrastive": 1.0},
}
LOAD = """
import json, sys, time
import torch
begun = time.perf_counter(), time.process_time()
import slap
slap.load(sys.argv[1], device="cpu")
print(json.dumps({"wall": time.perf_counter() - begun[0], "processor": time.process_time() - begun[1]}))
"""


def processor_time() -> float:
    """Seconds that processes which this one started, and which ended, have computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def help_seconds(clock: str) -> float:
    """Measure the time of `slap --help`."""
    begun = time.perf_counter(), processor_time()
    subprocess.run([sys.executable, "-m", "slap", "--help"], check=True, capture_output=True)
    return time.perf_counter() - begun[0] if clock == "wall" else processor_time() - begun[1]


def load_seconds(folder: Path, clock: str) -> float:
    """Measure the time of loading, and of importing this library, beyond that of importing torch."""
    done = subprocess.run([sys.executable, "-c", LOAD, str(folder)], check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)[clock])


def saved_model(folder: Path) -> Path:
    """Make a saved model with random weights."""
    torch.manual_seed(0)
    network = Network(**ARGUMENTS)
    save(Model(NetworkBackend(network, ARGUMENTS)), folder, allow_collapsed=True)
    return folder


def run(options: argparse.Namespace) -> list[Row]:
    """Measure; the rows of the table."""
    with tempfile.TemporaryDirectory() as folder:
        saved = saved_model(Path(folder))
        size = sum(path.stat().st_size for path in saved.iterdir()) / 1e6
        loading = [load_seconds(saved, options.clock) for _ in range(options.turns)]
    helping = [help_seconds(options.clock) for _ in range(options.turns)]
    rows = []
    for what, limit, seconds in (
        ("`slap --help`", 1.0, helping),
        (f"loading a saved model of `base` encoders beyond importing torch ({size:.0f} MB)", 2.0, loading),
    ):
        took = statistics.median(seconds)
        rows.append(Row(f"{what}, against {limit:g} s", "s", limit, took, took / limit, at_most=1.0))
    return rows


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("--turns", type=int, default=3, help="(default: %(default)s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    configure(parser)
    add_options(parser)
    finish("start", "Starting", ABOUT, run, parser.parse_args())


if __name__ == "__main__":
    main()
