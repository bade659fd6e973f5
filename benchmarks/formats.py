"""Audio formats beside FFmpeg: a random walk of files that its program writes, read here and by that program.

    python benchmarks/formats.py                        # 240 files, with the `ffmpeg` program of the system
    python benchmarks/formats.py --variants 2000 --seed 1 --keep FOLDER

Files differ in codec, container, rate, channels, and in the way they were made (`variants.py`). Each is read in use
(`slap.audio.reader`), in training (`slap.datamodules`) and as `slap prepare` measures it, and compared with what the
`ffmpeg` program decodes: the signal over the difference in dB once both are aligned, the length in packets of the
codec, segments against slices of the whole. A file of which FFmpeg decodes nothing must be refused. Every deviation is
a fault, and is listed; the exit status is 1 if there is one. `--keep` copies the files of faults.

T frames, C channels.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import keep
from variants import WAYS, Variant, make, sound, walk

from slap.audio.reader import AudioError, AudioFile

LEAST_DB = 60.0
"""Difference from FFmpeg's samples, dB below the signal, that a file must reach."""

NOISE_DB = 6.0
"""The same for segments of codecs whose decoders fill in random noise; samples that are one late come to -3 dB."""

SAME_DB = 100.0
"""The same between training and use, which resample in blocks of other lengths."""

FARTHEST = 8192
"""Frames by which the two may be shifted, within which they are aligned."""

RATE = 16_000
"""Hz at which training and use are compared."""

ABOUT = """`python benchmarks/formats.py --update`

Files that the `ffmpeg` program writes, read here and by that program. `same`: the difference from FFmpeg's samples is
at least 60 dB below the signal in all channels, the length is the same within a packet of the codec, segments equal
slices of the whole (of AAC and AC-3, whose decoders fill in random noise, they lie in the right place), training and
`slap prepare` agree, and `AudioFile.note` says if a part is missing (but of streams that do not show it, e.g. ADTS);
`told`: number of these notes. `refused`: nothing can be decoded, by FFmpeg neither. `faults`: anything else.
The other columns are the worst of the files that were read: `dB`, `length` in packets of the codec, `segments` in
dB."""


@dataclass
class Outcome:
    """A variant as it was read.

    Attributes:
        variant: the variant.
        refused: the reason why it is not read, if it is not.
        faults: what is wrong, for people.
        db: signal over difference from FFmpeg's samples, dB; infinite where they are equal.
        length: frames more than FFmpeg's, in packets of the codec.
        segments: the same as `db`, of segments over slices of the whole, the worst.
        note: what the reader says is missing.
    """

    variant: Variant
    refused: str = ""
    faults: list[str] = field(default_factory=list)
    db: float = math.inf
    length: float = 0.0
    segments: float = math.inf
    note: str = ""


