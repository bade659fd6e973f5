"""Lightning's `bf16-true`, `16-true` and `64-true` for batches of this library, whose waveforms stay as they are."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from lightning.pytorch.plugins import DoublePrecision, HalfPrecision, Precision
from torch import nn

from slap.core.packed import Packed
from slap.model.contracts import AudioEncoder

HALF = ("bf16-true", "16-true")
DOUBLE = ("64-true", "64", 64)


class HalfWeights(HalfPrecision):
    """Weights and computation in half precision.

    Waveforms stay in float32, in which spectrograms are computed; audio encoders get patches in the precision of the
    weights. Lightning's own conversion refuses batches that are frozen.
    """

    def convert_input(self, data: Any) -> Any:
        """Return a batch unchanged."""
        return data

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Convert as the parent does, and patches on their way into audio encoders."""
        return _with_patches_cast(super().convert_module(module), self._desired_input_dtype)


class DoubleWeights(DoublePrecision):
    """Weights and computation in double precision; waveforms stay in float32, and patches are cast, as for halves."""

    def convert_input(self, data: Any) -> Any:
        """Return a batch unchanged."""
        return data

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Convert as the parent does, and patches on their way into audio encoders."""
        return _with_patches_cast(super().convert_module(module), torch.float64)


def precision_plugin(precision: Any) -> Precision | None:
    """Return the plug-in for a value of Lightning's option `precision`; None where Lightning's own serves."""
    if precision in HALF:
        return HalfWeights(cast(Literal["bf16-true", "16-true"], precision))
    return DoubleWeights() if precision in DOUBLE else None


def _with_patches_cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    def cast_patches(encoder: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        del encoder
        patches: Packed = arguments[0]
        if not patches.values.is_floating_point():
            return arguments
        return (patches.replace(patches.values.to(dtype)), *arguments[1:])

    for part in module.modules():
        if isinstance(part, AudioEncoder):
            part.register_forward_pre_hook(cast_patches)
    return module
