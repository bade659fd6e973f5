"""Real recordings in minutes on two CPU cores: spoken digits of four people, and environmental sounds.

Differs from `demo` in its data, in its sizes, and in strong augmentation, since there are only 240 training sounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer

from slap.datamodules import AudioTextData
from slap.datamodules.corpora.digits_and_sounds import data_module
from slap.model.specs import EncoderSpec, ObjectiveSpec
from slap.recipes import base, demo
from slap.training.module import SLAP

AUDIO: EncoderSpec = {"name": "transformer", "size": "nano", "row_embedding": True, "mask_bands": 12, "mask_from": 1.0}
"""Many steps of a small encoder that hears at once which bands are loud; SpecAugment for the sounds alone, since it
costs half a second of speech too much. See docs/log.md for all three."""

TEXT: EncoderSpec = {"name": "transformer", "size": "nano", "vocab_size": 400}
OBJECTIVES: Mapping[str, ObjectiveSpec] = {
    "contrastive": 1.0,
    "masked_distillation": {"weight": 0.5, "prototypes": 256, "hidden": 256, "bottleneck": 64},
    "captioning": {"weight": 0.5, "layers": 2, "heads": 4, "width": 128, "hidden": 256},
}


def model(
    audio: EncoderSpec = AUDIO,
    text: EncoderSpec = TEXT,
    objectives: Mapping[str, ObjectiveSpec] = OBJECTIVES,
    embedding_dim: int = 256,
    mask_ratio: float = 0.3,
    lr: float = 5e-4,
    lr_scales: Mapping[str, float] | None = None,
    warmup_steps: int = 100,
    **options: Any,
) -> SLAP:
    """Build a SLAP that two CPU cores can train.

    Args:
        audio: the audio encoder: a registered name, or {name: ..., argument: value}.
        text: the text encoder: a registered name, or {name: ..., argument: value}.
        objectives: the paper's three with small heads, and with half its weight on `masked_distillation`.
        embedding_dim: the dimension that audio and text share.
        mask_ratio: share of patches that the masked view hides.
        lr: learning rate after warm-up.
        lr_scales: factors on the learning rate of parts, {text: 0.1}; default: none.
        warmup_steps: optimizer steps of linear warm-up.
        **options: any other option of `demo.model`.
    """
    return demo.model(
        audio=audio,
        text=text,
        objectives=objectives,
        embedding_dim=embedding_dim,
        mask_ratio=mask_ratio,
        lr=lr,
        lr_scales=lr_scales or {},
        warmup_steps=warmup_steps,
        **options,
    )


def data(
    root: str,
    manifests: str = "runs/digits_and_sounds/manifests",
    max_duration: float = 60.0,
    num_buckets: int = 1,
    num_workers: int = 1,
    **options: Any,
) -> AudioTextData:
    """Read digits and sounds with captions from templates; one fold of sounds and some digits are held out.

    Args:
        root: folder with `fsdd/recordings/*.wav` and `esc10/*/*.ogg`; docs/explanation/results.md says where to
            get them.
        manifests: folder to write the manifests to.
        max_duration: seconds of audio per batch, per process, before sounds are cropped; about 34 s after.
        num_buckets: number of length classes that training batches are made from; 1 mixes digits and sounds.
        num_workers: loading processes; one makes batches, a quarter of the work, while the other core trains.
        **options: any other option of `slap.datamodules.corpora.digits_and_sounds.data_module`.
    """
    return data_module(
        root, manifests, max_duration=max_duration, num_buckets=num_buckets, num_workers=num_workers, **options
    )


def trainer(
    out: str = "runs/digits_and_sounds", max_steps: int = 3000, val_check_interval: int = 300, **options: Any
) -> Trainer:
    """Train for as many steps as two CPU cores do in about a quarter of an hour.

    Args:
        out: the run's folder.
        max_steps: optimizer steps.
        val_check_interval: batches between validations.
        **options: any other option of `base.trainer`.
    """
    return base.trainer(out=out, max_steps=max_steps, val_check_interval=val_check_interval, **options)
