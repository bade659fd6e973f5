"""Ablation of SLAP on small data: cross-validation on real recordings, with models trained from scratch.

Each run of the recipe `digits_and_sounds` holds out one fold of ESC-10 and one speaker of the digits. So four runs
evaluate every recording once, by models that were not trained on its source. A variant omits a part of the model. The
seed differs between runs and is the same in all variants; further rounds repeat the four runs with other seeds. Every
run writes one JSON file, and runs that have one are not repeated, so that the benchmark can be stopped, continued, and
shared among machines.

R runs, B clips of a run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from results import FIGURES, machine, rewrite, write
from torch import Tensor
from torch.nn.functional import one_hot

from slap.evaluation.probes.protocol import LinearProbing
from slap.metrics.runs import half_width

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
STRENGTH = 1.0
"""C of the linear probe, set beforehand: nothing is tuned on what is judged."""

SHARED = 1 / (len(HELD_OUT) - 1)
"""Clips that a run is tested on per clip that it is trained on, as in any cross-validation."""


@dataclass(frozen=True)
class Run:
    """One training: a variant, which of `HELD_OUT` is held out, and which round it belongs to."""

    variant: str
    fold: int
    round: int

    @property
    def seed(self) -> int:
        """Of weights, order and augmentation: another one for each fold and round, the same in all variants."""
        return self.round * len(HELD_OUT) + self.fold

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.variant}_fold{self.fold}_round{self.round}"


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


def probe(features: Tensor, place: Tensor, queries: Tensor) -> list[int]:
    """Classify queries, (m, E), by a linear probe that is trained on features, (n, E), of classes, (n,)."""
    truth = one_hot(place).bool()
    scores = LinearProbing().scores(features, truth, queries, [STRENGTH], multilabel=False)
    return scores[STRENGTH].argmax(1).tolist()


def judge(run: Run, root: Path, checkpoint: Path, device: str) -> dict[str, Any]:
    """Return for each set the labels of its held-out clips, and the predictions of prompts and of a linear probe."""
    import slap
    from slap.datamodules.corpora.digits_and_sounds import PROMPTS, digits, sounds

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
            "probe": probe(embeddings[~held_out], place[~held_out], embeddings[held_out]),
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


def all_runs(variants: Sequence[str], rounds: int) -> list[Run]:
    """List all runs in order of importance: round by round, the first variant first."""
    return [
        *(Run(variants[0], fold, 0) for fold in range(len(HELD_OUT))),
        *(Run(variant, fold, 0) for fold in range(len(HELD_OUT)) for variant in variants[1:]),
        *(
            Run(variant, fold, number)
            for number in range(1, rounds)
            for fold in range(len(HELD_OUT))
            for variant in variants
        ),
    ]


def work(runs: Sequence[Run], arguments: argparse.Namespace) -> int:
    """Do the runs that have no file yet, several at a time, each in a process of one thread; how many failed."""
    missing = [run for run in runs if not (arguments.out / f"{run.name}.json").exists()]
    same = ["--root", arguments.root, "--out", arguments.out, "--steps", arguments.steps]
    same += ["--accelerator", arguments.accelerator, "--precision", arguments.precision]

    def do(run: Run) -> int:
        this = ["--only", run.variant, run.fold, run.round]
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


def collected(out: Path) -> dict[Run, dict[str, Any]]:
    """Read the files of all runs."""
    files = sorted(out.glob("*_fold*_round*.json"))
    if not files:
        raise SystemExit(f"there are no runs in {out}; run this without --report first")
    read = [json.loads(file.read_text()) for file in files]
    return {Run(**content["run"]): content for content in read}


def hits(content: dict[str, Any], task: str, judge: str) -> float:
    """Return the share of a run's clips that are right."""
    part = content["tasks"][task]
    return float(np.equal(part["truth"], part[judge]).mean())


