"""An hour of training while things go wrong: bad files, killed data workers, killed runs, a slow disk.

    python benchmarks/soak.py --minutes 60 --update

What it plays is an operator with a job scheduler: it starts `slap fit` on `benchmarks/soak_recipe.py`, and whenever the
run ends before its time, starts it again with `--ckpt_path last`. Meanwhile it does harm:

- bad files: every 20 s a file is removed, cut short, emptied, silenced, or filled with NaN or random bytes, and mended
  three minutes later; 2 % of the files are bad from the beginning;
- killed workers: a loading process gets SIGKILL, at times that `FAULTS` lists; so do runs as a whole, and one SIGTERM;
- a slow disk: every batch waits, and one in a hundred waits for long.

In the end every clip of every epoch must have been trained on, or be told as bad; every step must be there, in order;
and the memory of the run, its workers included, must be what it was: the median of the last five minutes of the longest
life of a run, beside that of five minutes soon after its beginning, within 5 %.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from results import keep

RATE = 16000
CLIPS = {"train": 400, "val": 40}
SUFFIXES = ("wav", "flac", "ogg")
FAULTS = ((0.08, "worker"), (0.16, "run"), (0.24, "worker"), (0.30, "run, politely"), (0.36, "worker"))
"""When, as a share of the time, and what is killed. What follows the last one is long enough to judge memory by."""

EVERY, MENDED_AFTER = 20.0, 180.0  # seconds between damages, and from a damage to its repair
FLAT = 0.05  # by which memory may grow
ABOUT = """`python benchmarks/soak.py --minutes 60 --update`

