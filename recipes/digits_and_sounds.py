"""Real recordings in minutes on two CPU cores: spoken digits of four people, and environmental sounds.

Differs from `base` in its sizes, in its data, and in strong augmentation, since there are only 240 training sounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from slap.datamodules import AudioTextData
from slap.datamodules.augment.basic import Mix, Only, RandomGain, RandomSpeed
from slap.datamodules.augment.event_crop import EventCrop
from slap.datamodules.augment.random_eq import RandomFilter
from slap.datamodules.corpora.digits_and_sounds import PROMPTS, digits, sounds
from slap.datamodules.manifests.clip import write_manifest
from slap.model.specs import EncoderSpec, ObjectiveSpec
from slap.recipes import base
from slap.training.module import SLAP

AUDIO: EncoderSpec = {
    "name": "transformer",
    "size": "nano",
    "row_embedding": True,
    "mask_bands": 12,
    "mask_from": 1.0,
}
"""Many steps of a small encoder that hears at once which bands are loud; SpecAugment for the sounds alone, since it
costs half a second of speech too much. See docs/log.md for all three."""

TEXT: EncoderSpec = {"name": "transformer", "size": "nano", "vocab_size": 400}
OBJECTIVES: Mapping[str, ObjectiveSpec] = {
    "contrastive": 1.0,
    "masked_distillation": {"weight": 0.5, "prototypes": 256, "hidden": 256, "bottleneck": 64},
    "captioning": {"weight": 0.5, "layers": 2, "heads": 4, "width": 128, "hidden": 256},
}
EMA_MOMENTUM = (0.98, 1.0)


def model(
    audio: EncoderSpec = AUDIO,
    text: EncoderSpec = TEXT,
    objectives: Mapping[str, ObjectiveSpec] = OBJECTIVES,
    embedding_dim: int = 256,
    mask_ratio: float = 0.3,
    ema_momentum: tuple[float, float] = EMA_MOMENTUM,
    lr: float = 5e-4,
    weight_decay: float = 0.05,
    warmup_steps: int = 100,
) -> SLAP:
    """A SLAP that two CPU cores can train.

    Args:
        audio: the audio encoder.
        text: the text encoder.
        objectives: the paper's three with small heads, and with half its weight on `masked_distillation`.
        embedding_dim: the dimension that audio and text share.
        mask_ratio: share of patches that the masked view hides.
        ema_momentum: of the teacher; it starts below the paper's 0.994, because the run has few steps.
        lr: learning rate after warm-up.
        weight_decay: of linear layers.
        warmup_steps: linear warm-up.
    """
    return base.model(
        audio=audio,
        text=text,
        objectives=objectives,
        embedding_dim=embedding_dim,
        mask_ratio=mask_ratio,
        ema_momentum=ema_momentum,
        lr=lr,
        weight_decay=weight_decay,
        warmup_steps=warmup_steps,
    )


def data(
    root: str,
    manifests: str = "runs/digits_and_sounds/manifests",
    held_out_fold: int = 4,
    held_out_speaker: str | None = None,
    sound_repeats: int = 4,
    max_duration: float = 60.0,
    max_clip: float = 4.0,
    num_buckets: int = 1,
    num_workers: int = 1,
    seed: int = 0,
) -> AudioTextData:
    """Digits and sounds with captions from templates; digits 0-4 of each speaker and one fold of sounds are held out.

    Args:
        root: folder with `fsdd/recordings/*.wav` and `esc10/*/*.ogg`; the README says where to get them.
        manifests: folder to write the manifests to.
        held_out_fold: of the sounds.
        held_out_speaker: hold out all digits of this speaker, instead of digits 0-4 of each.
        sound_repeats: how often each training sound comes in an epoch.
        max_duration: seconds of audio in a batch, before sounds are cropped: about 34 s then.
        max_clip: training sounds are cropped to 1.5 s up to this, where something is heard. Held-out ones never.
        num_buckets: classes of similar length that batches are made from; 1 mixes digits and sounds.
        num_workers: loading processes; one makes batches, a quarter of the work, while the other core trains.
        seed: of order, captions and augmentation.
    """
    folder = Path(manifests)
    clips = {
        "digits": list(digits(Path(root, "fsdd", "recordings"), held_out_speaker)),
        "sounds": list(sounds(Path(root, "esc10"), held_out_fold)),
    }
    train = [
        write_manifest(folder / f"train_{name}.jsonl", [clip for clip, held_out in pairs if not held_out])
        for name, pairs in clips.items()
    ]
    held_out = write_manifest(
        folder / "held_out.jsonl", [clip for pairs in clips.values() for clip, held_out in pairs if held_out]
    )
    return AudioTextData(
        train=train,
        val=held_out,
        test=held_out,
        max_duration=max_duration,
        max_clip=None,  # a crop before the transforms could lose the event
        num_buckets=num_buckets,
        repeats=(1, sound_repeats),
        prompts=PROMPTS,
        transforms=(
            # Words would not survive what there must be of variety for 240 sounds.
            Only("esc10/", EventCrop(shortest=min(1.5, max_clip), longest=max_clip)),
            Only("esc10/", RandomSpeed(factors=(0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25))),
            Only("esc10/", RandomFilter(spread=4.0)),
            RandomGain(low=-6.0, high=6.0),
            Only("esc10/", Mix(probability=0.5)),
        ),
        in_memory=True,
        num_workers=num_workers,
        seed=seed,
    )


def trainer(
    out: str = "runs/digits_and_sounds", max_steps: int = 3000, val_check_interval: int = 300, **options: Any
) -> Trainer:
    """As many steps as two CPU cores do in about a quarter of an hour.

    Args:
        out: the run's folder.
        max_steps: optimizer steps.
        val_check_interval: batches between validations.
        **options: any other option of `slap.training.trainer.trainer`.
    """
    return base.trainer(out=out, max_steps=max_steps, val_check_interval=val_check_interval, **options)
