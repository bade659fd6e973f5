"""Connection of a data module to its trainer: the model, the process and the device that the batches are for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from lightning.pytorch import Trainer

from slap.datamodules.dataset import Tokenize


def model_of(trainer: Trainer | None, given: tuple[int, Tokenize] | None) -> tuple[int, Tokenize]:
    """Return the sample rate and the tokenizer of a trainer's model.

    Args:
        trainer: the trainer; None takes what is given.
        given: sample rate and tokenizer where there is no trainer.
    """
    if trainer is not None:
        model = trainer.lightning_module
        return model.audio.sample_rate, model.text.tokenize  # type: ignore[union-attr, return-value]
    if given is None:
        raise RuntimeError("without a trainer, call connect(sample_rate, tokenize) first")
    return given


def process_of(trainer: Trainer | None) -> tuple[int, int]:
    """Return rank and world size, those of the trainer if there is one."""
    if trainer is not None:
        return trainer.global_rank, trainer.world_size
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def on_gpu(trainer: Trainer | None) -> bool:
    """Return whether a trainer moves batches to a GPU."""
    return trainer is not None and trainer.strategy.root_device.type == "cuda"


def keeps_files(trainer: Trainer | None) -> bool:
    """Return whether a trainer keeps what a run finds; `fast_dev_run` keeps nothing."""
    return trainer is not None and not trainer.fast_dev_run  # type: ignore[attr-defined]


def found_by_first(trainer: Trainer | None, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return on every process what the first one finds; nothing where nothing is kept."""
    if trainer is None or not keeps_files(trainer):
        return {}
    found = find() if trainer.is_global_zero else {}
    agreed: dict[str, Any] = trainer.strategy.broadcast(found)
    return agreed
