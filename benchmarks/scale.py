"""Sampling, opening and continuing at 10^5 to 10^8 pairs for 1, 8 and 512 processes, simulated in one process each.

    python benchmarks/scale.py
    python benchmarks/scale.py --clips 100000000 --processes 512
    python benchmarks/scale.py --quality

A manifest of so many pairs is simulated by its index alone: shards of 1,000 clips of exp(N(1.6, 0.8)) s, cut to 0.5 to
30 s, with the arrays that `slap pack` keeps beside a folder of shards, 17 bytes per pair, and no audio. Each case runs
in a process of its own, which opens the index, makes the sampler of one rank, takes its first batch, goes on at 90 % of
the epoch, and deals a section out to all ranks. With `--quality` the shuffle is compared with an exact one.

Times are processor time, which does not count what else the machine does; memory is the peak beyond what the process
had with its modules loaded.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from results import keep

from slap.core.files import FileStamp
from slap.datamodules.manifests.collection import every_source
from slap.datamodules.manifests.cut_index import VERSION, _digest, load_index
from slap.datamodules.manifests.cuts import CutManifest
from slap.datamodules.manifests.index_file import LEFT
from slap.datamodules.sampling.basis import basis
from slap.datamodules.sampling.epoch import Source
from slap.datamodules.sampling.position import Position
from slap.datamodules.sampling.sampler import TrainSampler

RATE = 16_000
SHARD = 1000
"""Clips of a shard."""

BUDGET = 600
"""Seconds of audio per batch, as in the recipe `base`."""

ABOUT = """`python benchmarks/scale.py --update`

A folder of shards of 1,000 clips that is simulated by its index. Seconds of processor time, MB beyond the process with
its modules loaded. `open`: reading and checking the index; `fingerprint`: what a checkpoint compares; `first`: the
first batch of a rank, with opening; `at 90 %`: the same in the last tenth of the epoch, from a position of a
checkpoint; `section`: dealing the next section of at most 2 million clips out, which comes once per `steps` steps.
`shards a rank`: shards that a rank reads of a section, and `reads of a shard`: ranks that read one, on average over all
ranks."""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[10**5, 10**6, 10**8], help="pairs of the manifest")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 8, 512], help="ranks that are simulated")
    parser.add_argument("--quality", action="store_true", help="compare the shuffle with an exact one instead")
    parser.add_argument("--folder", type=Path, help="folder for the simulated indices (default: a temporary one)")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--update", action="store_true", help="replace this benchmark's section of RESULTS.md")
    options = parser.parse_args()
    if options.quality:
        rows = [_alone(quality, *case) for case in CASES]
        keep("shuffle", "Quality of the shuffle", ABOUT_QUALITY, rows, options.out, options.update)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = []
        for clips in options.clips:
            path = Path(folder) / f"{clips}"
            _alone(write_index, path, clips)
            rows += [_alone(measured, path, clips, processes) for processes in options.processes]
            path.with_name(f"{path.name}.index").unlink()
    keep("scale", "Sampling for many pairs and processes", ABOUT, rows, options.out, options.update)


def write_index(path: Path, clips: int) -> None:
    """Write the index of a folder of shards that are not there."""
    path.mkdir()
    with path.with_name(f"{path.name}.blocks").open("wb") as blocks:
        blocks.truncate(clips // 64 + 1)  # of no content: nothing is decoded here
    rng, count = np.random.default_rng(0), clips // 64 + 1
    durations = np.concatenate([_durations(rng, min(SHARD * 1000, clips - at)) for at in range(0, clips, SHARD * 1000)])
    arrays = {
        "durations": durations,
        "keys": np.arange(clips) * 0x5851F42D4C957F2D,
        "origins": np.empty((0, 2), np.int64),
        "firsts": np.minimum(np.arange(count + 1) * 64, clips),
        "lines": np.arange(count) * 64 + 1,
        "offsets": np.arange(count + 1),
        "parts": np.append(np.arange(0, clips, SHARD), clips),
        "uncaptioned": np.empty(0, np.int64),
    }
    stamp = FileStamp.of(path)
    known: dict[str, Any] = {"version": VERSION, "tasks": [], "size": stamp.size, "time": stamp.mtime_ns, "bad": []}
    known |= {"digest": _digest(path), "copied": True, "blocks": count, "digests": dict.fromkeys(LEFT, "simulated")}
    with path.with_name(f"{path.name}.index").open("wb") as file:
        np.savez(file, about=np.frombuffer(json.dumps(known).encode(), np.uint8), **arrays)


def measured(path: Path, clips: int, processes: int) -> dict[str, Any]:
    """Measure one rank."""
    before, times = _peak(), {}
    started = time.process_time()
    index = load_index(path)
    assert index is not None, "the simulated index does not fit"
    manifest = CutManifest(path, index)
    times["open"] = time.process_time() - started
    sampler = _sampler(manifest, processes)
    requests = iter(sampler)
    next(requests)
    times["first"] = time.process_time() - started
    first_memory = _peak() - before
    started = time.process_time()
    basis(manifest.lasting, sampler)
    times["fingerprint"] = time.process_time() - started
    steps = sampler.steps_in(0)
    number = int(sampler.sections * 0.9)
    done = int(steps * (sampler.sections * 0.9 - number))
    legs = ((processes, done),) if done else ()
    again = _sampler(manifest, processes)
    again.begin_at(Position(0, number * steps + done, number, number * steps, legs))
    started = time.process_time()
    next(iter(again))
    times["at 90 %"] = time.process_time() - started
    started = time.process_time()
    occurrences, _, dealt = again._steps_of(1, 0, ())
    times["section"] = time.process_time() - started
    read = [
        len(np.unique(occurrences[np.concatenate([step[rank] for step in dealt])] // SHARD))
        for rank in range(processes)
    ]
    section_shards = len(np.unique(occurrences // SHARD))
    return {
        "pairs": f"{clips:,}",
        "processes": processes,
        "sections": sampler.sections,
        "steps": steps,
        **{f"{name}, s": round(value, 2) for name, value in times.items()},
        "first, MB": round(first_memory),
        "most, MB": round(_peak() - before),
        "shards a rank": round(float(np.mean(read)), 1),
        "reads of a shard": round(sum(read) / section_shards, 2),
    }


def _sampler(manifest: CutManifest, processes: int) -> TrainSampler:
    lengths = manifest.samples(RATE, 30 * RATE)
    last = processes - 1
    return TrainSampler(lengths, BUDGET * RATE, None, 1, 0, last, processes, every_source([manifest]))


def _durations(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.clip(np.exp(rng.normal(1.6, 0.8, count)), 0.5, 30.0)


ABOUT_QUALITY = """`python benchmarks/scale.py --quality --update`

