"""Fine-tuning of a classification head on labeled clips: the parent of `classification`, no recipe by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from slap.datamodules import AudioTextData
from slap.datamodules.sampling.folds import folds
from slap.evaluation.benchmarks import PROTOCOLS, manifests_of
from slap.model.specs import EncoderSpec, ObjectiveSpec
from slap.recipes import finetune
from slap.recipes._corpora import LabeledCorpus, check_one
from slap.training.module import SLAP

HEAD = "classification"
UNUSED_TEXT: EncoderSpec = {"name": "transformer", "size": "nano", "vocab_size": 400}
TEXT_PARTS = ("text", "text_pool")


def model(
    start: str | None = None,
    corpus: LabeledCorpus | None = None,
    task: str = "label",
    multi_label: bool = False,
    classes: Sequence[str] | None = None,
    features: Literal["embedding", "tokens"] = "embedding",
    label_smoothing: float = 0.0,
    dropout: float = 0.0,
    others: Mapping[str, ObjectiveSpec] | None = None,
    text: EncoderSpec | None = None,
    freeze: Sequence[str] = (),
    **options: Any,
) -> SLAP:
    """Put a new head on a trained audio encoder.

    Args:
        start: a checkpoint, or a folder that `slap export` wrote; default: train from scratch.
        corpus: name of a corpus; it decides `task` and `multi_label`.
        task: the task whose labels are learned: the column `label`, `label_<task>` or `tags_<task>`, without `corpus`.
        multi_label: whether a clip may have several labels, without `corpus`.
        classes: names of the classes; default: those of the training clips.
        features: input of the head: the `embedding` of a clip, or the mean of its dense `tokens`.
        label_smoothing: share of the target that is spread over the classes.
        dropout: share of the head's input that is dropped.
        others: objectives beside the head, each with its weight or arguments, e.g. {contrastive: 0.5}.
        text: arguments of the text encoder to change; without `start`, the text encoder.
        freeze: parts that do not learn, by the beginning of their parameters' names; `[audio]` trains the pooling and
            the head alone. Without `others`, the text encoder never learns.
        **options: any other option of `finetune.model`.
    """
    if corpus is not None:
        task, multi_label = PROTOCOLS[corpus].task, PROTOCOLS[corpus].multi_label
    head = {"task": task, "multi_label": multi_label, "classes": None if classes is None else list(classes)}
    head |= {"features": features, "label_smoothing": label_smoothing, "dropout": dropout}
    return finetune.model(
        start=start,
        objectives={HEAD: head, **(others or {})},
        text=UNUSED_TEXT if text is None and start is None else text,
        freeze=(*freeze, *(() if others else TEXT_PARTS)),
        **options,
    )


def data(
    corpus: LabeledCorpus | None = None,
    manifests: str | None = None,
    fold: int = 1,
    val_fold: int | None = None,
    train: Sequence[str] | str = (),
    val: Sequence[str] | str = (),
    test: Sequence[str] | str = (),
    folded: str | None = None,
    **options: Any,
) -> AudioTextData:
    """Read a corpus by its protocol, or your own manifests.

    Args:
        corpus: name of a corpus; its manifests are those of `slap prepare`.
        manifests: the folder that `slap prepare` wrote; default: `manifests/` and the name of the corpus.
        fold: number of the fold to test on, where there are folds.
        val_fold: number of the fold to select the checkpoint on; default: the next one. 0 is none: train on all other
            folds, and test the last checkpoint.
        train: your own manifests to train on, without `corpus`.
        val: your own manifests to select the checkpoint on, without `corpus`.
        test: your own manifests to test on, without `corpus`.
        folded: one manifest of your own whose clips have a `fold`, instead of `train`, `val` and `test`.
        **options: any other option of `finetune.data`.

    Raises:
        ValueError: nothing to train on is given, or several things.
    """
    check_one(PROTOCOLS, corpus=corpus, train=train, folded=folded)
    splits: Mapping[Any, Sequence[str]] = {"train": train, "val": val, "test": test}
    if corpus is not None:
        splits = manifests_of(corpus, manifests, fold, val_fold)
    elif folded is not None:
        splits = folds(Path(folded), fold, val_fold, options.get("columns"))
    return finetune.data(train=splits["train"], val=splits["val"], test=splits["test"], **options)
