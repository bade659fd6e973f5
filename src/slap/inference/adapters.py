"""Low-rank adapters (LoRA, arXiv 2106.09685): their arguments, and merging them into the weights that they adapt.

A checkpoint of a training with adapters holds a layer as its own weight W, and the two small matrices B and A of its
adapter. A model in use has W + (alpha / rank) B A in place of W, so that it is as fast as without, and needs no peft.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from slap.core.errors import UserError

LORA = "lora"
"""The hyperparameter of a model that holds the arguments of its adapters; None for a training without."""

BASE, DOWN, UP = ".base_layer.", ".lora_A.default.weight", ".lora_B.default.weight"
"""Parts of the names that peft gives to the weights of a layer with an adapter: its own, A and B."""


@dataclass(frozen=True)
class Lora:
    """The arguments of adapters.

    Attributes:
        rank: rows of A.
        alpha: the product B A counts alpha / rank. Default: twice the rank, our choice.
        dropout: share of an adapter's inputs that are set to 0 in training.
        targets: names of the linear layers of the encoders that get an adapter, their last parts as in "qkv", or more
            of them as in "attention.qkv". Default: all of them.
    """

    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0
    targets: tuple[str, ...] | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Lora:
        """Make them from plain data.

        Raises:
            UserError: an unknown argument, or one out of its range.
        """
        valid = [field.name for field in fields(cls)]
        unknown = sorted(set(options) - set(valid))
        if unknown:
            raise UserError(f"lora has no {', '.join(unknown)}; its arguments are {', '.join(valid)}")
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}
        made = cls(**given)
        if isinstance(made.rank, bool) or not isinstance(made.rank, int) or made.rank < 1:
            raise UserError(f"lora: rank is a whole number of at least 1, got {made.rank!r}")
        if made.alpha is not None and not (isinstance(made.alpha, int | float) and made.alpha > 0):
            raise UserError(f"lora: alpha is a number above 0, got {made.alpha!r}")
        if not (isinstance(made.dropout, int | float) and 0 <= made.dropout < 1):
            raise UserError(f"lora: dropout is a share of at least 0 and below 1, got {made.dropout!r}")
        named = isinstance(made.targets, tuple) and made.targets and all(isinstance(n, str) for n in made.targets)
        if made.targets is not None and not named:
            raise UserError(f"lora: targets is a list of names of layers, e.g. [qkv, out]; got {options['targets']!r}")
        return made

    @property
    def strength(self) -> float:
        """The value of `alpha`."""
        return float(2 * self.rank if self.alpha is None else self.alpha)


def merged(state: Mapping[str, Tensor], options: Mapping[str, Any] | None) -> dict[str, Tensor]:
    """Return the weights of a model without adapters that computes the same.

    Args:
        state: the weights of a training, by name.
        options: the arguments of its adapters; None if it had none.

    Raises:
        UserError: the state lacks a part of an adapter, or has other ranks than the arguments.
    """
    if options is None:
        return dict(state)
    lora = Lora.of(options)
    result = {}
    for name, value in state.items():
        layer, base, rest = name.partition(BASE)
        if name.endswith((DOWN, UP)):
            continue
        if base and rest == "weight":
            value = _adapted(state, layer, value, lora)
        result[f"{layer}.{rest}" if base else name] = value
    return result


def _adapted(state: Mapping[str, Tensor], layer: str, weight: Tensor, lora: Lora) -> Tensor:
    down, up = state.get(layer + DOWN), state.get(layer + UP)
    if down is None or up is None:
        raise UserError(f"the checkpoint lacks the adapter of {layer}: it needs {layer + DOWN} and {layer + UP}")
    if down.shape != (lora.rank, weight.shape[1]) or up.shape != (weight.shape[0], lora.rank):
        raise UserError(
            f"the adapter of {layer} has shapes {tuple(up.shape)} and {tuple(down.shape)}, which do not fit rank "
            f"{lora.rank} and a layer of shape {tuple(weight.shape)}"
        )
    with torch.no_grad():
        product = (up.double() @ down.double()) * (lora.strength / lora.rank)
        return (weight.double() + product).to(weight.dtype)