Training on CPU while files go bad and are mended again, loading processes and whole runs are killed, and the disk is
slow; a run that ended is started again with `--ckpt_path last`, as a job scheduler does. `lost`: clips of an epoch that
were neither trained on nor told as bad; `gaps`: steps that are missing or out of order, after those that a restart did
again are counted once. Memory is that of the run and its workers without mapped files, in the longest life of a run:
median of five minutes soon after its start, and of the last five. The aims: none lost, no gaps, growth within 5 %."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="of training (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="of the corpus and the run (default: a temporary one)")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds that each batch waits (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--update", action="store_true", help="replace this benchmark's section of RESULTS.md")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="soak"))
    corpus = Corpus(folder / "corpus")
    operator = Operator(folder, corpus, 60 * arguments.minutes, arguments.pause)
    operator.run()
    row = {**told(folder / "run", corpus.ids), **operator.told()}
    keep("soak", "An hour of training while things go wrong", ABOUT, [row], arguments.out, arguments.update)
    sys.exit(0 if row["lost"] == row["gaps"] == 0 and row["memory growth, %"] <= 100 * FLAT else 1)


class Corpus:
    """Sounds in files, which can be damaged and mended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.random = random.Random(0)
        self.whole: dict[str, bytes] = {}  # by its path, what a file was
        self.damaged: list[tuple[float, str]] = []
        self.harm: Counter[str] = Counter()
        self.ids = self._write()

    def _write(self) -> list[str]:
        """Write files and manifests; 2 % of the training files are bad at once. The ids of the training clips."""
        import soundfile
        from lhotse import Recording, SupervisionSegment

        from slap.datamodules import write_cuts

        self.folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        ids = []
        for split, count in CLIPS.items():
            cuts = []
            for number in range(count):
                seconds = float(np.clip(np.exp(rng.normal(0.0, 0.6)), 0.3, 4.0))
                path = self.folder / f"{split}{number}.{SUFFIXES[number % len(SUFFIXES)]}"
                soundfile.write(path, rng.uniform(-0.3, 0.3, round(seconds * RATE)), RATE)
                cut = Recording.from_file(path).to_cut()
                text = f"sound number {number}"
                cut.supervisions = [SupervisionSegment(cut.id, cut.recording_id, 0.0, cut.duration, text=text)]
                cuts.append(cut)
                if split == "train":
                    ids.append(cut.id)
                    self.whole[str(path)] = path.read_bytes()
            write_cuts(self.folder / f"{split}.jsonl.gz", cuts)
        for path in self.random.sample(sorted(self.whole), len(self.whole) // 50):
            self._damage(path)
            del self.whole[path]  # never mended
        return ids

    def harass(self, now: float) -> None:
        """Damage one more file, and mend those whose time has come."""
        while self.damaged and now - self.damaged[0][0] > MENDED_AFTER:
            path = self.damaged.pop(0)[1]
            Path(path).write_bytes(self.whole[path])
        free = sorted(set(self.whole) - {path for _, path in self.damaged})
        path = self.random.choice(free)
        self.damaged.append((now, path))
        self._damage(path)

    def _damage(self, path: str) -> None:
        import soundfile

        file, kind = Path(path), self.random.choice(["absent", "cut short", "empty", "garbage", "silent", "NaN"])
        raw = file.read_bytes()
        samples, rate = soundfile.read(path)
        file.unlink()
        if kind == "cut short":
            file.write_bytes(raw[: len(raw) // 2])
        elif kind == "empty":
            file.write_bytes(b"")
        elif kind == "garbage":
            file.write_bytes(self.random.randbytes(len(raw)))
        elif kind in ("silent", "NaN"):
            spoilt = samples * 0 if kind == "silent" else np.where(np.arange(len(samples)) == 7, np.nan, samples)
            # As WAV under whatever name: only WAV can hold NaN, and a file's name says nothing to a reader.
            soundfile.write(path, spoilt, rate, format="WAV", subtype="FLOAT")
        self.harm[kind] += 1


@dataclass
class Life:
    """One process of a run, from its start to its end."""

    began: float
    ended: float = 0.0
    status: int | None = None
    why: str = ""
    memory: list[tuple[float, float]] = field(default_factory=list)  # time and MB


class Operator:
    """Starts the run, harms it, and starts it again."""

    def __init__(self, folder: Path, corpus: Corpus, seconds: float, pause: float) -> None:
        self.out, self.corpus, self.seconds, self.pause = folder / "run", corpus, seconds, pause
        self.lives: list[Life] = []
        self.killed: Counter[str] = Counter()
        self.began = time.time()

    def run(self) -> None:
        """Run until the time is over and the run has ended without error.

        Raises:
            RuntimeError: a run ended although nobody had killed it.
        """
        faults = [(share * self.seconds, what) for share, what in FAULTS]
        while not self.lives or self.lives[-1].status != 0:
            process, life = self._start()
            expected = ""
            damaged = sampled = time.time()
            while process.poll() is None:
                time.sleep(0.5)
                now = time.time()
                if now - damaged > EVERY:
                    self.corpus.harass(now)
                    damaged = now
                if now - sampled > 5:
                    life.memory.append((now, memory(process.pid)))
                    sampled = now
                if faults and not expected and now - self.began > faults[0][0] and self._has_saved(life):
                    expected = self._kill(process.pid, faults[0][1])
                    faults = faults[bool(expected) :]
                if now - self.began > self.seconds and not (self.out / "stop").exists():
                    (self.out / "stop").touch()
            life.ended, life.status = time.time(), process.returncode
            log = self._log(len(self.lives)).read_text(errors="replace")
            life.why = expected or "the end"
            print(f"{life.ended - self.began:6.0f} s: status {life.status} after {life.why}", flush=True)
            print("    " + "\n    ".join(log.strip().splitlines()[-3:]), flush=True)
            if life.status != 0 and not expected:
                raise RuntimeError(f"the run ended with status {life.status}, though nobody killed it:\n{log[-4000:]}")

    def _start(self) -> tuple[subprocess.Popen[bytes], Life]:
        last = self.out / "last.ckpt"
        recipe = Path(__file__).with_name("soak_recipe.py")
        command = [sys.executable, "-m", "slap", "fit", "--recipe", str(recipe), "--trainer.out", str(self.out)]
        command += ["--data.folder", str(self.corpus.folder), "--data.pause", str(self.pause)]
        command += ["--ckpt_path", "last"] if last.exists() else []
        self.lives.append(Life(time.time()))
        self.out.mkdir(parents=True, exist_ok=True)
        with self._log(len(self.lives)).open("wb") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        return process, self.lives[-1]

    def _log(self, life: int) -> Path:
        return self.out / f"log{life}.txt"

    def _has_saved(self, life: Life) -> bool:
        """Return whether a run has written a checkpoint; if not, only its own steps are lost."""
        last = self.out / "last.ckpt"
        return last.exists() and last.stat().st_mtime > life.began

    def _kill(self, pid: int, what: str) -> str:
        workers = [child for child in descendants(pid) if child != pid]
        if what == "worker" and not workers:
            return ""  # between epochs or so; next time
        victim = self.corpus.random.choice(workers) if what == "worker" else pid
        os.kill(victim, signal.SIGTERM if "politely" in what else signal.SIGKILL)
        self.killed[what] += 1
        return f"{'SIGTERM' if 'politely' in what else 'SIGKILL'} to {'a worker' if what == 'worker' else 'the run'}"

    def told(self) -> dict[str, Any]:
        """Summarize the interruptions of the run, and its memory."""
        longest = max(self.lives, key=lambda life: life.ended - life.began)
        first, last = windows(longest.memory)
        return {
            "minutes": (time.time() - self.began) / 60,
            "files damaged": self.corpus.harm.total(),
            "workers killed": self.killed["worker"],
            "runs killed": self.killed.total() - self.killed["worker"],
            "longest life, min": (longest.ended - longest.began) / 60,
            "memory, MB": last,
            "memory growth, %": 100 * (last / first - 1),
        }


def windows(memory: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Compute the median memory soon after the start of a run and at its end, over five minutes or a quarter of it."""
    begin, end = memory[0][0], memory[-1][0]
    span = min(300.0, (end - begin) / 4)
    start = begin + (end - begin) / 10
    first = [used for at, used in memory if start <= at <= start + span]
    last = [used for at, used in memory if at >= end - span]
    return median(first), median(last)


def memory(pid: int) -> float:
    """MB of a process and all below it: what they have alone, and their share of what they share among themselves.

    Without mapped files, which are mostly libraries: a process's share of these depends on what else runs here.
    """
    total = 0
    for one in descendants(pid):
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return total / 1024


def descendants(pid: int) -> Iterator[int]:
    """Return a process and all its descendants."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in children:
        yield from descendants(int(child))


def told(out: Path, ids: Sequence[str]) -> dict[str, Any]:
    """Summarize the steps: their number, the clips that were trained on, and the missing clips."""
    lines = [json.loads(line) for line in (out / "steps.jsonl").read_text().splitlines()]
    steps = timeline(lines)
    epochs: dict[int, list[dict[str, Any]]] = {}
    for step in steps:
        epochs.setdefault(step["epoch"], []).append(step)
    lost = sum(len(missing(batches, ids)) for batches in epochs.values())
    gaps = sum(step["step"] != number for number, step in enumerate(steps, start=1))
    listed = [json.loads(line) for line in (out / "bad_clips.jsonl").read_text().splitlines()]
    known = {clip["id"] for clip in listed if clip["stage"] == "train"}
    unlisted = {name for step in steps for name, _ in step["bad"]} - known
    assert not unlisted, f"bad clips that bad_clips.jsonl does not list: {sorted(unlisted)}"
    assert all(np.isfinite(step["loss"]) for step in steps)
    return {
        "epochs": len(epochs),
        "steps": len(steps),
        "done again": len(lines) - len(steps),
        "clips trained": sum(len(step["ids"]) for step in steps),
        "bad": sum(len(step["bad"]) for step in steps),
        "lost": lost,
        "gaps": gaps,
    }


def timeline(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the steps that made the final weights: a resumed run repeats the steps after its checkpoint."""
    steps: list[dict[str, Any]] = []
    for line in lines:
        while steps and steps[-1]["step"] >= line["step"]:
            steps.pop()
        steps.append(line)
    return steps


def missing(batches: Sequence[dict[str, Any]], ids: Sequence[str]) -> set[str]:
    """Return the clips that an epoch neither trained on nor recorded as bad."""
    trained = {name for batch in batches for name in batch["ids"]}
    return set(ids) - trained - {name for batch in batches for name, _ in batch["bad"]}


if __name__ == "__main__":
    main()
