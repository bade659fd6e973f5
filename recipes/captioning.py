"""Fine-tuning to write captions on AudioCaps or Clotho, or on pairs of your own: L_CAP alone.

Chosen by the loss on the validation captions. CIDEr-D and the other figures of the test are told by `slap evaluate
runs/captioning/best.ckpt --tasks captioning/clotho`; `slap test` shows some captions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lightning.pytorch import Callback, Trainer

from slap.datamodules.apart import ApartData
from slap.evaluation.benchmarks import manifests_of
from slap.model.specs import EncoderSpec, ObjectiveSpec
from slap.recipes import finetune
from slap.recipes.retrieval import STEPS
from slap.training.callbacks.validation_loss import ValidationLoss
from slap.training.module import SLAP

Corpus = Literal["audiocaps", "clotho"]

OBJECTIVES: Mapping[str, ObjectiveSpec] = {"captioning": {"label_smoothing": 0.1}}

TEXT_PARTS = ("text", "text_pool", "audio_pool")
"""They serve the shared space, which this training leaves alone."""

LINKS = {"trainer.corpus": "data.corpus"}


def model(
    start: str | None = None,
    objectives: Mapping[str, ObjectiveSpec] = OBJECTIVES,
    audio: EncoderSpec | None = None,
    text: EncoderSpec | None = None,
    freeze: Sequence[str] = TEXT_PARTS,
    layer_decay: float = 0.9,
    lr_scales: Mapping[str, float] | None = None,
    lr: float = 1e-4,
    weight_decay: float = 0.05,
    warmup_steps: int = 200,
    compile: bool = False,  # noqa: A002 - the name that torch.nn.Module uses
) -> SLAP:
    """The decoder of the trained model, or a new one, on its audio encoder.

    Args:
        start: a checkpoint, or a folder that `slap export` wrote.
        objectives: of this training; a decoder that the trained model has keeps its size.
        audio: arguments of the audio encoder to change.
        text: arguments of the text encoder to change.
        freeze: parts that do not learn. What is pooled would only drift.
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
    corpus: Corpus | None = None,
    manifests: str | None = None,
    train: Sequence[str] = (),
    val: Sequence[str] = (),
    test: Sequence[str] = (),
    max_duration: float = 640.0,
    num_workers: int = 4,
    in_memory: bool = False,
    augment: Mapping[str, Mapping[str, Any] | None] | None = None,
    seed: int = 0,
) -> ApartData:
    """The three published splits, or manifests of your own.

    Args:
        corpus: audiocaps or clotho.
        manifests: the folder that `slap prepare` wrote; default: `manifests/` and the corpus' name.
        train: your own manifests to train on, without `corpus`.
        val: your own to choose on.
        test: your own to judge on.
        max_duration: seconds of audio in a batch, on each process.
        num_workers: loading processes.
        in_memory: decode all audio once.
        augment: augmentation of training clips.
        seed: of order, captions and crops.

    Raises:
        ValueError: neither a corpus nor manifests, or both.
    """
    if bool(corpus) == bool(train):
        raise ValueError("say what to train on by one of --data.corpus (audiocaps, clotho) and --data.train")
    splits: Mapping[Any, Sequence[str]] = {"train": train, "val": val, "test": test}
    if corpus is not None:
        splits = manifests_of(corpus, manifests)
    return finetune.data(
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
        max_duration=max_duration,
        num_workers=num_workers,
        in_memory=in_memory,
        augment=augment,
        seed=seed,
    )


def trainer(
    corpus: Corpus | None = None,
    out: str = "runs/captioning",
    max_steps: int | None = None,
    val_check_interval: int = 200,
    monitor: str = "val/captioning",
    mode: Literal["max", "min"] = "min",
    callbacks: list[Callback] | None = None,
    **options: Any,
) -> Trainer:
    """Ten to twenty epochs.

    Args:
        corpus: as for `data`.
        out: the run's folder.
        max_steps: optimizer steps; default: 4,000 for AudioCaps, 1,500 for Clotho and for your own.
        val_check_interval: batches between validations.
        monitor: the figure of the validation by which `best.ckpt` is chosen; the loss of the captions.
        mode: whether a higher or a lower value of `monitor` is better.
        callbacks: more of them.
        **options: any other option of `slap.training.trainer.trainer`.
    """
    steps = STEPS[corpus or "clotho"] if max_steps is None else max_steps
    return finetune.trainer(
        out=out,
        max_steps=steps,
        val_check_interval=val_check_interval,
        monitor=monitor,
        mode=mode,
        callbacks=[ValidationLoss(), *(callbacks or [])],
        **options,
    )
