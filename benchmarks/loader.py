"""The loader beside bare decoding: clips and seconds of audio a second, for each format and number of workers.

    python benchmarks/loader.py --audio ../shared/data/esc10 --short ../shared/data/fsdd/recordings

The same clips are decoded by soundfile, averaged to mono and resampled by torchaudio to 16 kHz, and nothing else: the
floor. The loader does that too, and shuffles, batches, checks, draws captions, tokenizes, packs, and hands over between
processes. Both take turns, each with as many processes and one thread; the overhead is the median over the rounds of
the loader's time over the floor's, less one. The aim is at most 15 %.

Without `--audio`, clips of 5 s at 44.1 kHz are synthesized. `--short` adds a row for very short clips.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from results import keep
from torch.utils.data import DataLoader, Dataset
from torchaudio.transforms import Resample

from slap.audio.scan import scan

RATE = 16000
FORMATS = {"wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS"}
ABOUT = """`python benchmarks/loader.py --audio ... --short ... --update`

The floor is bare soundfile decoding and torchaudio resampling of the same files by as many processes in the same run,
in turns; overhead is the median of the rounds. The aim is at most 15 %. On a machine that does other things too, the
overhead in processor time, known without workers alone, is steadier than that in time."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, help="a folder of audio files, also in sub-folders")
    parser.add_argument("--short", type=Path, help="a folder of short WAV files")
    parser.add_argument("--clips", type=int, default=320, help="of each kind at most (default: %(default)s)")
    parser.add_argument("--passes", type=int, default=4, help="over the clips in an epoch (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="of each measurement (default: %(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="of the loader (default: 0 1 2)")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--update", action="store_true", help="replace this benchmark's section of RESULTS.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, manifest, files in kinds(Path(folder), arguments.audio, arguments.short, arguments.clips):
            for workers in arguments.workers:
                figures = measure(manifest, files, workers, arguments.passes, arguments.rounds)
                rows.append({"clips": name, "workers": workers, **figures})
    keep("loader", "The loader beside bare decoding", ABOUT, rows, arguments.out, arguments.update)


def kinds(folder: Path, audio: Path | None, short: Path | None, most: int) -> list[tuple[str, Path, list[Path]]]:
    """Return for each kind of clips its name, its manifest, and the files that the lower bound decodes."""
    found = []
    for kind, subtype in FORMATS.items():
        files = []
        for number, (samples, rate) in enumerate(sources(audio, most)):
            files.append(folder / kind / f"{number}.{kind}")
            files[-1].parent.mkdir(exist_ok=True)
            soundfile.write(files[-1], samples, rate, subtype=subtype)
        found.append((kind, manifest_of(folder / f"{kind}.jsonl.gz", files), files))
    found.append(("Shar (flac)", packed(found[0][1], folder / "shards"), found[1][2]))
    if short:
        files = sorted(short.rglob("*.wav"))[: 4 * most]
        found.append(("wav, short", manifest_of(folder / "short.jsonl.gz", files), files))
    return found


def sources(audio: Path | None, most: int) -> Any:
    """Samples and rates: of files in a folder, or synthesized."""
    if audio is None:
        rng = np.random.default_rng(0)
        for _ in range(most):
            walk = np.cumsum(rng.normal(size=5 * 44100))
            yield 0.9 * walk / np.abs(walk).max(), 44100
        return
    files = [audio / found.path for found in scan(audio)]
    for path in files[:: max(len(files) // most, 1)][:most]:
        yield soundfile.read(path, dtype="float32")


def manifest_of(path: Path, files: Sequence[Path]) -> Path:
    from lhotse import Recording, SupervisionSegment

    from slap.datamodules import write_cuts

    cuts = []
    for file in files:
        cut = Recording.from_file(file).to_cut()
        cut.supervisions = [
            SupervisionSegment(f"{cut.id}-{n}", cut.id, 0.0, cut.duration, text=f"a sound called {cut.id}, way {n}")
            for n in range(3)
        ]
        cuts.append(cut)
    return write_cuts(path, cuts)


def packed(manifest: Path, out: Path) -> Path:
    from slap.datamodules.shar.write import pack

    pack(manifest, out, shard_size=100, workers=0)
    return out


def measure(manifest: Path, files: Sequence[Path], workers: int, passes: int, rounds: int) -> dict[str, Any]:
    """Measure both alternately."""
    from slap.core.packed import Packed
    from slap.datamodules import AudioTextData

    files = [*files] * passes
    data = AudioTextData(manifest, max_duration=100.0, repeats=passes, num_workers=workers)
    data.connect(RATE, lambda captions: Packed.pack([torch.tensor(list(text.encode())) for text in captions]))
    loader = data.train_dataloader()
    bare = DataLoader(
        Bare(files, max(workers, 1)), batch_size=None, num_workers=workers, persistent_workers=workers > 0
    )
    times: dict[str, list[float]] = {"floor": [], "loader": []}
    shares: list[float] = []  # of processor time, for what others on the machine take does not count there
    for number in range(rounds + 1):  # the first one starts workers and fills caches
        started, begun = time.perf_counter(), time.process_time()
        seconds = sum(bare)
        middle, halfway = time.perf_counter(), time.process_time()
        loader.sampler.set_epoch(number)
        loaded = sum(batch.audio.layout.total for batch in loader) / RATE
        ended, done = time.perf_counter(), time.process_time()
        assert abs(loaded - seconds) < 1 + 0.001 * seconds
        if number:
            times["floor"].append(middle - started)
            times["loader"].append(ended - middle)
            shares.append((done - halfway) / (halfway - begun))
    loader.close()
    median = {name: statistics.median(values) for name, values in times.items()}
    ratios = [late / early for early, late in zip(times["floor"], times["loader"], strict=True)]
    return {
        "clips/s": len(files) / median["loader"],
        "audio s/s": seconds / median["loader"],
        "floor, clips/s": len(files) / median["floor"],
        "overhead, %": 100 * (statistics.median(ratios) - 1),
        "of processor time, %": 100 * (statistics.median(shares) - 1) if not workers else "",
        "a clip, ms more": 1e3 * (median["loader"] - median["floor"]) / len(files),
    }


@dataclass
class Bare(Dataset[float]):
    """Decodes files and keeps nothing; item i is every n-th of them, and gives their seconds."""

    files: Sequence[Path]
    parts: int

    def __len__(self) -> int:
        return self.parts

    def __getitem__(self, part: int) -> float:
        if part >= self.parts:
            raise IndexError
        samples = 0
        for path in self.files[part :: self.parts]:
            audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
            mono = torch.from_numpy(audio).mean(dim=1)
            samples += len(mono if rate == RATE else resampler(rate)(mono))
        return samples / RATE


_resamplers: dict[int, Resample] = {}


def resampler(rate: int) -> Resample:
    if rate not in _resamplers:
        _resamplers[rate] = Resample(rate, RATE)
    return _resamplers[rate]


if __name__ == "__main__":
    main()
