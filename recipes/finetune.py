"""Fine-tuning on your own pairs: from a trained model, at a small learning rate, selected on validation.

The parent of the recipes for published corpora: `retrieval`, `wavcaps`, `classification`, `captioning`. Against `base`
it begins from a checkpoint or an exported folder, learns by L_CLAP alone, and lets lower layers change less. The paper
does not say how it fine-tunes; all numbers here are our choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer

from slap.datamodules import AudioTextData
from slap.evaluation.monitor import check_monitor
from slap.model.specs import EncoderSpec, ObjectiveSpec
from slap.recipes import base
from slap.training.module import SLAP
from slap.training.warm_start import WarmStart

OBJECTIVES: Mapping[str, ObjectiveSpec] = {"contrastive": 1.0}


def model(
    start: str | None = None,
    objectives: Mapping[str, ObjectiveSpec] = OBJECTIVES,
    audio: EncoderSpec | None = None,
    text: EncoderSpec | None = None,
    embedding_dim: int = 512,
    layer_decay: float = 0.9,
    lr: float = 5e-5,
    warmup_steps: int = 100,
    **options: Any,
) -> SLAP:
    """Begin from a trained model.

    Args:
        start: a checkpoint, or a folder that `slap export` wrote; default: train from scratch.
        objectives: each objective with its weight or arguments; one that the trained model has goes on from what it
            learned.
        audio: arguments of the audio encoder to change, e.g. {mask_bands: 8}; without `start`, the audio encoder.
        text: arguments of the text encoder to change; without `start`, the text encoder.
        embedding_dim: the dimension that audio and text share, without `start`.
        layer_decay: the factor on the learning rate from each layer of the encoders to the one below it.
        lr: learning rate after warm-up.
        warmup_steps: optimizer steps of linear warm-up.
        **options: any other option of `base.model`.
    """
    trained = None if start is None else WarmStart.read(start)
    parts: dict[str, Any] = {"audio": audio or base.AUDIO, "text": text or base.TEXT, "objectives": objectives}
    parts["embedding_dim"] = embedding_dim
    if trained is not None:
        parts = trained.arguments(objectives, audio, text)
    made = base.model(**parts, layer_decay=layer_decay, lr=lr, warmup_steps=warmup_steps, **options)
    if trained is not None:
        trained.fill(made)
    return made


def data(max_duration: float = 320.0, num_buckets: int = 10, **options: Any) -> AudioTextData:
    """Read your manifests; no clip of `test` may be in `val` or in `train`.

    Args:
        max_duration: seconds of audio per batch, per process.
        num_buckets: number of length classes that training batches are made from; 1 mixes all lengths.
        **options: any other option of `base.data`.
    """
    return base.data(max_duration=max_duration, num_buckets=num_buckets, disjoint=True, **options)


def trainer(
    out: str = "runs/finetune",
    max_steps: int = 2000,
    val_check_interval: int = 200,
    monitor: str = "val/t2a_R@1",
    validate_first: bool = True,
    **options: Any,
) -> Trainer:
    """Train for a few thousand steps.

    Args:
        out: the run's folder.
        max_steps: optimizer steps.
        val_check_interval: batches between validations.
        monitor: the validation metric that selects `best.ckpt`; never one of a test set.
        validate_first: validate the model that training begins from too, so that the table at the end compares it with
            what became of it.
        **options: any other option of `base.trainer`.

    Raises:
        ValueError: `monitor` is no metric of a validation.
    """
    check_monitor(monitor)
    return base.trainer(
        out=out,
        max_steps=max_steps,
        val_check_interval=val_check_interval,
        monitor=monitor,
        validate_first=validate_first,
        **options,
    )