def reference(path: Path, program: str) -> tuple[np.ndarray, int]:
    """Return what FFmpeg decodes of the track that it takes by itself, (T, C) float32, and its rate."""
    command = [program, "-nostdin", "-loglevel", "quiet", "-i", str(path), "-vn", "-c:a", "pcm_f32le", "-f", "wav"]
    raw = subprocess.run([*command, "pipe:1"], capture_output=True, check=False).stdout
    about, data = raw.find(b"fmt "), raw.find(b"data")
    if min(about, data) < 0:
        return np.zeros((0, 1), np.float32), 0
    channels, rate = struct.unpack_from("<HI", raw, about + 10)
    samples = np.frombuffer(raw[data + 8 :], "<f4", (len(raw) - data - 8) // 4)
    return samples[: len(samples) // channels * channels].reshape(-1, channels), rate


def measure(variant: Variant, path: Path, program: str) -> Outcome:
    """Read a variant in all ways, and compare."""
    found = Outcome(variant)
    right, rate = reference(path, program)
    if not len(right) and variant.way != "cut":
        right, rate = sound(variant), variant.rate  # FFmpeg refuses what it wrote; then the original is what is right
    try:
        samples, own = read(path)
    except AudioError as error:
        found.refused = error.reason
        if len(right):
            found.faults.append(f"FFmpeg decodes {len(right)} frames of it, but: {error}")
        elif path.name not in str(error):
            found.faults.append(f"the error does not name the file: {error}")
    except Exception as error:
        found.faults.append(f"{type(error).__name__}: {error}")
    else:
        if not len(right):
            found.faults.append(f"FFmpeg decodes nothing of it, but there are {len(samples)} frames")
        elif samples.shape[1] != right.shape[1] or own != rate:
            found.faults.append(f"{samples.shape[1]} x {own} Hz, but by FFmpeg {right.shape[1]} x {rate} Hz")
        else:
            compare(found, samples, right)
            segments(found, path, samples, own)
            whole(found, path, len(samples) / own)
    elsewhere(found, path)
    return found


def read(path: Path, start: float = 0.0, duration: float | None = None) -> tuple[np.ndarray, int]:
    """Read (T, C) at the file's own rate, and return it with the rate."""
    with AudioFile(path) as file:
        own = file.header.rate
        parts = file.blocks(own, start, duration, mix=lambda block: block.T.copy())
        return np.concatenate(list(parts), -1).T, own


def compare(found: Outcome, samples: np.ndarray, right: np.ndarray) -> None:
    """Note the difference from FFmpeg's samples in level and in length."""
    frame = found.variant.kind.frame
    found.length = (len(samples) - len(right)) / frame
    if abs(len(samples) - len(right)) > frame:
        found.faults.append(f"{len(samples)} frames, by FFmpeg {len(right)}")
    if found.variant.way == "joined, other rate":  # FFmpeg drops what its resampler holds back at the seam
        half = len(right) // 3
        samples, right = samples[:half], right[:half]
    shift = aligned(samples.mean(1), right.mean(1))
    ours, theirs = samples[max(shift, 0) :], right[max(-shift, 0) :]
    common = min(len(ours), len(theirs))
    found.db = decibels(theirs[:common], ours[:common])
    if found.db < LEAST_DB:
        found.faults.append(f"{found.db:.1f} dB from FFmpeg's samples, aligned by {shift} frames")
    elif abs(shift) > frame:
        found.faults.append(f"{shift} frames later than by FFmpeg")


def whole(found: Outcome, path: Path, seconds: float) -> None:
    """Check that what is missing is told, and that late audio is known to begin late, within a picture and a packet."""
    variant = found.variant
    with AudioFile(path) as file:
        for _ in file.blocks(file.header.rate):
            pass
        packet = variant.kind.frame / file.header.rate
        begins, found.note = file.begins, file.note
    if abs(begins - variant.late) > 0.06 + packet:
        found.faults.append(f"begins at {begins:.3f} s, but was made to begin at {variant.late:.3f} s")
    made = variant.seconds * (2 if variant.way.startswith("joined") else 1)
    if made - seconds > 0.1 + packet and variant.kind.tells and not found.note:
        found.faults.append(f"{seconds:.2f} s of {made:.2f} s are there, and nothing is said")
    if found.note and made <= seconds and variant.way != "cut":
        found.faults.append(f"nothing is missing, but it is said: {found.note}")


def aligned(ours: np.ndarray, theirs: np.ndarray) -> int:
    """Return the number of frames by which ours, (T,), come later than theirs."""
    if np.array_equal(ours[: len(theirs)], theirs[: len(ours)]):
        return 0
    size = 1 << (len(ours) + len(theirs)).bit_length()
    product = np.fft.rfft(ours, size) * np.fft.rfft(theirs, size).conj()
    correlation = np.fft.irfft(product, size)
    near = np.r_[0 : FARTHEST + 1, -FARTHEST:0] if size > 2 * FARTHEST else np.arange(size)
    shift = int(near[correlation[near].argmax()])
    return shift - size if shift > size // 2 else shift


def decibels(right: np.ndarray, other: np.ndarray) -> float:
    """Return the signal over the difference, dB."""
    difference = float(np.square(right - other, dtype=np.float64).sum())
    return (
        10 * math.log10(max(float(np.square(right, dtype=np.float64).sum()), 1e-30) / difference)
        if difference
        else math.inf
    )


def segments(found: Outcome, path: Path, samples: np.ndarray, own: int) -> None:
    """Compare segments from random frames with slices of the whole."""
    rng = random.Random(found.variant.seed)
    for _ in range(3):
        first = rng.randrange(len(samples))
        frames = rng.randint(1, len(samples) - first)
        try:
            part, _ = read(path, first / own, frames / own)
        except AudioError as error:
            found.faults.append(f"{frames} frames from {first} of {len(samples)}: {error}")
            return
        part, slice_ = part[:frames], samples[first : first + frames]
        worst = decibels(slice_, part) if len(part) == len(slice_) else -math.inf
        found.segments = min(found.segments, worst)
        if worst < (NOISE_DB if found.variant.kind.noisy else LEAST_DB):
            found.faults.append(f"{frames} frames from {first} of {len(samples)}: {worst:.1f} dB, {len(part)} frames")
            return


def elsewhere(found: Outcome, path: Path) -> None:
    """Compare training with use, and with both the length by `slap prepare`."""
    from slap.datamodules.prepare.headers import Fault, read_header

    used = in_use(path)
    measured = read_header(str(path))
    if isinstance(measured, Fault):
        if not isinstance(used, str):
            found.faults.append(f"read in use, but {measured.kind} in prepare: {measured.detail}")
        return
    trained = in_training(path, measured)
    if isinstance(used, str) or isinstance(trained, str):
        if used != trained:
            what = [part if isinstance(part, str) else f"{len(part)} samples" for part in (used, trained)]
            found.faults.append(f"{what[0]} in use, but {what[1]} in training, {measured.duration:.3f} s in prepare")
    elif len(used) != len(trained):
        found.faults.append(f"{len(used)} samples in use, {len(trained)} in training")
    elif (same := decibels(used.numpy(), trained.numpy())) < SAME_DB:
        found.faults.append(f"{same:.1f} dB between use and training")
    elif abs(len(used) / RATE - measured.duration) > 1 / RATE + 1 / measured.rate:
        found.faults.append(f"{len(used) / RATE:.4f} s in use, {measured.duration:.4f} s in prepare")


def in_use(path: Path) -> torch.Tensor | str:
    """Return the samples, (T',), or the reason why there are none."""
    try:
        with AudioFile(path) as file:
            return file.read(RATE)
    except AudioError as error:
        return error.reason


def in_training(path: Path, measured: Any) -> torch.Tensor | str:
    """Return the same of a clip of a manifest that `slap prepare` wrote."""
    from lhotse import AudioSource, Recording

    from slap.datamodules.audio.load import DecodeError, load, mono

    source = AudioSource("file", list(range(measured.channels)), str(path))
    cut = Recording("r", [source], measured.rate, measured.frames, measured.duration).to_cut()
    try:
        return load(mono(cut, RATE))
    except DecodeError as error:
        return error.bad.reason


def rows(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """Return the table: a row for each kind, for each way, and for all."""
    kinds = list(dict.fromkeys(found.variant.kind.name for found in outcomes))
    ways = [way for way in WAYS if any(found.variant.way == way for found in outcomes)]
    table = [_row(name, [found for found in outcomes if found.variant.kind.name == name]) for name in kinds]
    table += [_row(f"*{WAYS[way]}*", [found for found in outcomes if found.variant.way == way]) for way in ways]
    return [*table, _row("**all**", outcomes)]


def _row(name: str, outcomes: list[Outcome]) -> dict[str, Any]:
    decoded = [found for found in outcomes if not found.refused]
    bad = [found for found in outcomes if found.faults]
    return {
        "files": name,
        "number": len(outcomes),
        "same": sum(not found.faults and not found.refused for found in outcomes),
        "told": sum(bool(found.note) for found in outcomes),
        "refused": sum(not found.faults and bool(found.refused) for found in outcomes),
        "faults": len(bad),
        "dB": _worst(found.db for found in decoded),
        "length": max((found.length for found in decoded), key=abs, default=0.0),
        "segments": _worst(found.segments for found in decoded),
    }


def _worst(values: Iterable[float]) -> float | str:
    least = min(values, default=math.inf)
    return "equal" if least == math.inf else round(least, 1)


def run(count: int, seed: int, kept: Path | None, only: str, program: str) -> list[Outcome]:
    """Go through the walk; each file is removed once it is measured."""
    outcomes = []
    for number, variant in enumerate(walk(count, seed)):
        if only not in str(variant):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = make(variant, Path(folder))
            outcomes.append(measure(variant, path, program))
            if outcomes[-1].faults:
                print(f"{number}: {variant}", *outcomes[-1].faults, sep="\n    ", flush=True)
                if kept:
                    kept.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, kept / f"{number}.{path.suffix[1:]}")
    return outcomes


def version(program: str) -> str:
    """Return the name and version of the program."""
    shown = subprocess.run([program, "-version"], capture_output=True, check=True, text=True).stdout
    return " ".join(shown.split()[:3])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=240, help="number of files (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the walk (default: %(default)s)")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="measure the files alone whose names have this in them"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy the files with faults there")
    parser.add_argument(
        "--ffmpeg", default="ffmpeg", metavar="PROGRAM", help="decode with this one, e.g. a newer one (default: ffmpeg)"
    )
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--update", action="store_true", help="replace this benchmark's section of RESULTS.md")
    arguments = parser.parse_args()
    for program in ("ffmpeg", arguments.ffmpeg):
        if not shutil.which(program):
            print(f"there is no program {program}; install it, e.g. by `apt-get install ffmpeg`", file=sys.stderr)
            return 2
    torch.set_num_threads(1)
    outcomes = run(arguments.variants, arguments.seed, arguments.keep, arguments.only, arguments.ffmpeg)
    about = f"{ABOUT}\n\nWritten by {version('ffmpeg')}, decoded by {version(arguments.ffmpeg)}; seed {arguments.seed}."
    keep("formats", "Audio formats beside FFmpeg", about, rows(outcomes), arguments.out, arguments.update)
    return 1 if any(found.faults for found in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
