"""The run of `benchmarks/soak.py`: a small model on a corpus whose disk is slow, with a record of every step.

Training ends at the end of an epoch after somebody has made the file `stop` in the run's folder.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lhotse import CutSet
from lightning.pytorch import Callback, LightningModule, Trainer

from slap.core.batch import Batch
from slap.datamodules import AudioTextData
from slap.model.specs import EncoderSpec, ObjectiveSpec
from slap.training import trainer as training
from slap.training.module import SLAP

AUDIO: EncoderSpec = {"name": "transformer", "size": "nano"}
TEXT: EncoderSpec = {"name": "transformer", "size": "nano", "vocab_size": 300}
OBJECTIVES: Mapping[str, ObjectiveSpec] = {
    "contrastive": 1.0,
    "masked_distillation": {"weight": 1.0, "prototypes": 64, "hidden": 64, "bottleneck": 32},
    "captioning": {"weight": 0.5, "layers": 1, "heads": 2, "width": 64, "hidden": 128},
}
STEPS = 100_000  # more than any soak reaches; `stop` ends it
RECORD = "steps.jsonl"


@dataclass(frozen=True)
class SlowDisk:
    """Keeps a loading process waiting for each batch, and now and then for long.

    Args:
        pause: seconds for each batch.
        stall: seconds now and then.
        share: of the batches that stall.
    """

    pause: float
    stall: float
    share: float

    def __call__(self, cuts: CutSet) -> CutSet:
        """Wait."""
        # Random numbers of its own: what training draws must not depend on the disk.
        time.sleep(self.stall if random.Random().random() < self.share else self.pause)
        return cuts


class Record(Callback):
    """Writes a line for every step: its number, epoch, loss, the clips that it trained on, and those left out."""

    def __init__(self, out: str) -> None:
        self.out = Path(out)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Append the line with one write, so that a killed run leaves whole lines."""
        del pl_module
        line = {
            "process": os.getpid(),
            "time": time.time(),
            "epoch": trainer.current_epoch,
            "batch": batch_idx,
            "step": trainer.global_step,
            "loss": float(outputs["loss"]),
            "ids": batch.ids,
            "bad": [(clip.id, clip.reason) for clip in batch.bad],
        }
        file = os.open(self.out / RECORD, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(file, json.dumps(line).encode() + b"\n")
        finally:
            os.close(file)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if that is wanted."""
        del pl_module
        trainer.should_stop = trainer.should_stop or (self.out / "stop").exists()


def model(
    audio: EncoderSpec = AUDIO, text: EncoderSpec = TEXT, objectives: Mapping[str, ObjectiveSpec] = OBJECTIVES
) -> SLAP:
    """Make a minimal model with the three objectives.

    Args:
        audio: the audio encoder.
        text: the text encoder.
        objectives: the objectives with their weights.
    """
    torch.set_num_threads(1)
    return SLAP(audio=audio, text=text, objectives=objectives, embedding_dim=32, lr=1e-4, warmup_steps=50)


def data(
    folder: str = "runs/soak/corpus",
    max_bad: float = 0.3,
    num_workers: int = 2,
    pause: float = 1.0,
    stall: float = 8.0,
    share: float = 0.01,
) -> AudioTextData:
    """Make the data module of the corpus that `benchmarks/soak.py` writes and damages.

    Args:
        folder: the folder of the corpus.
        max_bad: share of clips that may be bad.
        num_workers: number of loading processes.
        pause: time that each batch waits for the disk, in seconds.
        stall: time that some batches wait instead, in seconds.
        share: share of batches that stall.
    """
    return AudioTextData(
        f"{folder}/train.jsonl.gz",
        f"{folder}/val.jsonl.gz",
        max_duration=20.0,
        max_clip=4.0,
        num_buckets=3,
        max_bad=max_bad,
        num_workers=num_workers,
        transforms=[SlowDisk(pause, stall, share)],
    )


def trainer(out: str = "runs/soak", max_steps: int = STEPS, val_check_interval: int = 40, **options: Any) -> Trainer:
    """Make a trainer that runs until it is stopped.

    Args:
        out: the run's folder.
        max_steps: optimizer steps.
        val_check_interval: batches between validations, each of which saves `last.ckpt`.
        **options: any other option of `slap.training.trainer.trainer`.
    """
    return training.trainer(
        out=out,
        max_steps=max_steps,
        val_check_interval=val_check_interval,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[Record(out)],
        **options,
    )
