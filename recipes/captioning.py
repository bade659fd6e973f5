"""Fine-tuning to write captions on AudioCaps or Clotho, or on pairs of your own: L_CAP alone.

The checkpoint is selected by the loss on the validation captions. `slap test` shows some captions; for CIDEr-D and the
other metrics of the test set: `slap evaluate runs/captioning/best.ckpt --tasks captioning/clotho`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lightning.pytorch import Callback, Trainer

from slap.datamodules import AudioTextData
from slap.evaluation.benchmarks import manifests_of
from slap.model.specs import ObjectiveSpec
from slap.recipes import finetune
from slap.recipes._corpora import CAPTIONED_STEPS, CaptionedCorpus, check_one
from slap.training.callbacks.validation_loss import ValidationLoss
from slap.training.module import SLAP

OBJECTIVES: Mapping[str, ObjectiveSpec] = {"captioning": {"label_smoothing": 0.1}}
TEXT_PARTS = ("text", "text_pool", "audio_pool")
"""They serve the shared space, which this training leaves alone: what is pooled would only drift."""

LINKS = {"trainer.corpus": "data.corpus"}


def model(
    objectives: Mapping[str, ObjectiveSpec] = OBJECTIVES,
    freeze: Sequence[str] = TEXT_PARTS,
    lr: float = 1e-4,
    warmup_steps: int = 200,
    **options: Any,
) -> SLAP:
    """Train the decoder of the trained model, or a new one, on its audio encoder.

    Args:
        objectives: each objective with its weight or arguments; a decoder that the trained model has keeps its size.
        freeze: parts that do not learn, by the beginning of their parameters' names.
        lr: learning rate after warm-up.
        warmup_steps: optimizer steps of linear warm-up.
        **options: any other option of `finetune.model`.
    """
    return finetune.model(objectives=objectives, freeze=freeze, lr=lr, warmup_steps=warmup_steps, **options)


def data(
    corpus: CaptionedCorpus | None = None,
    manifests: str | None = None,
    train: Sequence[str] | str = (),
    val: Sequence[str] | str = (),
    test: Sequence[str] | str = (),
    max_duration: float = 640.0,
    **options: Any,
) -> AudioTextData:
    """Read the three published splits, or manifests of your own.

    Args:
        corpus: audiocaps or clotho.
        manifests: the folder that `slap prepare` wrote; default: `manifests/` and the name of the corpus.
        train: your own manifests to train on, without `corpus`.
        val: your own manifests to select the checkpoint on, without `corpus`.
        test: your own manifests to test on, without `corpus`.
        max_duration: seconds of audio per batch, per process.
        **options: any other option of `finetune.data`.

    Raises:
        ValueError: nothing to train on is given, or several things.
    """
    check_one(CAPTIONED_STEPS, corpus=corpus, train=train)
    if corpus is not None:
        splits = manifests_of(corpus, manifests)
        train, val, test = splits["train"], splits["val"], splits["test"]
    made = finetune.data(train=train, val=val, test=test, max_duration=max_duration, **options)
    made.own_captions_only = corpus is not None  # as the published protocols have it
    return made


def trainer(
    corpus: CaptionedCorpus | None = None,
    out: str = "runs/captioning",
    max_steps: int | None = None,
    monitor: str = "val/captioning",
    mode: Literal["max", "min"] = "min",
    callbacks: list[Callback] | None = None,
    **options: Any,
) -> Trainer:
    """Train for ten to twenty epochs.

    Args:
        corpus: audiocaps or clotho; it decides `max_steps`.
        out: the run's folder.
        max_steps: optimizer steps; default: 4,000 for AudioCaps, 1,500 for Clotho and for your own.
        monitor: the validation metric that selects `best.ckpt`; default: the loss on the captions.
        mode: whether a higher (`max`) or a lower (`min`) value of `monitor` is better.
        callbacks: further Lightning callbacks.
        **options: any other option of `finetune.trainer`.
    """
    steps = CAPTIONED_STEPS[corpus or "clotho"] if max_steps is None else max_steps
    own = [ValidationLoss(), *(callbacks or [])]
    return finetune.trainer(out=out, max_steps=steps, monitor=monitor, mode=mode, callbacks=own, **options)
