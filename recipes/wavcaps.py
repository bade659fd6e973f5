"""Fine-tuning on WavCaps, as in the paper's second row of zero-shot classification: four sources, one mixture.

Prepare it first, with the blacklists of the benchmarks that you test on: `slap prepare wavcaps ROOT manifests/wavcaps
--blacklists '[...]'`. It has no validation split: a small share of each source is held out to select the checkpoint,
and you name the test set, e.g. `--data.test '[manifests/esc50/all.jsonl.gz]'`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from slap.datamodules import AudioTextData
from slap.datamodules.prepared_path import prepared
from slap.model.specs import ObjectiveSpec
from slap.recipes import base, finetune
from slap.training.module import SLAP

SOURCES = ("AudioSet_SL", "BBC_Sound_Effects", "FreeSound", "SoundBible")


def model(
    objectives: Mapping[str, ObjectiveSpec] = base.OBJECTIVES,
    layer_decay: float = 1.0,
    warmup_steps: int = 1000,
    **options: Any,
) -> SLAP:
    """Begin from a trained model, or pretrain on WavCaps without `start`, by the paper's three objectives.

    WavCaps is nearly as large as the sets that others pretrain on.

    Args:
        objectives: each objective with its weight or arguments.
        layer_decay: the factor on the learning rate from each layer of the encoders to the one below it.
        warmup_steps: optimizer steps of linear warm-up.
        **options: any other option of `finetune.model`.
    """
    return finetune.model(objectives=objectives, layer_decay=layer_decay, warmup_steps=warmup_steps, **options)


def data(
    manifests: str = "manifests/wavcaps",
    sources: Sequence[str] = SOURCES,
    held_out: float = 0.005,
    max_duration: float = 1280.0,
    num_workers: int = 8,
    **options: Any,
) -> AudioTextData:
    """Read the sources under their names, so that the logs show each by itself.

    Args:
        manifests: the folder that `slap prepare wavcaps` wrote.
        sources: names of the sources to train on.
        held_out: share of each source's clips to validate on, always the same ones; they are not trained on.
        max_duration: seconds of audio per batch, per process.
        num_workers: loading processes per training process; 0 loads between training steps.
        **options: any other option of `finetune.data`.
    """
    found = {source: prepared(Path(manifests), source, "wavcaps") for source in sources}
    return finetune.data(
        train={source: f"{path}#train={held_out}" for source, path in found.items()},
        val={source: f"{path}#heldout={held_out}" for source, path in found.items()},
        max_duration=max_duration,
        num_workers=num_workers,
        **options,
    )


def trainer(
    out: str = "runs/wavcaps",
    max_steps: int = 30_000,
    val_check_interval: int = 1000,
    monitor: str = "val/t2a_R@10",
    **options: Any,
) -> Trainer:
    """Train for about ten epochs on one process.

    Args:
        out: the run's folder.
        max_steps: optimizer steps.
        val_check_interval: batches between validations.
        monitor: the validation metric that selects `best.ckpt`.
        **options: any other option of `finetune.trainer`.
    """
    return finetune.trainer(
        out=out, max_steps=max_steps, val_check_interval=val_check_interval, monitor=monitor, **options
    )
