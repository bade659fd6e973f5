"""A recipe on short clips of noise that writes down its stream of batches, and kills itself when it is told to.

The variable KILL says how, e.g. `{"batch": 5, "signal": 9, "rank": 1}`; batches are counted from 1, over all epochs.
With `"launcher": true` the launcher is killed in its place. Processes that torchrun starts anew do nothing of it.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from lightning.pytorch import Callback, Trainer

from slap.datamodules import AudioTextData
from slap.testing.tiny import CAPTIONS, WIDTH, TinyAudio, TinyText
from slap.training import trainer as training
from slap.training.module import SLAP

RATE = 8_000
OBJECTIVES = {
    "contrastive": 1.0,
    "masked_distillation": {"weight": 1.0, "prototypes": 16, "hidden": 16, "bottleneck": 8},
}


def model(lr: float = 1e-3) -> SLAP:
    """A tiny model with a teacher and random masks.

    Args:
        lr: the learning rate.
    """
    return SLAP(TinyAudio(), TinyText(), OBJECTIVES, embedding_dim=WIDTH, lr=lr, warmup_steps=0)


def data(
    folder: str = "clips",
    clips: int = 60,
    max_duration: float = 1.6,
    num_buckets: int = 2,
    num_workers: int = 0,
    seed: int = 0,
    shuffle_clips: int = 1000,
    step_batches: int | None = None,
) -> AudioTextData:
    """Two sources of clips of 0.1 to 0.5 s.

    Args:
        folder: where the clips are, or will be.
        clips: how many.
        max_duration: seconds of audio in a batch.
        num_buckets: classes of length.
        num_workers: loading processes.
        seed: of the order.
        shuffle_clips: clips that are shuffled at a time.
        step_batches: batches per step.
    """
    train = {name: write_clips(Path(folder), name, clips // 2) for name in ("birds", "cars")}
    return AudioTextData(
        train,
        write_clips(Path(folder), "val", 6),
        max_duration=max_duration,
        num_buckets=num_buckets,
        max_clip=0.4,
        augment={"gain": {"low": -6.0, "high": 6.0}},
        num_workers=num_workers,
        seed=seed,
        shuffle_clips=shuffle_clips,
        step_batches=step_batches,
    )


def trainer(out: str = "run", max_steps: int = 12, log_every_n_steps: int = 1, **options: Any) -> Trainer:
    """A few steps, with a record of them.

    Args:
        out: the run's folder.
        max_steps: optimizer steps.
        log_every_n_steps: steps between rows.
        **options: any other option of `slap.training.trainer.trainer`.
    """
    made = training.trainer(out=out, max_steps=max_steps, log_every_n_steps=log_every_n_steps, **options)
    made.callbacks.insert(0, Record(Path(out)))  # the first, so that nothing of a batch that kills is committed
    return made


def write_clips(folder: Path, name: str, count: int) -> str:
    """A manifest, with its audio; written once."""
    manifest = folder / f"{name}-{count}.jsonl"
    if manifest.exists():
        return str(manifest)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(name))
    rows = []
    for i in range(count):
        audio = folder / f"{name}{i}.wav"
        soundfile.write(audio, rng.uniform(-0.3, 0.3, int(RATE * rng.uniform(0.1, 0.5))), RATE)
        rows.append({"id": f"{name}{i}", "audio": audio.name, "caption": [CAPTIONS[i % 5], CAPTIONS[(i + 1) % 5]]})
    part = manifest.with_name(f"{manifest.name}.{os.getpid()}")
    part.write_text("".join(json.dumps(row) + "\n" for row in rows))
    part.replace(manifest)
    return str(manifest)


class Record(Callback):
    """Appends what each batch held and what came of it to a file of the process, and kills the process."""

    def __init__(self, out: Path) -> None:
        self.out = out
        again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
        self.kill: dict[str, Any] = {} if again else json.loads(os.environ.get("KILL", "{}"))

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Write, at once on the disk."""
        number = trainer.fit_loop.total_batch_idx + 1
        row = {
            "batch": number,
            "epoch": trainer.current_epoch,
            "ids": batch.ids,
            "loss": outputs["loss"].item().hex(),
            "random": torch.get_rng_state().sum().item(),
        }
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / f"pid{trainer.global_rank}").write_text(str(os.getpid()))
        with (self.out / f"stream{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        if self.kill.get("batch") == number and self.kill.get("rank", 0) == trainer.global_rank:
            if "error" in self.kill:
                raise RuntimeError(self.kill["error"])
            os.kill(os.getppid() if self.kill.get("launcher") else os.getpid(), self.kill["signal"])
            if self.kill.get("launcher"):
                return
            if self.kill["signal"] == signal.SIGKILL:
                time.sleep(60)
