"""Recall of `slap overlap` for changed copies of clips, and its false matches.

    python benchmarks/fingerprints.py ../shared/data/esc10 --suffix .ogg --clips 100
    python benchmarks/fingerprints.py ../shared/data/fsdd/recordings --suffix .wav --clips 100

All recordings below the folder are indexed. The given number of them, if they are long and loud enough, are changed in
each way and looked up: `found` is the share of them for which the right clip is found. `wrong` are pairs of unchanged
recordings that count as the same. They are listed by name, since some may be copies.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile
from lhotse import AudioSource, MonoCut, Recording
from torchaudio.functional import resample

from slap.datamodules.overlap.fingerprint import Fingerprint, fingerprint
from slap.datamodules.overlap.fingerprint_index import FEWEST, FingerprintIndex

Guise = Callable[[np.ndarray, int, np.random.Generator], tuple[np.ndarray, int, str, dict[str, float]]]


def at(rate: int) -> Guise:
    """Resample."""
    return lambda x, was, _: (resample(x, was, rate), rate, ".flac", {})


def noise(decibel: float) -> Guise:
    """Add white noise so many dB below the clip."""
    return lambda x, rate, rng: (
        x + rng.normal(size=len(x)) * np.sqrt(np.mean(x**2)) * 10 ** (-decibel / 20), rate, ".flac", {}
    )  # fmt: skip


def part(share: float, suffix: str) -> Guise:
    """Cut a share out, at a random place."""

    def cut(x: np.ndarray, rate: int, rng: np.random.Generator) -> tuple[np.ndarray, int, str, dict[str, float]]:
        length = round(share * len(x))
        begin = int(rng.integers(0, len(x) - length + 1))
        return x[begin : begin + length], rate, suffix, {}

    return cut


GUISES: dict[str, Guise] = {
    "flac": lambda x, rate, _: (x, rate, ".flac", {}),
    "ogg": lambda x, rate, _: (x, rate, ".ogg", {}),
    "ogg, worst quality": lambda x, rate, _: (x, rate, ".ogg", {"compression_level": 1.0}),
    "mp3": lambda x, rate, _: (x, rate, ".mp3", {}),
    "mp3, worst quality": lambda x, rate, _: (x, rate, ".mp3", {"compression_level": 0.99}),
    "20 dB softer": lambda x, rate, _: (0.1 * x, rate, ".flac", {}),
    "16 kHz": at(16000),
    "8 kHz": at(8000),
    "middle 80 %": lambda x, rate, _: (x[len(x) // 10 : -(len(x) // 10)], rate, ".flac", {}),
    "40 %, mp3": part(0.4, ".mp3"),
    "noise at -20 dB": noise(20),
    "noise at -10 dB": noise(10),
}


def cut_of(path: Path) -> MonoCut:
    """Return a file as a clip."""
    header = soundfile.info(str(path))
    source = AudioSource("file", [0], str(path))
    recording = Recording(path.stem, [source], header.samplerate, header.frames, header.duration)
    return MonoCut(path.stem, 0.0, header.duration, 0, [], None, recording)


def looked_up(files: list[Path], index: FingerprintIndex, chosen: list[int], seed: int) -> Iterator[tuple[str, float]]:
    """Compute the share of clips that are found again, for each kind of change."""
    with tempfile.TemporaryDirectory() as folder:
        for name, guise in GUISES.items():
            rng = np.random.default_rng(seed)
            found = 0
            for number in chosen:
                samples, rate = soundfile.read(files[number], dtype="float32")
                changed, new_rate, suffix, how = guise(samples, rate, rng)
                path = Path(folder, f"x{suffix}")
                soundfile.write(path, changed, new_rate, **how)
                found += number in {match.clip for match in index.matches(fingerprint(cut_of(path)))}
            yield name, found / len(chosen)


def main() -> None:
    """Measure, and print a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--suffix", default=".wav")
    parser.add_argument("--clips", type=int, default=100, help="how many to change in each way")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    files = sorted(arguments.folder.rglob(f"*{arguments.suffix}"))
    began = time.process_time()
    known: list[Fingerprint] = [fingerprint(cut_of(path)) for path in files]
    spent = time.process_time() - began
    seconds = sum(soundfile.info(str(path)).duration for path in files)
    index = FingerprintIndex(known)
    wrong = [
        f"{files[number].stem} = {files[match.clip].stem} ({100 * match.different:.0f} %, {match.seconds:.1f} s)"
        for number, one in enumerate(known)
        for match in index.matches(one)
        if match.clip > number
    ]
    usable = [number for number, one in enumerate(known) if one.sound.sum() >= FEWEST]
    print(
        f"{len(files)} clips, {seconds:.0f} s, {len(usable)} long and loud enough; {seconds / spent:.0f} s a CPU second"
    )
    chosen = random.Random(arguments.seed).sample(usable, min(arguments.clips, len(usable)))
    shares = {}
    for name, share in looked_up(files, index, chosen, arguments.seed):
        shares[name] = share
        print(f"  {name:<20} {100 * share:5.1f} %", flush=True)
    print(f"{len(wrong)} of {len(files) * (len(files) - 1) // 2} pairs count as the same: {'; '.join(wrong) or '-'}")
    print(json.dumps({"clips": len(files), "looked_up": len(chosen), "found": shares, "same": wrong}))


if __name__ == "__main__":
    main()