2 million clips in shards of 1,000, one epoch and the next. `neighbors`: correlation of the place in the manifest of a
clip and the next one of the stream of a process, 0 in an exact shuffle; `shards per 100 clips`: different shards among
100 clips in a row on a process; `share of different shards per step`: of 100 clips of each process; `early`: share of
the clips of the first hundredth of the next epoch that came in the last hundredth of this one, 0.01 in an exact shuffle
(time to first repeat); `median`: the median distance between two occurrences of a clip in epochs, 1.0 in an exact
shuffle."""

SHUFFLED = 2_000_000
"""Clips of which the shuffle is looked at; sections have a tenth of them."""

CASES = [
    ("exact, no shards", None, 10**9, 1),
    ("ten sections, no shards", None, SHUFFLED // 10, 1),
    ("shards, one section", SHARD, 10**9, 1),
    ("shards, ten sections", SHARD, SHUFFLED // 10, 1),
    ("shards, ten sections", SHARD, SHUFFLED // 10, 8),
    ("shards, ten sections", SHARD, SHUFFLED // 10, 512),
]


def quality(name: str, shard: int | None, shuffle_clips: int, processes: int) -> dict[str, Any]:
    """Measure how well an epoch is shuffled, with one length of clips."""
    parts = None if shard is None else np.append(np.arange(0, SHUFFLED, shard), SHUFFLED)
    sampler = TrainSampler(
        np.full(SHUFFLED, RATE),
        100 * RATE,
        None,
        1,
        0,
        0,
        processes,
        [Source(0, SHUFFLED, parts=parts)],
        0,
        1,
        shuffle_clips,
    )
    lane, early, place = [], np.zeros(0, np.int64), np.empty(SHUFFLED, np.float32)
    wide = []
    at = 0
    for number, step in enumerate(sampler.steps(0)):
        lane.append(step[0])
        if number < 2000 // processes + 1:
            wide.append(len(np.unique(np.concatenate(step) // SHARD)) / min(SHUFFLED // SHARD, 100 * processes))
        clips = np.concatenate(step)
        place[clips] = np.linspace(at, at + len(clips), len(clips), endpoint=False) / SHUFFLED
        at += len(clips)
    stream = np.concatenate(lane)
    shards = [len(np.unique(stream[i : i + 100] // SHARD)) for i in range(0, len(stream) - 100, 9973)]
    distances = []
    at = 0
    for step in sampler.steps(1):
        clips = np.concatenate(step)
        found = np.linspace(at, at + len(clips), len(clips), endpoint=False) / SHUFFLED + 1 - place[clips]
        distances.append(found.astype(np.float32))
        if at < SHUFFLED // 100:
            early = np.append(early, place[clips] > 0.99)
        at += len(clips)
    return {
        "shuffle": name,
        "processes": processes,
        "neighbors": round(float(np.corrcoef(stream[:-1], stream[1:])[0, 1]), 3),
        "shards per 100 clips": round(float(np.mean(shards)), 1),
        "share of different shards per step": round(float(np.mean(wide)), 3),
        "early": round(float(early.mean()), 4),
        "first repeat after": round(float(min(d.min() for d in distances)), 5),
        "median": round(float(np.median(np.concatenate(distances))), 2),
    }


def _alone(function: Any, *arguments: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


if __name__ == "__main__":
    main()
