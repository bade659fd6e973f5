"""Lightning's `bf16-true` and `16-true` for batches of this library: half-precision weights, waveforms as they are."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.plugins import HalfPrecision

HALF = ("bf16-true", "16-true")


class HalfWeights(HalfPrecision):
    """Weights and computation in half precision.

    Waveforms stay in float32: spectrograms are computed in it, and encoders cast what they make of them. Lightning's
    own conversion refuses batches that are frozen.
    """

    def convert_input(self, data: Any) -> Any:
        """Return a batch unchanged."""
        return data
