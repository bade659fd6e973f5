"""The whole of SLAP in minutes on two CPU cores: a tiny model on sounds that the package synthesizes itself.

Scenes of up to four sounds, in a row, over each other or repeated, are composed of the sounds of each batch. Many have
a twin of the same sounds in another order, number or length, so that these matter. The three objectives and their
weights are the paper's; the sizes are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer

from slap.datamodules.synthetic import SyntheticData
from slap.model.specs import EncoderSpec, ObjectiveSpec
from slap.recipes import base
from slap.training.module import SLAP

AUDIO: EncoderSpec = {"name": "transformer", "size": "nano", "clip_times": True, "mask_bands": 0, "mask_share": 0.0}
"""With the time from both ends of a clip, for lengths and order, and without SpecAugment: some clips last a third of a
second, and sounds are never heard twice in this short run. See docs/log.md for both."""

TEXT: EncoderSpec = {"name": "transformer", "size": "nano", "vocab_size": 512, "absolute_positions": True}
OBJECTIVES: Mapping[str, ObjectiveSpec] = {
    "contrastive": 1.0,
    "masked_distillation": {"weight": 1.0, "prototypes": 256, "hidden": 256, "bottleneck": 64},
    "captioning": {"weight": 0.5, "layers": 2, "heads": 2, "width": 128, "hidden": 256},
}
EMA_MOMENTUM = (0.98, 1.0)
TEXT_LR = 0.1
"""Factor on the learning rate of the text encoder, which else moves faster than sounds are learned, see docs/log.md."""


def model(
    audio: EncoderSpec = AUDIO,
    text: EncoderSpec = TEXT,
    objectives: Mapping[str, ObjectiveSpec] = OBJECTIVES,
    embedding_dim: int = 128,
    ema_momentum: tuple[float, float] = EMA_MOMENTUM,
    lr: float = 2e-3,
    lr_scales: Mapping[str, float] | None = None,
    warmup_steps: int = 40,
    **options: Any,
) -> SLAP:
    """Build a SLAP of two and a half million parameters.

    Args:
        audio: the audio encoder.
        text: the text encoder; its vocabulary is small, as is that of the captions.
        objectives: the paper's three with its weights, with small heads.
        embedding_dim: the dimension that audio and text share.
        ema_momentum: the momentum of the teacher at the first and the last optimizer step; it begins below the paper's
            0.994, because the run is short.
        lr: learning rate after warm-up; small models learn faster than with the paper's 1e-4.
        lr_scales: factors on the learning rate of parts; default: a tenth for the text encoder.
        warmup_steps: optimizer steps of linear warm-up.
        **options: any other option of `base.model`.
    """
    return base.model(
        audio=audio,
        text=text,
        objectives=objectives,
        embedding_dim=embedding_dim,
        ema_momentum=ema_momentum,
        lr=lr,
        lr_scales={"text": TEXT_LR} if lr_scales is None else lr_scales,
        warmup_steps=warmup_steps,
        **options,
    )


def data(
    folder: str = "runs/demo/corpus", max_duration: float = 80.0, num_buckets: int = 1, **options: Any
) -> SyntheticData:
    """Read the synthetic corpus, which is written to `folder` when it is not there yet.

    Args:
        folder: the folder that holds, or will hold, the corpus.
        max_duration: seconds of audio per batch, per process.
        num_buckets: number of length classes that training batches are made from. One, so that the scenes of a batch
            are composed of short and long sounds.
        **options: any other option of `SyntheticData`.
    """
    return SyntheticData(folder, max_duration=max_duration, num_buckets=num_buckets, **options)


def trainer(out: str = "runs/demo", max_steps: int = 500, val_check_interval: int = 100, **options: Any) -> Trainer:
    """Train for a few hundred steps.

    Args:
        out: the run's folder.
        max_steps: optimizer steps.
        val_check_interval: batches between validations.
        **options: any other option of `base.trainer`.
    """
    return base.trainer(out=out, max_steps=max_steps, val_check_interval=val_check_interval, **options)
