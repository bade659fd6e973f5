"""Which parameters decay, how fast each learns, and how the learning rate moves over training."""

from __future__ import annotations

from math import cos, pi
from typing import Any

from torch import nn

from slap.contracts import Encoder


def parameter_groups(model: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for AdamW: by weight decay, and by the learning rate that encoders ask for.

    Only the weights of linear and convolution layers decay; norms, embeddings, scales, queries and tokens do not
    (our choice, the field's habit). Parameters without gradient, the teacher's among them, are left out.

    Args:
        model: anything that may hold `Encoder`s, whose `lr_scale` multiplies `lr`.
        lr: of the parameters that ask for nothing else.
        weight_decay: of the parameters that decay.
    """
    scales = {
        id(parameter): module.lr_scale(name)
        for module in model.modules()
        if isinstance(module, Encoder)
        for name, parameter in module.named_parameters()
    }
    decaying = {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
    }
    # A weight that is shared with an embedding is an embedding.
    decaying -= {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        decay = weight_decay if id(parameter) in decaying else 0.0
        rate = lr * scales.get(id(parameter), 1.0)
        group = groups.setdefault((rate, decay), {"params": [], "lr": rate, "weight_decay": decay})
        group["params"].append(parameter)
    return sorted(groups.values(), key=lambda group: (-group["lr"], -group["weight_decay"]))


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """The factor on the learning rate: a linear rise over `warmup` steps, then a cosine down to 0 at `total`.

    Example:
        >>> [round(warmup_cosine(step, warmup=2, total=6), 3) for step in range(7)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    if step < warmup:
        return (step + 1) / warmup
    return (1 + cos(pi * min((step - warmup) / max(total - warmup, 1), 1.0))) / 2
