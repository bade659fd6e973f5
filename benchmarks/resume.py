"""Time to resume deep in an epoch: opening the manifest, comparing its content, computing the epoch, skipping batches.

    python benchmarks/resume.py --clips 1000000
    python benchmarks/resume.py --clips 1000000 --table
    python benchmarks/resume.py --clips 10000000 --arrays

Clips of exp(N(1.6, 0.8)) s, cut to 0.5 to 30 s. By default a manifest with this number of cuts is written first, by
`write_cuts` with its index, and opened as in training; with `--table` it is a .csv with segments of one file. With
`--arrays` only lengths are generated, which shows how the rest grows. It prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
import soundfile
from lhotse import MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource

from slap.datamodules.content import content_of
from slap.datamodules.manifests.cuts import write_cuts
from slap.datamodules.manifests.read import read_manifest
from slap.datamodules.sampling.basis import basis
from slap.datamodules.sampling.position import Position
from slap.datamodules.sampling.sampler import TrainSampler

RATE = 16_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--max-duration", type=float, default=600.0)
    parser.add_argument("--num-buckets", type=int, default=30)
    parser.add_argument("--at", type=float, default=0.9, help="share of the epoch that was trained on")
    parser.add_argument("--world-size", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="with a .csv in place of a manifest of cuts")
    parser.add_argument("--arrays", action="store_true", help="without a manifest")
    options = parser.parse_args()
    seconds = np.clip(np.exp(np.random.default_rng(0).normal(1.6, 0.8, options.clips)), 0.5, 30.0)
    times: dict[str, float] = {}
    if options.arrays:
        lengths, keys = (seconds * RATE).astype(np.int64), np.arange(options.clips)
    else:
        with tempfile.TemporaryDirectory() as folder:
            there = Path(folder)
            path = table(there, options.clips) if options.table else write_cuts(there / "cuts.jsonl.gz", cuts(seconds))
            started = perf_counter()
            clips = read_manifest(path)
            lengths, keys = clips.samples(RATE), clips.keys
            times["open_s"] = perf_counter() - started
            started = perf_counter()
            content_of([path], [clips], hash_audio=False)
            times["compare_s"] = perf_counter() - started
    print(json.dumps(measured(options, lengths, keys, times)))


def measured(options: argparse.Namespace, lengths: np.ndarray, keys: np.ndarray, times: dict[str, float]) -> dict:
    budget = round(options.max_duration * RATE)
    sampler = TrainSampler(lengths, budget, None, options.num_buckets, seed=0, world_size=options.world_size)
    started = perf_counter()
    basis(keys, sampler)
    times["fingerprint_s"] = perf_counter() - started
    batches = sum(1 for _ in sampler)
    done = int(batches * options.at)
    sampler.begin_at(Position(0, done))
    started = perf_counter()
    next(iter(sampler))
    times["first_batch_s"] = perf_counter() - started
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    about = {"clips": options.clips, "world_size": options.world_size, "batches": batches, "after": done}
    return {**about, **{name: round(value, 2) for name, value in times.items()}, "peak_gb": round(gigabytes, 2)}


def cuts(seconds: np.ndarray) -> Iterator[MonoCut]:
    """Cuts of files that are not there; nothing reads them."""
    for i, duration in enumerate(seconds.round(3).tolist()):
        samples = round(duration * RATE)
        source = AudioSource("file", [0], f"/clips/{i}.wav")
        recording = Recording(f"c{i}", [source], RATE, samples, samples / RATE)
        caption = SupervisionSegment(f"c{i}", f"c{i}", 0.0, samples / RATE, text="a sound of something")
        yield MonoCut(f"c{i}", 0.0, samples / RATE, 0, [caption], recording=recording)


def table(folder: Path, count: int) -> Path:
    """Write a table of segments of one file, each of 1 s."""
    rate = 1000  # which starts a segment at each sample
    soundfile.write(folder / "clip.wav", np.zeros(count + rate, np.int16), rate)
    rows = (f"clip.wav,{i / rate},1.0,a sound of something {i}\n" for i in range(count))
    path = folder / "clips.csv"
    with path.open("w") as file:
        file.writelines(["audio,start,duration,caption\n", *rows])
    return path


if __name__ == "__main__":
    main()
