"""The optimizer: groups of parameters, learning rates, their schedule, frozen parts, and clipping of gradients."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import cos, pi
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from slap.core.errors import UserError
from slap.core.sharded_tensors import average_whole, clip_norm, total_norm
from slap.model.contracts import Encoder, Objective

LAYER = re.compile(r"^.*?(?<![^.])(?:blocks|layers|layer)\.\d+(?=\.)(?:.*?\.(?:blocks|layers|layer)\.\d+(?=\.))?")
"""The beginning of a parameter's name that names its layer, also where layers stand in stages."""


def configure(module: LightningModule) -> dict[str, Any]:
    """Return AdamW, and its schedule of linear warm-up and cosine decay to 0 at the trainer's `max_steps`.

    Raises:
        ValueError: the trainer has no `max_steps`, which the schedules of learning rate and teacher need, or the
            warm-up does not end before it.
    """
    total = module.trainer.max_steps
    if total < 1:
        raise UserError(f"the schedules need the number of steps: set the trainer's max_steps, which is {total}")
    hparams = module.hparams
    _check_warmup(hparams["warmup_steps"], total, bool(module.trainer.fast_dev_run))  # type: ignore[attr-defined]
    speeds = hparams["layer_decay"], hparams["lr_scales"]
    groups = parameter_groups(module, hparams["lr"], hparams["weight_decay"], *speeds)
    # One kernel for all parameters. Not with a gradient scaler: the fused optimizer unscales by itself, after
    # gradients are clipped.
    fused = module.device.type == "cuda" and module.trainer.precision != "16-mixed"
    optimizer = AdamW(groups, betas=tuple(hparams["betas"]), eps=1e-6, fused=fused or None)
    schedule = LambdaLR(optimizer, lambda step: warmup_cosine(step, hparams["warmup_steps"], total))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _check_warmup(warmup: int, total: int, trial: bool) -> None:
    """Refuse a warm-up that lasts for the whole training; a trial of a few steps may have one."""
    if warmup >= total and not trial:
        raise UserError(
            f"warmup_steps={warmup} does not end before max_steps={total}, so the learning rate would never come down "
            f"from its rise; make max_steps larger, or warmup_steps smaller, e.g. --model.warmup_steps {total // 10}"
        )


def clip_gradients(
    module: LightningModule, optimizer: Optimizer, limit: float | None, algorithm: str | None = None
) -> Tensor:
    """Clip the gradients of a module in place, and return their norm before that, the same on all processes.

    Args:
        module: whose parameters have gradients.
        optimizer: of these parameters.
        limit: the largest norm, or the largest value; None for no limit.
        algorithm: "norm", which is the default, or "value", as for Lightning's Trainer.
    """
    parameters = [p for p in module.parameters() if p.grad is not None]
    average_whole(parameters)
    norm = total_norm(p.grad for p in parameters if p.grad is not None)
    if limit and algorithm in (None, "norm"):
        # Lightning would compute the norm again, and refuses the fused optimizer.
        clip_norm(parameters, limit, norm)
    else:
        module.clip_gradients(optimizer, limit, algorithm)
    return norm


