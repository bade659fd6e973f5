"""Fine-tuning on your own pairs: from a trained model, at a small learning rate, chosen on validation, told on test.

The parent of the recipes that follow the field's protocols: `retrieval`, `wavcaps`, `classification`, `captioning`.
Against `base` it begins from a checkpoint or an exported folder, learns by L_CLAP alone, and lets lower layers change
less. The paper does not say how it fine-tunes; all figures here are our choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Trainer

from slap.datamodules.apart import ApartData
from slap.evaluation.benchmarks import datasets
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
    mask_ratio: float = 0.5,
    ema_momentum: tuple[float, float] = base.EMA_MOMENTUM,
    freeze: Sequence[str] = (),
    layer_decay: float = 0.9,
    lr_scales: Mapping[str, float] | None = None,
    lr: float = 5e-5,
    weight_decay: float = 0.05,
    warmup_steps: int = 100,
    compile: bool = False,  # noqa: A002 - the name that torch.nn.Module uses
) -> SLAP:
    """A trained model to go on with.

    Args:
        start: a checkpoint, or a folder that `slap export` wrote. None trains from scratch.
        objectives: of this training; one that the trained model has goes on from what it learnt.
        audio: arguments of the audio encoder to change, e.g. {mask_bands: 8}; without `start`, the encoder.
        text: the same for the text encoder.
        embedding_dim: the dimension that audio and text share, without `start`.
        mask_ratio: share of patches that the masked view hides, where an objective reads it.
        ema_momentum: of the teacher, where an objective has one.
        freeze: parts that do not learn, by the beginning of their names: audio, text, audio_pool, audio.blocks.0, ...
        layer_decay: the factor on the learning rate from each layer of the encoders to the one below it.
        lr_scales: further factors on the learning rate, by the beginning of parameters' names, e.g. {text: 0.1}.
        lr: learning rate after warm-up.
        weight_decay: of linear layers.
        warmup_steps: linear warm-up.
        compile: compile the blocks of encoders and decoder when training begins.
    """
    found = None if start is None else WarmStart.read(start)
    parts = (
        {"audio": audio or base.AUDIO, "text": text or base.TEXT, "embedding_dim": embedding_dim}
        | {"objectives": objectives}
        if found is None
        else found.arguments(objectives, audio, text)
    )
    made = SLAP(
        **parts,
        mask_ratio=mask_ratio,
        ema_momentum=ema_momentum,
        lr=lr,
        weight_decay=weight_decay,
        warmup_steps=warmup_steps,
        compile=compile,
        freeze=freeze,
        layer_decay=layer_decay,
        lr_scales=lr_scales,
    )
    if found is not None:
        found.fill(made)
    return made


def data(
    train: Sequence[str] | Mapping[str, str | Sequence[str]],
    val: Sequence[str] | Mapping[str, str | Sequence[str]] = (),
    test: Sequence[str] | Mapping[str, str | Sequence[str]] = (),
    max_duration: float = 320.0,
    max_clips: int | None = None,
    num_buckets: int = 10,
    weights: Mapping[str, float] | None = None,
    temperature: float | None = None,
    balance: str | None = None,
    epoch_clips: int | None = None,
    max_clip: float | None = 30.0,
    window: float | None = 30.0,
    caption_fields: Mapping[str, float] | None = None,
    text_augment: str | Mapping[str, Any] | None = None,
    prompts: Mapping[str, str] | None = None,
    augment: Mapping[str, Mapping[str, Any] | None] | None = None,
    max_bad: float = 0.05,
    in_memory: bool = False,
    num_workers: int = 4,
    seed: int = 0,
) -> ApartData:
    """Your manifests; no clip may be in `val` and in `test`.

    Args:
        train: manifests to train on, or by name of a source its manifests. `all.csv#fold=1,2` takes some folds alone.
        val: manifests to choose the best checkpoint on.
        test: manifests to judge it on, by `slap test --ckpt_path best`.
        max_duration: seconds of audio in a batch, on each process.
        max_clips: clips in a batch at most.
        num_buckets: classes of similar length that batches are made from.
        weights: for each source of `train` its weight in an epoch.
        temperature: evens out the sources' shares of an epoch, which are in proportion to clips^(1 / temperature).
        balance: a task whose classes shall come equally often.
        epoch_clips: clips of an epoch with `weights`, `temperature` or `balance`; as many as there are.
        max_clip: longer training clips are cropped to this, in seconds.
        window: evaluation takes longer clips in overlapping windows of this length, in seconds.
        caption_fields: for each field of captions how probable it is, e.g. {caption: 0.7, tags: 0.3}.
        text_augment: changes training captions: a registered name, {name: ..., argument: value}, or a function's path.
        prompts: for each zero-shot task its prompt, with `{label}`.
        augment: augmentation of training clips, by name its arguments, as for `base`.
        max_bad: share of clips that may be bad (absent, unreadable, silent, ...) before the run stops.
        in_memory: decode all audio once.
        num_workers: loading processes.
        seed: of order, captions and crops.
    """
    return ApartData(
        train=train,
        val=val,
        test=test,
        max_duration=max_duration,
        max_clips=max_clips,
        num_buckets=num_buckets,
        weights=weights,
        temperature=temperature,
        balance=balance,
        epoch_clips=epoch_clips,
        max_clip=max_clip,
        window=window,
        caption_fields=caption_fields,
        text_augment=text_augment,
        prompts=prompts,
        augment=augment,
        max_bad=max_bad,
        in_memory=in_memory,
        num_workers=num_workers,
        seed=seed,
    )


def trainer(
    out: str = "runs/finetune",
    max_steps: int = 2000,
    val_check_interval: int = 200,
    monitor: str = "val/t2a_R@1",
    **options: Any,
) -> Trainer:
    """A few thousand steps.

    Args:
        out: the run's folder.
        max_steps: optimizer steps.
        val_check_interval: batches between validations.
        monitor: the figure of the validation by which `best.ckpt` is chosen; never one of the test.
        **options: any other option of `slap.training.trainer.trainer`.

    Raises:
        ValueError: `monitor` is no figure of the validation.
    """
    named = monitor.split("/")  # of the callback `Evaluate`: eval/<task>/<data set>/<figure>
    judged = named[0] == "eval" and len(named) == 4 and named[2] not in datasets()
    if not (monitor.startswith("val/") or judged):
        raise ValueError(
            "the best checkpoint is chosen on validation: monitor must begin with val/, or be a figure of the callback "
            f"Evaluate on a manifest of yours, not on the test of a published data set; got {monitor!r}"
        )
    return base.trainer(out=out, max_steps=max_steps, val_check_interval=val_check_interval, monitor=monitor, **options)
