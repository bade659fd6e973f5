"""A training step on a CPU: what it is made of, and what each objective costs.

    python benchmarks/step.py --update

The paper's recipe (`base` encoders, three objectives) with random weights on packed clips: forward and backward pass,
AdamW, and the teacher. Waiting for data is measured in a run of the recipe `demo`, whose model is tiny: the hardest
case for its loader.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rows import Row, add_options, finish
from timing import Turns
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from workload import captions, durations_of, waveforms

from slap import Batch, Packed
from slap.core.batch import fingerprint
from slap.model.views import Views
from slap.recipes import base
from slap.training.optim import parameter_groups

ABOUT = """`python benchmarks/step.py`: the recipe `base` on a CPU in float32: forward, backward, AdamW, teacher. The
share of matrix products is of the time in all operations, by torch.profiler; attention is scaled_dot_product_attention.
Waiting for data: `train/data_wait` of the recipe `demo`, with one loading process and a tiny model."""

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::_scaled_dot_product_flash_attention_for_cpu")
SETS: dict[str, tuple[str, ...]] = {
    "contrastive": ("contrastive",),
    "contrastive, masked_distillation": ("contrastive", "masked_distillation"),
    "contrastive, captioning": ("contrastive", "captioning"),
    "three objectives": tuple(base.OBJECTIVES),
}
"""Objectives that are trained together."""


def batch_of(lengths: Sequence[float]) -> Batch:
    """Make clips of these durations in seconds, with a caption each, as token ids."""
    words = [len(caption.split()) + 2 for caption in captions(len(lengths))]
    text = torch.randint(3, 8000, (sum(words),), generator=torch.Generator().manual_seed(0))
    ids = [str(i) for i in range(len(lengths))]
    return Batch(
        audio=Packed.pack(waveforms(lengths)),
        text=Packed(text, torch.tensor(words, dtype=torch.int32)),
        clip=torch.arange(len(lengths)),
        clip_key=fingerprint(ids),
        caption_key=fingerprint([f"caption {i}" for i in ids]),
        ids=tuple(ids),
    )


class Step:
    """A training step by hand, without a trainer.

    Args:
        objectives: with their weights.
        size: of both encoders.
    """

    def __init__(self, objectives: Mapping[str, Any], size: str) -> None:
        torch.manual_seed(0)
        encoder = {"name": "transformer", "size": size}
        self.model = base.model(audio=encoder, text=encoder, objectives=objectives).train()
        self.optimizer = torch.optim.AdamW(parameter_groups(self.model, 1e-4, 0.05))

    def loss(self, batch: Batch) -> Tensor:
        """Compute the weighted sum of the objectives, as `SLAP.training_step` does."""
        views, model = Views(self.model, batch), self.model
        total = torch.zeros(())
        for name, objective in model.objectives.items():
            found = objective(views)
            total = total + model.weights[name] * (found[0] if isinstance(found, tuple) else found)
        return total

    def __call__(self, batch: Batch) -> None:
        """Run one step."""
        self.loss(batch).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.model.teacher is not None:
            self.model.teacher.update(0.0)


def products(step: Step, batch: Batch) -> dict[str, float]:
    """Compute the share of matrix products in the time of operations, without and with attention."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        step(batch)
    times = {event.key: event.self_cpu_time_total for event in found.key_averages()}
    attention = sum(time for name, time in times.items() if "scaled_dot_product" in name)
    multiplied = sum(times.get(name, 0.0) for name in PRODUCTS[:3])
    whole = sum(times.values())
    return {"matrix products": multiplied / whole, "matrix products and attention": (multiplied + attention) / whole}


def data_wait(seconds: int = 200) -> float:
    """`train/data_wait` of a short run of the demo, the first row of its log left out."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "slap", "fit", "--recipe", "demo", "--data.folder", f"{folder}/corpus"]
        command += ["--data.train", "300", "--data.val", "40", "--data.num_workers", "1", "--trainer.max_steps", "30"]
        command += ["--trainer.out", f"{folder}/run"]
        subprocess.run(command, check=True, capture_output=True, timeout=seconds)
        with next(Path(folder).glob("run/**/metrics.csv")).open() as file:
            waits = [float(row["train/data_wait"]) for row in csv.DictReader(file) if row.get("train/data_wait")]
    return sum(waits[1:]) / len(waits[1:])


def run(options: argparse.Namespace) -> list[Row]:
    """Measure; the rows of the table."""
    batch, turns = batch_of(durations_of(options.seconds)), Turns(options.clock)
    shares: dict[str, float] = {}
    for name, chosen in SETS.items():  # one model at a time: with optimizer and teacher each takes gigabytes
        step = Step({one: base.OBJECTIVES[one] for one in chosen}, options.size)
        step(batch)  # warms up, and the optimizer makes its state
        for _ in range(options.turns):
            turns.take(name, lambda step=step: step(batch))
        if name == "three objectives":
            turns.take("log-mel", lambda step=step: step.model.audio.patchify(batch.audio))
            shares = products(step, batch)
    alone, all_of_it = turns.median("contrastive"), turns.median("three objectives")
    rows = [Row(f"step, {what}, share of the time", ratio=share) for what, share in shares.items()]
    for name in list(SETS)[1:]:
        took = turns.median(name)
        rows.append(Row(f"step, {name} against contrastive alone", "s", alone, took, took / alone))
    front = turns.median("log-mel")
    rows.append(Row("step, log-mel against the whole", "s", all_of_it, front, front / all_of_it, at_most=0.05))
    rows.append(Row("step, waiting for data against the whole (demo)", ratio=data_wait(), at_most=0.02))
    return rows


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("--seconds", type=float, default=20.0, help="of audio (default: %(default)g)")
    parser.add_argument("--turns", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--size", default="base", help="of both encoders (default: %(default)s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    configure(parser)
    add_options(parser)
    finish("step", "A training step on a CPU", ABOUT, run, parser.parse_args())


if __name__ == "__main__":
    main()
