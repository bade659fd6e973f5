"""Training from scratch on your own CSV of 500 to 50,000 clips, on one CPU or one GPU, by one command.

    slap fit --recipe own_data --data.train my.csv
    slap test --config runs/own_data/config.yaml --data.test '[test.csv]'

The clips decide sizes, steps and warm-up, and some of them are held out for validation where `--data.val` is not given.
The command says what was chosen, `config.yaml` in the run's folder keeps it, and each is an option. The table at the
end compares validation before and after training. Against `base`, encoders and heads are those of `digits_and_sounds`,
and the objectives are the contrastive one and captioning.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, Trainer

from slap.datamodules import AudioTextData
from slap.datamodules.manifests.sequence import Clips
from slap.model.specs import EncoderSpec, ObjectiveSpec
from slap.recipes import _own_data, base
from slap.training.callbacks.expected_time import ExpectedTime
from slap.training.module import SLAP

Size = Literal["nano", "tiny", "small", "base"]

AUDIO: Mapping[str, Any] = {"name": "transformer", "row_embedding": True, "mask_bands": 12, "mask_from": 1.0}
OBJECTIVES: Mapping[str, ObjectiveSpec] = {
    "contrastive": 1.0,
    "captioning": {"weight": 0.5, "layers": 2, "heads": 4, "width": 128, "hidden": 256},
}
STEPS = 2000
"""Optimizer steps where no clips were looked at."""


def model(
    size: Size | None = None,
    vocab_size: int | None = None,
    audio: EncoderSpec | None = None,
    text: EncoderSpec | None = None,
    objectives: Mapping[str, ObjectiveSpec] = OBJECTIVES,
    embedding_dim: int = 256,
    lr: float = 5e-4,
    warmup_steps: int | None = None,
    **options: Any,
) -> SLAP:
    """Build encoders of one size, with small heads.

    Args:
        size: of both encoders; default: by the number of clips and the device.
        vocab_size: largest number of pieces of the tokenizer that the captions teach; default: by their words.
        audio: the audio encoder, instead of one of `size`.
        text: the text encoder, instead of one of `size`.
        objectives: each objective with its weight or arguments.
        embedding_dim: the dimension that audio and text share.
        lr: learning rate after warm-up.
        warmup_steps: optimizer steps of linear warm-up; default: a twentieth of all.
        **options: any other option of `base.model`.
    """
    size, vocab_size = size or "nano", vocab_size or 2000
    return base.model(
        audio={**AUDIO, "size": size} if audio is None else audio,
        text={"name": "transformer", "size": size, "vocab_size": vocab_size} if text is None else text,
        objectives=objectives,
        embedding_dim=embedding_dim,
        lr=lr,
        warmup_steps=_own_data.warmup(STEPS) if warmup_steps is None else warmup_steps,
        **options,
    )


def data(
    max_duration: float | None = None,
    num_buckets: int = 1,
    num_workers: int = 2,
    **options: Any,
) -> AudioTextData:
    """Read your manifests; no clip of `test` may be in `val` or in `train`.

    Args:
        max_duration: seconds of audio per batch, per process; default: by the length of the clips.
        num_buckets: number of length classes that training batches are made from; 1 mixes all lengths.
        num_workers: loading processes per training process; 0 loads between training steps.
        **options: any other option of `base.data`.
    """
    return base.data(
        max_duration=120.0 if max_duration is None else max_duration,
        num_buckets=num_buckets,
        num_workers=num_workers,
        disjoint=True,
        **options,
    )


def trainer(
    out: str = "runs/own_data",
    max_steps: int | None = None,
    val_check_interval: int | None = None,
    monitor: str = "val/t2a_mAP@10",
    validate_first: bool = True,
    callbacks: list[Callback] | None = None,
    **options: Any,
) -> Trainer:
    """Train for as many steps as the clips are worth, and validate some twenty times.

    Args:
        out: the run's folder.
        max_steps: optimizer steps; default: by the number of clips and their length.
        val_check_interval: batches between validations; default: a twentieth of the steps.
        monitor: the validation metric that selects `best.ckpt`.
        validate_first: validate the untrained model too, so that the table at the end shows what training brought.
        callbacks: further Lightning callbacks.
        **options: any other option of `base.trainer`.
    """
    steps = STEPS if max_steps is None else max_steps
    times = _own_data.validations(steps)
    return base.trainer(
        out=out,
        max_steps=steps,
        val_check_interval=max(steps // times, 1) if val_check_interval is None else val_check_interval,
        monitor=monitor,
        validate_first=validate_first,
        callbacks=[ExpectedTime(times), *(callbacks or [])],
        **options,
    )


def settle(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that the training clips decide, of those that are not given, and say so on stderr.

    The command line calls this before the three functions above, and keeps the result in `config.yaml`.

    Args:
        options: those that are given, by dotted names such as `data.train`; None and absent are not given.

    Raises:
        ValueError: no training clips, too few to hold some out, or a stream of them.
    """
    chosen: dict[str, Any] = {}
    wanted = ("model.size", "model.vocab_size", "model.warmup_steps", "data.max_duration", "trainer.max_steps")
    if options.get("data.val") and all(options.get(name) is not None for name in wanted):
        return chosen
    train, said = options.get("data.train") or (), []
    clips = _own_data.read(train, options)
    trained: Clips = clips
    if not options.get("data.val"):
        chosen["data.train"], chosen["data.val"], trained, sentence = _own_data.split(train, clips)
        said.append(sentence)
    gpu = _own_data.on_gpu(options)
    facts = _own_data.Facts.of(trained, options.get("data.max_clip", 30.0))
    choice = _own_data.Choice.by(facts, gpu, options.get("data.max_duration"))
    found = {"model.size": choice.size, "model.vocab_size": choice.vocab_size}
    found |= {"data.max_duration": choice.max_duration, "trainer.max_steps": choice.max_steps}
    steps = options.get("trainer.max_steps") or choice.max_steps
    found["model.warmup_steps"] = _own_data.warmup(steps)
    chosen |= {name: value for name, value in found.items() if options.get(name) is None}
    said += _own_data.in_words(facts, choice, {**options, **chosen}, gpu)
    if _own_data.is_first_process():
        print(*(f"slap: own_data: {line}" for line in said), sep="\n", file=sys.stderr, flush=True)
    return chosen


def run(
    train: str | Path | Sequence[str], val: str | Path | Sequence[str] = (), out: str = "runs/own_data"
) -> tuple[SLAP, AudioTextData, Trainer]:
    """Return the parts of a run on your manifests, for `trainer.fit(model, datamodule=data)`.

    Args:
        train: the manifests to train on.
        val: the manifests for validation; default: a part of `train`.
        out: the run's folder.
    """
    given = {"data.train": _paths(train), "data.val": _paths(val), "trainer.out": out}
    chosen = {**given, **settle(given)}

    def of(part: str) -> dict[str, Any]:
        return {name.partition(".")[2]: value for name, value in chosen.items() if name.startswith(f"{part}.")}

    return model(**of("model")), data(**of("data")), trainer(**of("trainer"))


def _paths(paths: str | Path | Sequence[str]) -> list[str]:
    return [str(paths)] if isinstance(paths, str | Path) else list(paths)
