"""What each part of SLAP is worth, in small: cross-validation on real recordings, trained from scratch.

Each run of the recipe `digits_and_sounds` holds out one fold of ESC-10 and one speaker of the digits, so that four
runs judge every recording once, by a model that never heard its source. A variant leaves something out of the model,
and is trained with several seeds. Every run leaves one JSON file; runs that have one are not repeated, so that the
whole can be stopped, continued, and shared among machines.

S seeds, B clips.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from results import keep, machine

HELD_OUT = ((1, "george"), (2, "jackson"), (3, "lucas"), (4, "theo"))
"""Which fold of the sounds goes with which speaker of the digits: any pairing would do."""

TASKS = ("sound", "digit")
"""The two sets, by the names of their labels."""

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "all": (),
    "no_ssl": ("masked_distillation",),
    "no_cap": ("captioning",),
    "contrastive": ("masked_distillation", "captioning"),
    "no_local": (),
}
"""What each variant leaves out of the objectives; `no_local` has global attention in all blocks instead."""

TITLES = {
    "all": "all objectives",
    "no_ssl": "without L_SSL",
    "no_cap": "without L_CAP",
    "contrastive": "without both",
    "no_local": "without local attention",
}
JUDGES = {"zeroshot": "zero-shot", "probe": "linear probe"}
SAMPLES = 5000


@dataclass(frozen=True)
class Run:
    """One training: a variant, a seed, and which of `HELD_OUT` is held out."""

    variant: str
    seed: int
    fold: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.variant}_seed{self.seed}_fold{self.fold}"


def train(run: Run, root: str, out: Path, steps: int, accelerator: str, precision: str) -> Path:
    """Train one run, and return its checkpoint."""
    import lightning

    from slap.recipes import digits_and_sounds as recipe

    lightning.seed_everything(run.seed, verbose=False)
    left_out = VARIANTS[run.variant]
    objectives = {name: spec for name, spec in recipe.OBJECTIVES.items() if name not in left_out}
    assert isinstance(recipe.AUDIO, Mapping)
    audio = {**recipe.AUDIO, "local": 0} if run.variant == "no_local" else recipe.AUDIO
    fold, speaker = HELD_OUT[run.fold]
    model = recipe.model(audio=audio, objectives=objectives)
    data = recipe.data(
        root, str(out / "manifests"), held_out_fold=fold, held_out_speaker=speaker, num_workers=0, seed=run.seed
    )
    trainer = recipe.trainer(
        str(out),
        steps,
        accelerator=accelerator,
        devices=1,
        precision=precision,
        overwrite=True,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        limit_val_batches=0,  # nothing may be chosen by what is held out
    )
    trainer.fit(model, data)
    trainer.save_checkpoint(out / "last.ckpt")
    return out / "last.ckpt"


def probe(x, y, z):
    from sklearn.linear_model import LogisticRegression

    return torch.tensor(LogisticRegression(max_iter=1000, C=10).fit(x, y).predict(z))


def judge(run: Run, root: Path, checkpoint: Path, device: str) -> dict[str, Any]:
    """Of each set's held-out clips the labels, and what prompts and a linear probe of embeddings make of them."""
    import slap
    from slap.datamodules.digits_and_sounds import PROMPTS, digits, sounds

    fold, speaker = HELD_OUT[run.fold]
    sets = {"sound": sounds(root / "esc10", fold), "digit": digits(root / "fsdd" / "recordings", speaker)}
    model = slap.load(checkpoint, device=device)
    judged = {}
    for task, pairs in sets.items():
        clips = list(pairs)
        labels = sorted({clip.labels[task] for clip, _ in clips})
        place = torch.tensor([labels.index(clip.labels[task]) for clip, _ in clips])
        embeddings = model.embed_audio([clip.audio for clip, _ in clips])
        held_out = torch.tensor([held_out for _, held_out in clips])
        scores = model.scores(embeddings[held_out], labels, PROMPTS[task])
        judged[task] = {
            "ids": [clip.id for clip, held_out in clips if held_out],
            "labels": labels,
            "truth": place[held_out].tolist(),
            "zeroshot": [labels.index(best.label) for best, *_ in scores],
            "probe": probe(embeddings[~held_out], place[~held_out], embeddings[held_out]).tolist(),
        }
    return judged


