"""Fine-tuning for retrieval on AudioCaps or Clotho, as the field does: train, choose on validation, tell on test.

Prepare the corpus first, `slap prepare audiocaps ROOT manifests/audiocaps`. Each training clip comes with one of its
captions, evaluation takes all five. Clotho's validation and evaluation are two splits; test is the second one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lightning.pytorch import Trainer

from slap.datamodules.apart import ApartData
from slap.evaluation.benchmarks import manifests_of
from slap.model.specs import EncoderSpec, ObjectiveSpec
from slap.recipes import finetune
from slap.training.module import SLAP

Corpus = Literal["audiocaps", "clotho"]

STEPS = {"audiocaps": 4000, "clotho": 1500}
"""About ten epochs of AudioCaps, 128 clips a batch, and twenty of Clotho, 57 a batch."""

LINKS = {"trainer.corpus": "data.corpus"}


def model(
    start: str | None = None,
    objectives: Mapping[str, ObjectiveSpec] = finetune.OBJECTIVES,
    audio: EncoderSpec | None = None,
    text: EncoderSpec | None = None,
    freeze: Sequence[str] = (),
    layer_decay: float = 0.9,
    lr_scales: Mapping[str, float] | None = None,
    lr: float = 5e-5,
    weight_decay: float = 0.05,
    warmup_steps: int = 200,
    compile: bool = False,  # noqa: A002 - the name that torch.nn.Module uses
) -> SLAP:
    """As `finetune`.

    Args:
        start: a checkpoint, or a folder that `slap export` wrote.
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
    corpus: Corpus = "audiocaps",
    manifests: str | None = None,
    max_duration: float = 1280.0,
    num_workers: int = 4,
    in_memory: bool = False,
    augment: Mapping[str, Mapping[str, Any] | None] | None = None,
    text_augment: str | Mapping[str, Any] | None = None,
    seed: int = 0,
) -> ApartData:
    """The three published splits.

    Args:
        corpus: audiocaps or clotho.
        manifests: the folder that `slap prepare` wrote; default: `manifests/` and the corpus' name.
        max_duration: seconds of audio in a batch, on each process: 128 clips of AudioCaps.
        num_workers: loading processes.
        in_memory: decode all audio once.
        augment: augmentation of training clips.
        text_augment: changes training captions.
        seed: of order, captions and crops.
    """
    splits = manifests_of(corpus, manifests)
    return finetune.data(
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
        max_duration=max_duration,
        num_workers=num_workers,
        in_memory=in_memory,
        augment=augment,
        text_augment=text_augment,
        seed=seed,
    )


def trainer(
    corpus: Corpus = "audiocaps",
    out: str = "runs/retrieval",
    max_steps: int | None = None,
    val_check_interval: int = 200,
    **options: Any,
) -> Trainer:
    """Ten to twenty epochs.

    Args:
        corpus: as for `data`.
        out: the run's folder.
        max_steps: optimizer steps; default: 4,000 for AudioCaps, 1,500 for Clotho.
        val_check_interval: batches between validations.
        **options: any other option of `slap.training.trainer.trainer`.
    """
    steps = STEPS[corpus] if max_steps is None else max_steps
    return finetune.trainer(out=out, max_steps=steps, val_check_interval=val_check_interval, **options)
