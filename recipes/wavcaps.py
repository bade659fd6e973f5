"""Fine-tuning on WavCaps, as in the paper's second row of zero-shot classification: four sources, one mixture.

Prepare it first, with the blacklists of what is tested on: `slap prepare wavcaps ROOT manifests/wavcaps --blacklists
'[...]'`. It has no validation split: a small share of each source is held out to choose the checkpoint, and a test set
is yours to name, e.g. `--data.test '[manifests/esc50/all.jsonl.gz]'`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from slap.datamodules.apart import ApartData
from slap.datamodules.protocols import prepared
from slap.model.specs import EncoderSpec, ObjectiveSpec
from slap.recipes import finetune
from slap.training.module import SLAP

SOURCES = ("AudioSet_SL", "BBC_Sound_Effects", "FreeSound", "SoundBible")
OBJECTIVES: Mapping[str, ObjectiveSpec] = {"contrastive": 1.0, "masked_distillation": 1.0, "captioning": 0.5}


def model(
    start: str | None = None,
    objectives: Mapping[str, ObjectiveSpec] = OBJECTIVES,
    audio: EncoderSpec | None = None,
    text: EncoderSpec | None = None,
    freeze: Sequence[str] = (),
    layer_decay: float = 1.0,
    lr_scales: Mapping[str, float] | None = None,
    lr: float = 5e-5,
    weight_decay: float = 0.05,
    warmup_steps: int = 1000,
    compile: bool = False,  # noqa: A002 - the name that torch.nn.Module uses
) -> SLAP:
    """As `finetune`, with the paper's three objectives, since WavCaps is nearly as large as what others pretrain on.

    Args:
        start: a checkpoint, or a folder that `slap export` wrote. Without one, WavCaps is what is pretrained on.
        objectives: of this training.
        audio: arguments of the audio encoder to change.
        text: arguments of the text encoder to change.
        freeze: parts that do not learn.
        layer_decay: the factor on the learning rate from each layer of the encoders to the one below it.
        lr_scales: further factors on the learning rate, by the beginning of parameters' names.
        lr: learning rate after warm-up.
        weight_decay: of linear layers.
        warmup_steps: linear warm-up.
        compile: compile the blocks of encoders and decoder when training begins.
    """
    return finetune.model(
        start=start,
        objectives=objectives,
        audio=audio,
        text=text,
        freeze=freeze,
        layer_decay=layer_decay,
        lr_scales=lr_scales,
        lr=lr,
        weight_decay=weight_decay,
        warmup_steps=warmup_steps,
        compile=compile,
    )


def data(
    manifests: str = "manifests/wavcaps",
    sources: Sequence[str] = SOURCES,
    held_out: float = 0.005,
    test: Sequence[str] = (),
    temperature: float | None = None,
    max_duration: float = 1280.0,
    num_workers: int = 8,
    augment: Mapping[str, Mapping[str, Any] | None] | None = None,
    text_augment: str | Mapping[str, Any] | None = None,
    prompts: Mapping[str, str] | None = None,
    seed: int = 0,
) -> ApartData:
    """The sources under their names, so that the logs tell them apart.

    Args:
        manifests: the folder that `slap prepare wavcaps` wrote.
        sources: those to train on.
        held_out: share of each source's clips to validate on; always the same ones, in no way trained on.
        test: manifests for `slap test`.
        temperature: evens out the sources' shares of an epoch; None leaves them as they are.
        max_duration: seconds of audio in a batch, on each process.
        num_workers: loading processes.
        augment: augmentation of training clips.
        text_augment: changes training captions.
        prompts: for each zero-shot task of `test` its prompt, with `{label}`.
        seed: of order, captions and crops.
    """
    found = {source: prepared(Path(manifests), source, "wavcaps") for source in sources}
    return finetune.data(
        train={source: f"{path}#train={held_out}" for source, path in found.items()},
        val={source: f"{path}#heldout={held_out}" for source, path in found.items()},
        test=test,
        temperature=temperature,
        max_duration=max_duration,
        num_workers=num_workers,
        augment=augment,
        text_augment=text_augment,
        prompts=prompts,
        seed=seed,
    )


def trainer(
    out: str = "runs/wavcaps",
    max_steps: int = 30_000,
    val_check_interval: int = 1000,
    monitor: str = "val/t2a_R@10",
    **options: Any,
) -> Trainer:
    """About ten epochs on one process.

    Args:
        out: the run's folder.
        max_steps: optimizer steps.
        val_check_interval: batches between validations.
        monitor: the figure of the validation by which `best.ckpt` is chosen.
        **options: any other option of `slap.training.trainer.trainer`.
    """
    return finetune.trainer(
        out=out, max_steps=max_steps, val_check_interval=val_check_interval, monitor=monitor, **options
    )
