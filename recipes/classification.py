"""Classification heads by the field's protocols, and on labels of your own: `--data.corpus`, or your manifests.

    slap fit --recipe classification --data.corpus esc50 --data.fold 1 --model.start pretrained.ckpt
    slap test --config runs/classification/config.yaml --ckpt_path best

ESC-50 and UrbanSound8K by folds (`slap crossval` runs all), Speech Commands V2 with 35 words, AudioSet-20K and -2M
with mixup, the large one with classes balanced, FSD50K, VGGSound, GTZAN and CREMA-D. Prepare the corpus first. With
labels of your own name `--data.train`, `--data.val` and `--data.test`, or one manifest with folds, `--data.folded`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Trainer

from slap.datamodules.apart import ApartData
from slap.datamodules.sampling.folds import folds
from slap.evaluation.benchmarks import PROTOCOLS, manifests_of
from slap.model.specs import EncoderSpec, ObjectiveSpec
from slap.recipes import finetune
from slap.training.module import SLAP

Corpus = Literal[
    "esc50",
    "esc10",
    "urbansound8k",
    "speechcommands",
    "gtzan-filtered",
    "cremad-evar",
    "vggsound",
    "fsd50k",
    "audioset-20k",
    "audioset-2m",
]

HEAD = "classification"
SCRATCH: EncoderSpec = {"name": "transformer", "size": "nano", "vocab_size": 400}
"""The text encoder without a trained model: it is not used."""

TEXT_PARTS = ("text", "text_pool")

MIXUP: Mapping[str, float] = {"speechcommands": 0.6, "audioset-20k": 0.5, "audioset-2m": 0.5}
"""Probability that a clip is mixed, as AST (arXiv 2104.01778) has it."""

STEPS: Mapping[str, int] = {
    "esc50": 1500,
    "esc10": 1000,
    "urbansound8k": 3000,
    "speechcommands": 10_000,
    "gtzan-filtered": 1000,
    "cremad-evar": 2000,
    "vggsound": 20_000,
    "fsd50k": 10_000,
    "audioset-20k": 12_000,
    "audioset-2m": 80_000,
}
"""Our choice: about as many clips as AST sees, at the default budget of a batch."""

LINKS = {
    "model.corpus": "data.corpus",
    "model.task": "data.task",
    "trainer.corpus": "data.corpus",
    "trainer.multi_label": "model.multi_label",
}


def model(
    start: str | None = None,
    corpus: Corpus | None = None,
    task: str = "label",
    multi_label: bool = False,
    classes: Sequence[str] | None = None,
    features: Literal["embedding", "tokens"] = "embedding",
    label_smoothing: float = 0.0,
    dropout: float = 0.0,
    others: Mapping[str, ObjectiveSpec] | None = None,
    audio: EncoderSpec | None = None,
    text: EncoderSpec | None = None,
    freeze: Sequence[str] = (),
    layer_decay: float = 0.75,
    lr_scales: Mapping[str, float] | None = None,
    lr: float = 3e-4,
    weight_decay: float = 0.05,
    warmup_steps: int = 100,
    compile: bool = False,  # noqa: A002 - the name that torch.nn.Module uses
) -> SLAP:
    """A trained audio encoder under a new head. The text encoder is frozen, unless another objective trains it.

    Args:
        start: a checkpoint, or a folder that `slap export` wrote. None trains from scratch.
        corpus: decides `task` and `multi_label`.
        task: whose labels, without `corpus`.
        multi_label: whether a clip may have several labels, without `corpus`.
        classes: names of the classes; default: those of the training clips.
        features: what the head reads: the clip's embedding, or the mean of its dense tokens.
        label_smoothing: share of the target that is spread over the classes.
        dropout: of what the head reads.
        others: objectives beside the head, e.g. {contrastive: 0.5}.
        audio: arguments of the audio encoder to change, e.g. {mask_bands: 8}; without `start`, the encoder.
        text: the same for the text encoder.
        freeze: parts that do not learn; `[audio]` trains the pooling and the head alone.
        layer_decay: the factor on the learning rate from each layer of the encoders to the one below it.
        lr_scales: further factors on the learning rate, by the beginning of parameters' names.
        lr: learning rate after warm-up, of the head.
        weight_decay: of linear layers.
        warmup_steps: linear warm-up.
        compile: compile the blocks of encoders and decoder when training begins.
    """
    protocol = None if corpus is None else PROTOCOLS[corpus]
    head = {
        "task": task if protocol is None else protocol.task,
        "multi_label": multi_label if protocol is None else protocol.multi_label,
        "classes": None if classes is None else list(classes),
        "features": features,
        "label_smoothing": label_smoothing,
        "dropout": dropout,
    }
    return finetune.model(
        start=start,
        objectives={HEAD: head, **(others or {})},
        audio=audio,
        text=text if text is not None or start is not None else SCRATCH,
        freeze=(*freeze, *(() if others else TEXT_PARTS)),
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
    fold: int = 1,
    val_fold: int | None = None,
    train: Sequence[str] = (),
    val: Sequence[str] = (),
    test: Sequence[str] = (),
    folded: str | None = None,
    task: str = "label",
    mixup: float | None = None,
    balance: bool | None = None,
    epoch_clips: int | None = None,
    max_duration: float = 320.0,
    max_clips: int | None = 128,
    max_clip: float | None = 30.0,
    augment: Mapping[str, Mapping[str, Any] | None] | None = None,
    in_memory: bool = False,
    num_workers: int = 4,
    seed: int = 0,
) -> ApartData:
    """A corpus by its protocol, or your own manifests.

    Args:
        corpus: the corpus; its manifests are those of `slap prepare`.
        manifests: the folder that `slap prepare` wrote; default: `manifests/` and the corpus' name.
        fold: to test on, where there are folds.
        val_fold: to choose on; default: the next one. 0 is none: train on all others, and test the last checkpoint.
        train: your own manifests to train on.
        val: your own to choose on.
        test: your own to judge on.
        folded: or one of your own whose clips have a `fold`.
        task: whose labels, of your own manifests: the column `label`, `label_<task>` or `tags_<task>`.
        mixup: probability that a training clip is mixed with another; default: AST's for the corpus, 0 for your own.
        balance: have classes come equally often; default: for audioset-2m alone.
        epoch_clips: clips of an epoch with `balance`; as many as there are.
        max_duration: seconds of audio in a batch, on each process.
        max_clips: clips in a batch at most.
        max_clip: longer training clips are cropped to this, in seconds.
        augment: augmentation of training clips, by name its arguments, before mixup.
        in_memory: decode all audio once.
        num_workers: loading processes.
        seed: of order, crops and mixing.

    Raises:
        ValueError: neither a corpus nor manifests, or both.
    """
    given = [name for name, value in {"corpus": corpus, "train": train, "folded": folded}.items() if value]
    if len(given) != 1:
        raise ValueError(
            f"say what to train on by one of --data.corpus, --data.train and --data.folded; got {given or 'none'}. "
            f"The corpora are {', '.join(PROTOCOLS)}"
        )
    splits: Mapping[Any, Sequence[str]] = {"train": train, "val": val, "test": test}
    if corpus is not None:
        task, splits = PROTOCOLS[corpus].task, manifests_of(corpus, manifests, fold, val_fold)
    elif folded is not None:
        splits = folds(Path(folded), fold, val_fold)
    share = MIXUP.get(corpus or "", 0.0) if mixup is None else mixup
    evenly = (corpus is not None and PROTOCOLS[corpus].balanced) if balance is None else balance
    return finetune.data(
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
        max_duration=max_duration,
        max_clips=max_clips,
        max_clip=max_clip,
        balance=task if evenly else None,
        epoch_clips=epoch_clips,
        augment={**(augment or {}), **({"mixup": {"probability": share}} if share else {})},
        in_memory=in_memory,
        num_workers=num_workers,
        seed=seed,
    )


def trainer(
    corpus: Corpus | None = None,
    multi_label: bool = False,
    out: str = "runs/classification",
    max_steps: int | None = None,
    val_check_interval: int = 200,
    **options: Any,
) -> Trainer:
    """Chosen by the accuracy on validation, or by the macro mAP where clips may have several labels.

    Args:
        corpus: decides the number of steps and what chooses.
        multi_label: what chooses, without `corpus`.
        out: the run's folder.
        max_steps: optimizer steps; default: by the corpus, else 1,500.
        val_check_interval: batches between validations.
        **options: any other option of `slap.training.trainer.trainer`.
    """
    several = multi_label if corpus is None else PROTOCOLS[corpus].multi_label
    return finetune.trainer(
        out=out,
        max_steps=STEPS.get(corpus or "", 1500) if max_steps is None else max_steps,
        val_check_interval=val_check_interval,
        monitor=f"val/{HEAD}_{'mAP' if several else 'accuracy'}",
        **options,
    )
