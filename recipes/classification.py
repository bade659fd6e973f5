"""Classification heads by the usual protocols (`--data.corpus`), or on labels of your own.

    slap fit --recipe classification --data.corpus esc50 --data.fold 1 --model.start pretrained.ckpt
    slap test --config runs/classification/config.yaml --ckpt_path best

Prepare the corpus first, with `slap prepare`. `slap crossval` runs all folds of ESC-50 and UrbanSound8K. Labels of your
own are `--data.train`, `--data.val` and `--data.test`, or one manifest with folds, `--data.folded`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer

from slap.datamodules import AudioTextData
from slap.evaluation.benchmarks import PROTOCOLS
from slap.recipes import _labeled, finetune
from slap.recipes._corpora import LABELED_STEPS, MIXUP, LabeledCorpus
from slap.training.module import SLAP

LINKS = {
    "model.corpus": "data.corpus",
    "model.task": "data.task",
    "trainer.corpus": "data.corpus",
    "trainer.multi_label": "model.multi_label",
}


def model(layer_decay: float = 0.75, lr: float = 3e-4, **options: Any) -> SLAP:
    """Put a new head on a trained audio encoder. The text encoder is frozen, unless another objective trains it.

    Args:
        layer_decay: the factor on the learning rate from each layer of the encoders to the one below it.
        lr: learning rate of the head after warm-up.
        **options: any other option of `_labeled.model`.
    """
    return _labeled.model(layer_decay=layer_decay, lr=lr, **options)


def data(
    corpus: LabeledCorpus | None = None,
    task: str = "label",
    mixup: float | None = None,
    balance: bool | None = None,
    max_clips: int | None = 128,
    augment: Mapping[str, Mapping[str, Any] | None] | None = None,
    **options: Any,
) -> AudioTextData:
    """Read a corpus by its protocol, or your own manifests.

    Args:
        corpus: name of the corpus; its manifests are those of `slap prepare`.
        task: the task whose labels are learned: the column `label`, `label_<task>` or `tags_<task>`, without `corpus`.
        mixup: probability that a training clip is mixed with another; default: AST's for the corpus, 0 for your own.
        balance: have classes come equally often in training; default: for audioset-2m alone.
        max_clips: largest number of clips per batch, per process.
        augment: augmentation of training clips before mixup: names, each with its arguments.
        **options: any other option of `_labeled.data`.
    """
    protocol = PROTOCOLS.get(corpus or "")
    evenly = bool(protocol and protocol.balanced) if balance is None else balance
    share = MIXUP.get(corpus or "", 0.0) if mixup is None else mixup
    return _labeled.data(
        corpus=corpus,
        max_clips=max_clips,
        balance=(protocol.task if protocol else task) if evenly else None,
        augment={**(augment or {}), **({"mixup": {"probability": share}} if share else {})},
        **options,
    )


def trainer(
    corpus: LabeledCorpus | None = None,
    multi_label: bool = False,
    out: str = "runs/classification",
    max_steps: int | None = None,
    validate_first: bool = False,
    **options: Any,
) -> Trainer:
    """Select the checkpoint by accuracy on validation, or by macro mAP where clips may have several labels.

    Args:
        corpus: name of the corpus; it decides `max_steps`, and `multi_label`.
        multi_label: whether clips may have several labels, without `corpus`.
        out: the run's folder.
        max_steps: optimizer steps; default: by the corpus, else 1,500.
        validate_first: validate before training too; a new head guesses then.
        **options: any other option of `finetune.trainer`.
    """
    several = multi_label if corpus is None else PROTOCOLS[corpus].multi_label
    steps = LABELED_STEPS.get(corpus or "", 1500) if max_steps is None else max_steps
    monitor = f"val/{_labeled.HEAD}_{'mAP' if several else 'accuracy'}"
    return finetune.trainer(out=out, max_steps=steps, monitor=monitor, validate_first=validate_first, **options)