def table(runs: Mapping[Run, dict[str, Any]]) -> list[dict[str, Any]]:
    """Compute the accuracies of each variant, and the differences to the full model on the same seeds and clips."""
    rows = []
    for variant in VARIANTS:
        mine = [run for run in runs if run.variant == variant]
        if not mine:
            continue
        row: dict[str, Any] = {"variant": TITLES[variant], "runs": len(mine)}
        for task in TASKS:
            for judge, title in JUDGES.items():
                row[f"{task}, {title}"] = _interval([hits(runs[run], task, judge) for run in mine])
                whole = [run for run in mine if replace(run, variant="all") in runs]
                if variant != "all" and whole:
                    pairs = [(runs[run], runs[replace(run, variant="all")]) for run in whole]
                    less = [hits(this, task, judge) - hits(full, task, judge) for this, full in pairs]
                    row[f"{task}, {title}, less all"] = _interval(less, "+")
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name, "") for name in names} for row in rows]


def _interval(values: Sequence[float], sign: str = "") -> str:
    """Write the mean over runs in %, with Nadeau and Bengio's 95 % interval: any two runs share training clips."""
    mean, half = 100 * fmean(values), 100 * half_width(torch.tensor(values), SHARED)
    low, high = mean - half, mean + half
    low, high = (low, high) if sign else (max(low, 0.0), min(high, 100.0))
    return f"{mean:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"


def draw(runs: Mapping[Run, dict[str, Any]], variant: str, path: Path) -> None:
    """Confusion matrices of a variant, all runs together: a row a set, a column a way of judging."""
    figure = Figure(figsize=(11, 10), layout="constrained")
    for row, task in enumerate(TASKS):
        parts = [content["tasks"][task] for run, content in runs.items() if run.variant == variant]
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
    """Report the table, in RESULTS.md if asked for, and the confusion matrices."""
    runs = collected(arguments.out)
    machines = [content["machine"] for content in runs.values()]
    devices = ", ".join(sorted({f"{known['device']} ({known['precision']})" for known in machines}))
    steps = ", ".join(sorted({str(known["steps"]) for known in machines}))
    about = (
        f"`python benchmarks/ablation.py --root ../shared/data --steps {steps}`: {len(runs)} runs from scratch on\n"
        f"{devices}; `--accelerator` and `--precision` choose. Accuracy in %, with 95 % intervals\n"
        "over runs: Student's t with Nadeau and Bengio's correction, since any two runs share training clips.\n\n"
        "Each run holds out a fold of ESC-10 (80 clips; folds 1 to 4) and a speaker of the digits (500 recordings;\n"
        "four speakers), and has a seed of its own. The linear probe learns from the embeddings of what the model was\n"
        "trained on. `less all`: the difference to the model with all parts, on the same seeds and recordings."
    )
    known = {key: value for key, value in machines[0].items() if key not in ("seconds", "load before")}
    file = FIGURES / "ablation.json" if arguments.update else arguments.out / "table.json"
    write("ablation", table(runs), file, known)  # the facts of the machine that trained, which may be another one
    rewrite(file, "ablation", "The ablation in small", about, arguments.update)
    if arguments.picture:
        draw(runs, "all", arguments.picture)


def main() -> int:
    """Runs, then the table of what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="holds fsdd/recordings and esc10")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[*VARIANTS])
    parser.add_argument("--rounds", type=int, default=1, help="each four runs a variant, with other seeds")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--accelerator", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--picture", type=Path, help="draw the confusion matrices of all objectives")
    parser.add_argument("--report", action="store_true", help="train nothing, only show what there is")
    parser.add_argument("--update", action="store_true", help="write the table into RESULTS.md")
    parser.add_argument("--only", nargs=3, metavar=("VARIANT", "FOLD", "ROUND"), help="do one run, in this process")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.only:
        variant, fold, number = arguments.only
        run = Run(variant, int(fold), int(number))
        one(run, arguments.root, arguments.out, arguments.steps, arguments.accelerator, arguments.precision)
        return 0
    failed = 0 if arguments.report else work(all_runs(arguments.variants, arguments.rounds), arguments)
    report(arguments)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
