"""The paper's run (arXiv 2601.12594), on your own manifests: sizes, weights and schedules as published.

The paper trained on 109 M pairs for two epochs with 2,048 clips a step; what it does not state is marked in the
docstrings of the parts. It takes a pretrained ModernBERT as the text encoder: `--model.text '{name: modernbert,
pretrained: answerdotai/ModernBERT-base}'`. The default is trained from scratch, so that nothing is downloaded unasked.
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
EMA_MOMENTUM = (0.994, 1.0)


def model(
    audio: EncoderSpec = AUDIO,
    text: EncoderSpec = TEXT,
    objectives: Mapping[str, ObjectiveSpec] = OBJECTIVES,
    embedding_dim: int = 512,
    mask_ratio: float = 0.5,
    ema_momentum: tuple[float, float] = EMA_MOMENTUM,
    lr: float = 1e-4,
    weight_decay: float = 0.05,
    warmup_steps: int = 2000,
    compile: bool = False,  # noqa: A002 - the name that torch.nn.Module uses
    micro_clips: int | None = None,
) -> SLAP:
    """The paper's model.

    Args:
        audio: the audio encoder: 12 blocks, width 768, SpecAugment.
        text: the text encoder.
        objectives: L = 1.0 L_CLAP + 1.0 L_SSL + 0.5 L_CAP.
        embedding_dim: the dimension that audio and text share (our choice).
        mask_ratio: share of patches that the masked view hides.
        ema_momentum: of the teacher, at the start and the end.
        lr: learning rate after warm-up.
        weight_decay: of linear layers (our choice).
        warmup_steps: linear warm-up.
        compile: compile the blocks of encoders, decoder and teacher: faster on a GPU after a minute's wait.
        micro_clips: compute at most so many clips at once; larger batches keep their gradient, see `SLAP`.
    """
    return SLAP(
        audio=audio,
        text=text,
        objectives=objectives,
        embedding_dim=embedding_dim,
        mask_ratio=mask_ratio,
        ema_momentum=ema_momentum,
        lr=lr,
        weight_decay=weight_decay,
        warmup_steps=warmup_steps,
        compile=compile,
        micro_clips=micro_clips,
    )


def data(
    train: Sequence[str] | Mapping[str, str | Sequence[str]],
    val: Sequence[str] | Mapping[str, str | Sequence[str]] = (),
    test: Sequence[str] | Mapping[str, str | Sequence[str]] = (),
    max_duration: float = 600.0,
    max_clips: int | None = None,
    num_buckets: int = 30,
    repeats: Sequence[int] = (1,),
    weights: Mapping[str, float] | None = None,
    temperature: float | None = None,
    epoch_clips: int | None = None,
    min_clip: float = 0.0,
    max_clip: float | None = 30.0,
    window: float | None = 30.0,
    caption_fields: Mapping[str, float] | None = None,
    text_augment: str | Mapping[str, Any] | None = None,
    prompts: Mapping[str, str] | None = None,
    augment: Mapping[str, Mapping[str, Any] | None] | None = None,
    max_bad: float = 0.05,
    max_decoded: float = 1024.0,
    data_root: str | None = None,
    in_memory: bool = False,
    num_workers: int = 4,
    seed: int = 0,
) -> AudioTextData:
    """Your manifests: CSV or JSON lines with `audio,caption`, or Lhotse CutSets.

    Args:
        train: manifests to train on, or by name of a source its manifests.
        val: manifests for validation during training, likewise.
        test: manifests for `slap test`.
        max_duration: seconds of audio in a batch, on each process. The paper has 2,048 clips a step over all.
        max_clips: clips in a batch at most.
        num_buckets: classes of similar length that batches are made from.
        repeats: how often the clips of each training manifest come in an epoch: one number for each, or one for all.
        weights: for each source of `train` its weight in an epoch.
        temperature: evens out the sources' shares of an epoch, which are in proportion to clips^(1 / temperature).
        epoch_clips: clips of an epoch with `weights` or `temperature`; as many as there are.
        min_clip: shorter training clips are left out, in seconds.
        max_clip: longer training clips are cropped to this, in seconds (the paper: 30).
        window: evaluation takes longer clips in overlapping windows of this length, in seconds.
        caption_fields: for each field of captions how probable it is, e.g. {caption: 0.7, tags: 0.3}.
        text_augment: changes training captions: a registered name, {name: ..., argument: value}, or a function's path.
        prompts: for each zero-shot task its prompt, with `{label}`.
        augment: augmentation of training clips, by name its arguments (the paper: SpecAugment alone, in the encoder):
            concatenate, crop, event_crop, filter, gain, mix, mixup, noise, reverb, speed.
        max_bad: share of clips that may be bad (absent, unreadable, silent, ...) before the run stops.
        max_decoded: MB that reading a clip may take, by its header; what would take more is bad.
        data_root: a folder below which the audio of the manifests must lie.
        in_memory: decode all audio once.
        num_workers: loading processes.
        seed: of order, captions and crops.
    """
    return AudioTextData(
        train=train,
        val=val,
        test=test,
        max_duration=max_duration,
        max_clips=max_clips,
        num_buckets=num_buckets,
        repeats=repeats[0] if len(repeats) == 1 else repeats,
        weights=weights,
        temperature=temperature,
        epoch_clips=epoch_clips,
        min_clip=min_clip,
        max_clip=max_clip,
        window=window,
        caption_fields=caption_fields,
        text_augment=text_augment,
        prompts=prompts,
        augment=augment,
        max_bad=max_bad,
        max_decoded=max_decoded,
        data_root=data_root,
        in_memory=in_memory,
        num_workers=num_workers,
        seed=seed,
    )


def trainer(
    out: str = "runs/base", max_steps: int = 106_000, val_check_interval: int = 1000, **options: Any
) -> Trainer:
    """Two epochs of the paper's 109 M clips at 2,048 a step.

    Args:
        out: the run's folder.
        max_steps: optimizer steps; 2 x 109 M / 2,048.
        val_check_interval: batches between validations.
        **options: any other option of `slap.training.trainer.trainer`.
    """
    return training.trainer(out=out, max_steps=max_steps, val_check_interval=val_check_interval, **options)