def one(run: Run, root: Path, out: Path, steps: int, accelerator: str, precision: str) -> None:
    """Train and judge one run, and write its file; the checkpoint goes."""
    begin = time.perf_counter()
    folder = out / run.name
    checkpoint = train(run, str(root), folder, steps, accelerator, precision)
    seconds = time.perf_counter() - begin
    device = "cuda" if accelerator == "gpu" else "cpu"
    tasks = judge(run, root, checkpoint, device)
    known = {**machine(), "device": device, "precision": precision, "steps": steps, "seconds": round(seconds, 1)}
    done = out / f"{run.name}.json.part"
    done.write_text(json.dumps({"run": asdict(run), "machine": known, "tasks": tasks}))
    done.rename(out / f"{run.name}.json")
    shutil.rmtree(folder)


def all_runs(variants: Iterable[str], seeds: int) -> list[Run]:
    """In the order in which they are worth having: whole seeds first."""
    return [Run(variant, seed, fold) for seed in range(seeds) for variant in variants for fold in range(len(HELD_OUT))]


def work(runs: Sequence[Run], arguments: argparse.Namespace) -> int:
    """Do the runs that have no file yet, several at a time, each in a process of one thread; how many failed."""
    missing = [run for run in runs if not (arguments.out / f"{run.name}.json").exists()]
    same = ["--root", arguments.root, "--out", arguments.out, "--steps", arguments.steps]
    same += ["--accelerator", arguments.accelerator, "--precision", arguments.precision]

    def do(run: Run) -> int:
        this = ["--only", run.variant, run.seed, run.fold]
        log = arguments.out / f"{run.name}.log"
        with log.open("w") as file:
            status = subprocess.run(
                [sys.executable, __file__, *map(str, same + this)],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        print(f"{run.name}: {'done' if not status else f'failed, see {log}'}", flush=True)
        return status

    with ThreadPoolExecutor(arguments.jobs) as pool:
        return sum(map(bool, pool.map(do, missing)))


@dataclass(frozen=True)
class Hits:
    """What one variant got right of one set, by one way of judging.

    Attributes:
        right: (S, B) float64, 1 where a seed's model was right.
        group: (B,) the recording that each clip is from: clips of one are drawn together.
    """

    right: np.ndarray
    group: np.ndarray


def collected(out: Path) -> list[dict[str, Any]]:
    """The files of all runs."""
    files = sorted(out.glob("*_seed*_fold*.json"))
    if not files:
        raise SystemExit(f"there are no runs in {out}; run this without --report first")
    return [json.loads(file.read_text()) for file in files]


def hits(runs: Sequence[dict[str, Any]], variant: str, task: str, judge: str) -> Hits:
    """Join the folds of each seed; all seeds must have judged the same clips."""
    seeds = sorted({run["run"]["seed"] for run in runs if run["run"]["variant"] == variant})
    right: list[dict[str, float]] = []
    for seed in seeds:
        mine = [run["tasks"][task] for run in runs if (run["run"]["variant"], run["run"]["seed"]) == (variant, seed)]
        rows = [row for part in mine for row in zip(part["ids"], part["truth"], part[judge], strict=True)]
        right.append({clip: float(truth == guess) for clip, truth, guess in rows})
    ids = sorted(right[0])
    if any(sorted(of_seed) != ids for of_seed in right):
        raise SystemExit(f"the seeds of {variant} did not judge the same clips: some runs are missing")
    # "esc10/1-100032-A": take A of recording 100032. Digits are a recording each.
    sources = [clip.rsplit("-", 1)[0] if task == "sound" else clip for clip in ids]
    group = np.unique(sources, return_inverse=True)[1]
    return Hits(np.array([[of_seed[clip] for clip in ids] for of_seed in right]), group)


def drawn(these: Hits, rng: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    """(samples,) the accuracy with recordings drawn as `weights`, (samples, groups), say, and seeds drawn too, in %."""
    seeds, _ = these.right.shape
    counts = np.bincount(these.group)
    sums = np.stack([np.bincount(these.group, row) for row in these.right])  # (S, groups)
    chosen = rng.multinomial(seeds, np.full(seeds, 1 / seeds), len(weights)) / seeds
    return 100 * ((chosen @ sums) * weights).sum(1) / (weights @ counts)


def table(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a variant: accuracy with its 95 % interval over recordings and seeds, and the difference to all parts."""
    known = [variant for variant in VARIANTS if any(run["run"]["variant"] == variant for run in runs)]
    rows = [{"variant": TITLES[variant]} for variant in known]
    for task in TASKS:
        for judge in JUDGES:
            found = {variant: hits(runs, variant, task, judge) for variant in known}
            groups = int(found[known[0]].group.max()) + 1
            weights = np.random.default_rng(0).multinomial(groups, np.full(groups, 1 / groups), SAMPLES)
            samples = {
                variant: drawn(these, np.random.default_rng(i), weights)
                for i, (variant, these) in enumerate(found.items(), start=1)
            }
            for row, variant in zip(rows, known, strict=True):
                these = found[variant]
                row[f"{task}, {JUDGES[judge]}"] = _interval(100 * these.right.mean(), samples[variant])
                row[f"{task}, {JUDGES[judge]}, to all"] = (
                    ""
                    if variant == "all" or "all" not in found
                    else _interval(
                        100 * (these.right.mean() - found["all"].right.mean()), samples[variant] - samples["all"], "+"
                    )
                )
    return rows


def _interval(value: float, samples: np.ndarray, sign: str = "") -> str:
    low, high = np.quantile(samples, [0.025, 0.975])
    return f"{value:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"


def draw(runs: Sequence[dict[str, Any]], variant: str, path: Path) -> None:
    """Confusion matrices of a variant, all seeds together: a row a set, a column a way of judging."""
    figure = Figure(figsize=(11, 10), layout="constrained")
    for row, task in enumerate(TASKS):
        parts = [run["tasks"][task] for run in runs if run["run"]["variant"] == variant]
        for column, (judge, title) in enumerate(JUDGES.items()):
            labels = parts[0]["labels"]
            counts = np.zeros((len(labels), len(labels)))
            for part in parts:
                np.add.at(counts, (part["truth"], part[judge]), 1)
            axes = figure.add_subplot(len(TASKS), len(JUDGES), row * len(JUDGES) + column + 1)
            share = 100 * counts / counts.sum(1, keepdims=True)
            axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
            axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right")
            axes.set_yticks(range(len(labels)), labels)
            axes.set_title(f"{task}, {title}: {100 * np.trace(counts) / counts.sum():.1f} %")
            axes.set_xlabel("taken for")
            axes.set_ylabel("is")
            for i, j in np.argwhere(share >= 0.5):
                color = "white" if share[i, j] > 50 else "black"
                axes.text(j, i, f"{share[i, j]:.0f}", ha="center", va="center", color=color, fontsize=8)
    figure.suptitle(f"{TITLES[variant]}: % of the row")
    figure.savefig(path, dpi=110)


def report(arguments: argparse.Namespace) -> None:
    """The table, into RESULTS.md if wanted, and the confusion matrices."""
    runs = collected(arguments.out)
    seeds = len({run["run"]["seed"] for run in runs})
    devices = ", ".join(sorted({f"{run['machine']['device']} ({run['machine']['precision']})" for run in runs}))
    steps = ", ".join(sorted({str(run["machine"]["steps"]) for run in runs}))
    command = f"python benchmarks/ablation.py --root ../shared/data --steps {steps} --seeds {seeds}"
    about = (
        f"`{command}`: {len(runs)} runs from scratch on {devices}. Accuracy in %.\n\n"
        "Every recording is judged once a seed, by a model that heard nothing of its fold of ESC-10 (320 clips,\n"
        "folds 1 to 4) or of its speaker (2,000 digits, four speakers). The linear probe is trained on the embeddings\n"
        f"of what the model was trained on. Intervals are 95 %, from {SAMPLES} draws of recordings and seeds;\n"
        "differences to the model with all parts are of the same recordings."
    )
    keep("ablation", "The ablation in small", about, table(runs), arguments.json, arguments.update)
    if arguments.picture:
        draw(runs, "all", arguments.picture)


def main() -> int:
    """Runs, then the table of what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="holds fsdd/recordings and esc10, see the README")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[*VARIANTS])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--accelerator", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--json", type=Path, help="write the table as JSON too")
    parser.add_argument("--picture", type=Path, help="draw the confusion matrices of all objectives")
    parser.add_argument("--report", action="store_true", help="train nothing, only show what there is")
    parser.add_argument("--update", action="store_true", help="write the table into RESULTS.md")
    parser.add_argument("--only", nargs=3, metavar=("VARIANT", "SEED", "FOLD"), help="do one run, in this process")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.only:
        variant, seed, fold = arguments.only
        run = Run(variant, int(seed), int(fold))
        one(run, arguments.root, arguments.out, arguments.steps, arguments.accelerator, arguments.precision)
        return 0
    failed = 0 if arguments.report else work(all_runs(arguments.variants, arguments.seeds), arguments)
    report(arguments)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
