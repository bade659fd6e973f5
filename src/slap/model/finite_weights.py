"""A check that the weights of a network are finite numbers: what NaN computes can look like a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from slap.core.errors import UserError

NAMED = 8
"""Tensors that a message names; it counts all of them."""


def not_finite(network: nn.Module, state: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Find the weights with values that are not finite.

    Of parameters, NaN and infinities count; of buffers NaN alone, since a mask may hold infinities.

    Args:
        network: the network.
        state: its state, by name; further entries count as buffers. Default: the network's own, of which this process
            may hold a part.

    Returns:
        By name the number of such values, in words.
    """
    parameters = {name for name, _ in network.named_parameters()}
    found = {}
    for name, value in (network.state_dict() if state is None else state).items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            continue
        local = value.to_local() if hasattr(value, "to_local") else value
        bad = ~local.isfinite() if name in parameters else local.isnan()
        if bool(bad.any()):
            found[name] = f"{int(bad.sum())} of {local.numel()} values"
    return found


def require_finite(network: nn.Module, state: Mapping[str, Any], hint: str) -> None:
    """Refuse weights that are not finite.

    Args:
        network: the network that they are for.
        state: the weights, by name.
        hint: the end of the message: what to do next.

    Raises:
        ValueError: some are not; names the tensors and counts the values.
    """
    found = not_finite(network, state)
    if found:
        listed = ", ".join(f"{name} ({count})" for name, count in list(found.items())[:NAMED])
        more = f" and {len(found) - NAMED} more tensors" if len(found) > NAMED else ""
        raise UserError(f"the model's weights are not finite, so it gives no results: {listed}{more}; {hint}")


def has_finite_weights(network: nn.Module) -> bool:
    """Return whether all parameters of a network, or of the part that this process holds, are finite."""
    local = (value.to_local() if hasattr(value, "to_local") else value for value in network.parameters())
    return all(bool(torch.isfinite(value.detach()).all()) for value in local)
