"""One model on open corpora of sounds, words, digits and voices, and on scenes composed of them, on two CPU cores.

    slap fit --recipe open_sounds --data.root CORPORA
    slap test --config runs/open_sounds/config.yaml

ESC-50, UrbanSound8K, Speech Commands, RAVDESS, ESC-10 and the Free Spoken Digit Dataset, as far as they are there.
Speakers, actors and folds are held out, see `slap.datamodules.corpora.open_sounds_data`. `--data.part develop`
evaluates on parts for choosing settings; `final` trains on those too, and tests on the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lightning.pytorch import Trainer

from slap.datamodules import AudioTextData
from slap.datamodules.augment import augmentations
from slap.datamodules.augment.scenes import Scenes
from slap.datamodules.corpora.open_sounds_data import data_module
from slap.datamodules.corpora.open_sounds_words import scene_words
from slap.model.specs import EncoderSpec, ObjectiveSpec
from slap.recipes import base
from slap.recipes.demo import TEXT_LR
from slap.training.module import SLAP

AUDIO: EncoderSpec = {
    "name": "transformer",
    "size": "nano",
    "patch": [4, 64],
    "level": "rms",
    "clip_times": True,
    "mask_bands": 6,
    "mask_share": 0.1,
    "mask_from": 1.0,
}
"""Patches of 40 ms with all bands, for words; one level, since recordings differ in it; the time from both ends of a
clip, for order and length; and weak SpecAugment. See docs/log.md for each."""

TEXT: EncoderSpec = {"name": "transformer", "size": "nano", "vocab_size": 800, "absolute_positions": True}
OBJECTIVES: Mapping[str, ObjectiveSpec] = {
    "contrastive": 1.0,
    "frame_alignment": 0.2,
    "captioning": {"weight": 0.2, "layers": 2, "heads": 4, "width": 128, "hidden": 256},
}
CAPTION_FIELDS = {"prompt": 0.5, "phrase": 0.3, "sentence": 0.2}
"""Shares of captions: half are those by which the zero-shot tasks ask."""


def model(
    audio: EncoderSpec = AUDIO,
    text: EncoderSpec = TEXT,
    objectives: Mapping[str, ObjectiveSpec] = OBJECTIVES,
    embedding_dim: int = 256,
    lr: float = 2e-3,
    lr_scales: Mapping[str, float] | None = None,
    warmup_steps: int = 200,
    **options: Any,
) -> SLAP:
    """Build a SLAP that two CPU cores can train.

    Args:
        audio: the audio encoder: a registered name, or {name: ..., argument: value}.
        text: the text encoder: a registered name, or {name: ..., argument: value}.
        objectives: the contrastive one, with labels of frames and captions at less weight.
        embedding_dim: the dimension that audio and text share.
        lr: learning rate after warm-up.
        lr_scales: factors on the learning rate of parts; default: a tenth for the text encoder.
        warmup_steps: optimizer steps of linear warm-up.
        **options: any other option of `base.model`.
    """
    return base.model(
        audio=audio,
        text=text,
        objectives=objectives,
        embedding_dim=embedding_dim,
        lr=lr,
        lr_scales={"text": TEXT_LR} if lr_scales is None else lr_scales,
        warmup_steps=warmup_steps,
        **options,
    )


def data(
    root: str,
    manifests: str = "runs/open_sounds/manifests",
    part: Literal["develop", "final"] = "final",
    corpora: Sequence[str] = (),
    scenes: Mapping[str, Any] | None = None,
    max_duration: float = 80.0,
    num_buckets: int = 1,
    num_workers: int = 1,
    caption_fields: Mapping[str, float] | None = None,
    **options: Any,
) -> AudioTextData:
    """Read the corpora, with captions from templates and with scenes of the clips of each batch.

    Args:
        root: folder of the corpora, see `slap.datamodules.corpora.open_sounds`.
        manifests: folder to write the manifests, and the scenes to evaluate on, to.
        part: "develop" to choose settings on parts for development, "final" to train on those too, and test on the
            held-out parts.
        corpora: names of the corpora to read; default: all that are there.
        scenes: options of the augmentation `scenes`.
        max_duration: seconds of audio per batch, per process.
        num_buckets: number of length classes that training batches are made from; 1 mixes all lengths.
        num_workers: loading processes per training process.
        caption_fields: probabilities of the captions' fields: prompt, phrase, sentence and detail.
        **options: any other option of `slap.datamodules.corpora.open_sounds_data.data_module`.
    """
    composed = Scenes(**{"probability": 0.3, "words": scene_words(), **(scenes or {})})
    return data_module(
        root,
        manifests,
        part,
        corpora=corpora,
        transforms=(*augmentations({"event_crop": {"shortest": 1.5, "longest": 3.0}}), composed),
        max_duration=max_duration,
        num_buckets=num_buckets,
        num_workers=num_workers,
        caption_fields=CAPTION_FIELDS if caption_fields is None else caption_fields,
        **options,
    )


def trainer(
    out: str = "runs/open_sounds", max_steps: int = 5000, val_check_interval: int = 1000, **options: Any
) -> Trainer:
    """Train for as many steps as two CPU cores do in less than an hour.

    Args:
        out: the run's folder.
        max_steps: optimizer steps.
        val_check_interval: batches between validations.
        **options: any other option of `base.trainer`.
    """
    return base.trainer(out=out, max_steps=max_steps, val_check_interval=val_check_interval, **options)