def parameter_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    lr_scales: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Return the parameter groups for AdamW, by weight decay and by learning rate.

    Only the weights of linear and convolution layers decay; norms, embeddings, scales, queries and tokens do not
    (our choice, as is common). Parameters without gradient, the teacher's among them, are left out. Parameters that
    stay whole under FSDP2 (`slap.training.fsdp`) have groups of their own in every run, so that a checkpoint of a run
    with FSDP2 continues without, and the other way round.

    Args:
        model: a module that may hold encoders and objectives, whose `lr_scale` multiplies `lr`.
        lr: the learning rate of parameters to which no factor applies.
        weight_decay: the decay of the parameters that decay.
        layer_decay: the factor on the learning rate from each layer of an encoder to the one below it, see `depths`.
        lr_scales: further factors, by the beginning of parameters' names; of several beginnings the longest counts.

    Raises:
        ValueError: a beginning that no parameter has.
    """
    scales = {
        id(parameter): module.lr_scale(name) * layer_decay**depth
        for module in model.modules()
        if isinstance(module, Encoder | Objective)
        for (name, parameter), depth in zip(module.named_parameters(), _depths(module), strict=True)
    }
    given = lr_scales or {}
    further = {id(parameter): given[start] for start in sorted(given, key=len) for parameter in beginning(model, start)}
    decaying = {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
    }
    # A weight that is shared with an embedding is an embedding.
    decaying -= {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    whole = {id(p) for module in model.modules() if isinstance(module, Objective) for p in module.parameters(False)}
    groups: dict[tuple[float, float, bool], dict[str, Any]] = {}
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        decay = weight_decay if id(parameter) in decaying else 0.0
        rate = lr * scales.get(id(parameter), 1.0) * further.get(id(parameter), 1.0)
        key = rate, decay, parameter.dim() == 0 or id(parameter) in whole
        group = groups.setdefault(key, {"params": [], "lr": rate, "weight_decay": decay})
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups, key=lambda key: (-key[0], -key[1], key[2]))]


def _depths(module: nn.Module) -> list[int]:
    """Return `depths` of an encoder, 0 for each parameter of an objective."""
    return depths(module) if isinstance(module, Encoder) else [0 for _ in module.parameters()]


def depths(encoder: nn.Module) -> list[int]:
    """Count the layers above each parameter of an encoder, in the order of `named_parameters`.

    Parameters after the layers (a last norm) have 0, the last layer has 1, and parameters before the layers
    (embeddings, tokens) have one more than the first layer: the layer-wise decay of BEiT (arXiv 2106.08254) and MAE.
    Layers are recognized by names with `blocks`, `layers` or `layer` and a number, as in timm and transformers. All
    parameters of an encoder without layers have 0.

    Example:
        >>> depths(nn.ModuleDict({"embed": nn.Linear(1, 1, bias=False), "blocks": nn.ModuleList(
        ...     nn.Linear(1, 1, bias=False) for _ in range(2)), "norm": nn.RMSNorm(1)}))
        [3, 2, 1, 0]
    """
    found = [LAYER.match(name) for name, _ in encoder.named_parameters()]
    order = {name: number for number, name in enumerate(dict.fromkeys(match[0] for match in found if match), start=1)}
    heights, begun = [], False
    for match in found:
        begun = begun or match is not None
        heights.append(order[match[0]] if match else (len(order) + 1) * begun)
    return [len(order) + 1 - height for height in heights] if order else [0] * len(found)


def beginning(model: nn.Module, start: str) -> list[nn.Parameter]:
    """Return the parameters whose names begin with `start`, a whole number of the parts between dots.

    Raises:
        ValueError: there are none; the message names the parts of the model.
    """
    chosen = [parameter for name, parameter in model.named_parameters() if f"{name}.".startswith(f"{start}.")]
    if not chosen:
        parts = sorted({name.rpartition(".")[0].split(".blocks.")[0] for name, _ in model.named_parameters()})
        raise UserError(f"no parameter's name begins with {start!r}; the parts of the model are {', '.join(parts)}")
    return chosen


def freeze(model: nn.Module, parts: Iterable[str]) -> None:
    """Keep the parameters whose names begin with any of `parts` from learning, as "audio" or "audio.blocks.0".

    Frozen parts still run as in training, e.g. with SpecAugment.

    Raises:
        ValueError: as `beginning`.
    """
    for part in parts:
        for parameter in beginning(model, part):
            parameter.requires_grad_(False)


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Return the factor on the learning rate: a linear rise over `warmup` steps, then a cosine down to 0 at `total`.

    Example:
        >>> [round(warmup_cosine(step, warmup=2, total=6), 3) for step in range(7)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    if step < warmup:
        return (step + 1) / warmup
    return (1 + cos(pi * min((step - warmup) / max(total - warmup, 1), 1.0))) / 2
