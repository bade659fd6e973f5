"""Report of a test run: a table on the terminal, and `report.md`, `results.json` and plots in a folder of its own.

The folder is `test/SET-HASH-CHECKPOINT` in that of the run, so no other test set or checkpoint overwrites it.

B clips.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from slap.core.bad_clip import BAD_CLIPS
from slap.core.batch import Batch
from slap.core.errors import printable_text
from slap.core.files import atomic_write
from slap.metrics.choice import tied_line
from slap.metrics.finite import not_finite_line
from slap.metrics.plots import draw_confusion, draw_recall, draw_recall_by_duration
from slap.metrics.tables import (
    ACCURACY,
    escape_markdown,
    legend,
    markdown_table,
    metrics_markdown,
    metrics_text,
    readable,
)
from slap.training.test_record import FOLDER, Provenance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from slap.training.held_out import HeldOutMetrics
    from slap.training.module import SLAP

SAMPLES = 12
"""Clips whose captions a report shows, ..."""

SAMPLES_PER_BATCH = 2
"""... and how many of one batch, which holds clips of similar duration."""


@dataclass(frozen=True)
class Sample:
    """A caption that the model wrote, beside one that a clip has."""

    clip: str
    reference: str
    written: str


COLUMNS = ("clip", "reference", "written by the model")
"""Titles of the columns of samples."""


class ReportWriter(Callback):
    """Prints and writes the report of a test run, at its end.

    If an objective of the model has a method `generate`, as `captioning` has, the report shows a few of its captions.
    Works with any model that keeps a `slap.training.held_out.HeldOutMetrics` as `evaluation`.

    Attributes:
        samples: the captions of the last test, on the first process.
    """

    def __init__(self) -> None:
        self.samples: list[Sample] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the samples of a test before this one."""
        self.samples = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Caption a few clips of the batch."""
        if trainer.is_global_zero and len(self.samples) < SAMPLES:
            self.samples += captioned(pl_module, batch, SAMPLES_PER_BATCH)  # type: ignore[arg-type]

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print and write."""
        if trainer.is_global_zero:
            evaluation: HeldOutMetrics = pl_module.evaluation  # type: ignore[assignment]
            tested = Provenance.by(trainer)
            folder = Path(trainer.default_root_dir) / FOLDER / tested.name
            write(folder, evaluation, tested, self.samples)
            lines = [metrics_text(evaluation.results), *notes(evaluation, tested)]
            print("\n" + printable_text("\n\n".join(lines)) + f"\n\nMore in {folder / 'report.md'}")


def notes(evaluation: HeldOutMetrics, tested: Provenance) -> list[str]:
    """Write what stands beneath the table: what was tested, the median ranks, and what a reader must know."""
    lines = [tested.in_words(), *(f"Warning: {warning}." for warning in tested.warnings)]
    lines += [*median_ranks(evaluation), *left_out(evaluation)]
    lines += [f"Warning: {tied_line(task, *numbers)}." for task, numbers in evaluation.tied.items() if numbers[0]]
    if evaluation.not_finite:
        lines.append(f"Warning: {not_finite_line(evaluation.not_finite)}.")
    return lines


def median_ranks(evaluation: HeldOutMetrics) -> list[str]:
    """Write a line on the median ranks of all clips together; none if there are none."""
    shown = [(readable(name), rank) for name, rank in evaluation.median_ranks.items() if "/" not in name]
    words = [
        f"{name.partition(',')[0]} {rank.value:g} ({rank.low:g} to {rank.high:g}; chance {rank.chance:g})"
        for name, rank in shown
    ]
    return [f"Median rank, from 1: {', '.join(words)}."] if words else []


def left_out(evaluation: HeldOutMetrics) -> list[str]:
    """Write a line on the clips that could not be used; none if all could."""
    if not evaluation.left_out:
        return []
    reasons = ", ".join(f"{count} {reason}" for reason, count in evaluation.left_out.items())
    return [f"Clips left out, since they could not be used: {reasons}; see {BAD_CLIPS}."]


def write(folder: Path, evaluation: HeldOutMetrics, tested: Provenance, samples: Sequence[Sample] = ()) -> None:
    """Write `report.md`, `results.json` and the plots.

    Args:
        folder: the folder to write into; made if it is not there.
        evaluation: the metrics, after `compute`.
        tested: the model and the manifests.
        samples: captions to show.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plots = {f"{name}.png": figure for name, figure in figures(evaluation).items()}
    for name, figure in plots.items():
        figure.savefig(folder / name)
    record = tested.record(evaluation)
    with atomic_write(folder / "results.json") as file:
        file.write(json.dumps(record, indent=2) + "\n")
    kinds = [result.over for result in (evaluation.results | evaluation.median_ranks).values()]
    parts = ["# Held-out clips", metrics_markdown(evaluation.results), legend(kinds)]
    parts += [*notes(evaluation, tested), record["right"][0].upper() + record["right"][1:] + "."]
    parts += ["\n".join(f"- manifest {file['path']}: sha256 {file['sha256']}" for file in tested.manifests)]
    parts += [", ".join(f"{name} {number}" for name, number in record["software"].items())]
    parts += ["\n".join(f"![{name}]({name})" for name in plots)]
    if samples:
        parts += ["## Captions", sample_table(samples)]
    with atomic_write(folder / "report.md") as file:
        file.write("\n\n".join(filter(None, parts)) + "\n")


def captioned(model: SLAP, batch: Batch, count: int) -> list[Sample]:
    """Caption the first clips of a batch; return none if the model writes no captions.

    Args:
        model: its first objective with a method `generate` writes the captions.
        batch: B clips.
        count: largest number of clips; of those without a caption none is taken.
    """
    writer: Any = next((objective for objective in model.objectives.values() if hasattr(objective, "generate")), None)
    first: dict[int, str] = {}
    for clip, caption in zip(batch.clip.tolist(), batch.captions, strict=True):
        first.setdefault(clip, caption)
    clips = sorted(first)[:count]
    if writer is None or not clips:
        return []
    audio = batch.audio.take(torch.tensor(clips))
    tokens = writer.generate(model.audio(model.audio.patchify(audio)))
    written = model.text.detokenize(tokens)
    return [Sample(batch.ids[i], first[i], caption) for i, caption in zip(clips, written, strict=True)]


def figures(evaluation: HeldOutMetrics) -> dict[str, Figure]:
    """Draw the plots of held-out clips, by their names."""
    plots = {}
    if "t2a_R@1" in evaluation.results:
        plots["recall"] = draw_recall(evaluation.results)
        plots["recall_by_duration"] = draw_recall_by_duration(evaluation.durations, evaluation.audio_ranks)
    for name, confusion in evaluation.confusions.items():
        head = f"{name}{ACCURACY}" in evaluation.results  # of an objective; the others are zero-shot tasks
        result = evaluation.results[f"{name}{ACCURACY}" if head else f"zeroshot_{name}"]
        title = f"{name if head else f'Zero-shot, {name}'}\n{result.value:.1f} % right, chance {result.chance:.1f} %"
        plots[f"confusion_{name}"] = draw_confusion(confusion, title)
    return plots


def sample_table(samples: Sequence[Sample]) -> str:
    """Write captions as a Markdown table with `COLUMNS`."""
    rows = [[escape_markdown(cell) for cell in (sample.clip, sample.reference, sample.written)] for sample in samples]
    return markdown_table(COLUMNS, rows, left=3)
