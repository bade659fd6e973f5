"""The paper's run (arXiv 2601.12594) on your own manifests: sizes, weights and schedules as published.

The paper trained on 109 M pairs for two epochs with 2,048 clips per step; what it does not state is marked as our
choice in the help of the options. It takes a pretrained ModernBERT as the text encoder: `--model.text '{name:
modernbert, pretrained: answerdotai/ModernBERT-base}'`. The default is trained from scratch, so that nothing is
downloaded unasked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Trainer

from slap.datamodules import AudioTextData
from slap.model.specs import EncoderSpec, ObjectiveSpec
from slap.training import trainer as training
from slap.training.module import SLAP

AUDIO: EncoderSpec = {"name": "transformer", "size": "base"}
TEXT: EncoderSpec = {"name": "transformer", "size": "base"}
OBJECTIVES: Mapping[str, ObjectiveSpec] = {"contrastive": 1.0, "masked_distillation": 1.0, "captioning": 0.5}


def model(
    audio: EncoderSpec = AUDIO,
    text: EncoderSpec = TEXT,
    objectives: Mapping[str, ObjectiveSpec] = OBJECTIVES,
    **options: Any,
) -> SLAP:
    """Build the paper's model.

    Args:
        audio: the audio encoder: 12 blocks, width 768, SpecAugment.
        text: the text encoder: 12 blocks, width 768, trained from scratch.
        objectives: each objective with its weight: L = 1.0 L_CLAP + 1.0 L_SSL + 0.5 L_CAP.
        **options: any other option of `SLAP`.
    """
    return SLAP(audio=audio, text=text, objectives=objectives, **options)


def data(
    train: Sequence[str] | Mapping[str, str | Sequence[str]] | str = (),
    val: Sequence[str] | Mapping[str, str | Sequence[str]] | str = (),
    test: Sequence[str] | Mapping[str, str | Sequence[str]] | str = (),
    max_duration: float = 600.0,
    num_buckets: int = 1,
    window: float | None = 30.0,
    num_workers: int = 4,
    **options: Any,
) -> AudioTextData:
    """Read your manifests: CSV or JSON lines with `audio,caption`, Lhotse CutSets, shards, or Hugging Face data sets.

    Args:
        train: manifests to train on, or a mapping from names of sources to their manifests. `all.csv#fold=1,2` takes
            some folds of a manifest alone. It may be left out where `unlabelled` is given.
        val: manifests for validation during training, or a mapping from names of sources to their manifests.
        test: manifests for `slap test`, or a mapping from names of sources to their manifests.
        max_duration: seconds of audio per batch, per process. The paper has 2,048 clips per step over all processes.
        num_buckets: number of length classes that training batches are made from; 1 mixes all lengths. Nothing is
            padded, so that classes save no time, while batches of long clips hold few (see docs/howto/scale.md).
        window: seconds; evaluation takes longer clips in overlapping windows of this length.
        num_workers: loading processes per training process; 0 loads between training steps.
        **options: any other option of `AudioTextData`.
    """
    return AudioTextData(
        train=train,
        val=val,
        test=test,
        max_duration=max_duration,
        num_buckets=num_buckets,
        window=window,
        num_workers=num_workers,
        **options,
    )


def trainer(
    out: str = "runs/base", max_steps: int = 106_000, val_check_interval: int = 1000, **options: Any
) -> Trainer:
    """Train for two epochs of the paper's 109 M clips at 2,048 clips per step.

    Args:
        out: the run's folder.
        max_steps: optimizer steps; 2 x 109 M / 2,048.
        val_check_interval: batches between validations.
        **options: any other option of `slap.training.trainer.trainer`.
    """
    return training.trainer(out=out, max_steps=max_steps, val_check_interval=val_check_interval, **options)
