"""Adapters in the encoders of a model that is trained, by the library peft; see `slap.inference.adapters`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from slap.core.errors import MissingDependencyError, UserError
from slap.inference.adapters import BASE, Lora
from slap.model.network import Network


def check(network: Network, options: Mapping[str, Any]) -> None:
    """Check that a model can be trained with adapters.

    Raises:
        UserError: the arguments are wrong, or the model keeps a teacher, whose weights would have no adapters.
        ImportError: peft is missing.
    """
    Lora.of(options)
    if network.teacher is not None:
        raise UserError(
            "lora does not go with averages of the weights: leave out `ema`, and objectives that learn from a "
            "teacher, such as masked_distillation"
        )
    try:
        import peft  # noqa: F401 - makes the adapters
    except ImportError as error:
        raise MissingDependencyError("adapters need peft: pip install 'slap-audio[lora]'") from error


def insert(network: Network, options: Mapping[str, Any]) -> None:
    """Put adapters into the encoders, once, and keep all else in them from learning.

    Layers that are frozen get none. The pooling heads and the objectives learn as before.

    Args:
        network: the model.
        options: the arguments of `Lora`.

    Raises:
        UserError: the model has no such layers; lists those that it has.
    """
    if any(BASE in f".{name}." for name, _ in network.named_modules()):
        return
    from peft import LoraConfig, inject_adapter_in_model

    lora = Lora.of(options)
    sides = {"audio": network.audio, "text": network.text}
    layers = {side: _layers(encoder) for side, encoder in sides.items()}
    chosen = {side: [name for name in names if _is_target(name, lora)] for side, names in layers.items()}
    if not any(chosen.values()):
        known = sorted({name.rpartition(".")[2] for names in layers.values() for name in names})
        raise UserError(
            f"lora: no linear layer that learns is named {', '.join(lora.targets or ()) or 'anything'}; the encoders "
            f"have {', '.join(known) or 'none'}"
        )
    for side, encoder in sides.items():
        encoder.requires_grad_(False)
        if chosen[side]:
            config = LoraConfig(
                r=lora.rank, lora_alpha=lora.strength, lora_dropout=lora.dropout, target_modules=chosen[side]
            )
            inject_adapter_in_model(config, encoder)


def _layers(encoder: nn.Module) -> list[str]:
    """Return the names of the linear layers that learn, without those whose weights are used by other layers."""
    return [
        name
        for name, layer in encoder.named_modules()
        if isinstance(layer, nn.Linear)
        and not isinstance(layer, NonDynamicallyQuantizableLinear)
        and layer.weight.requires_grad
    ]


def _is_target(name: str, lora: Lora) -> bool:
    return lora.targets is None or any(f".{name}".endswith(f".{target}") for target in lora.targets)
