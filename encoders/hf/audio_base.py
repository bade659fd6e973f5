"""Base of the audio encoders of the `transformers` library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from slap.encoders.hf.attention import use_packed_attention
from slap.encoders.hf.pretrained import describe_config, describe_extractor, recompute
from slap.model.contracts import AudioEncoder


class HFAudioEncoder(AudioEncoder):
    """An audio encoder with the layers of a model of transformers.

    A subclass makes the model and its feature extractor, whose settings `patchify` follows on the device.

    Attributes:
        model: the model of transformers; `lr_scale` recognizes pretrained parameters by this name.
        step: seconds from one time coordinate of its patches (`positions[:, 0]`) to the next; None if patches have no
            time.
        mask_token: (D,), replaces the content of hidden patches.
        extractor: arguments of its feature extractor.

    Args:
        model: the model of transformers.
        extractor: its feature extractor.
        width: D, the width of the dense output.
        token_width: width of the rows in which hidden patches are replaced. Default: `width`.
        lr_scale: factor on the learning rate of the model's parameters.
        checkpointing: recompute layers in the backward pass instead of keeping their activations.
    """

    sources = ("pretrained", "revision")
    step: float | None = None

    def __init__(
        self,
        model: nn.Module,
        extractor: Any,
        width: int,
        lr_scale: float,
        checkpointing: bool,
        token_width: int | None = None,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.width = width
        self.sample_rate: int = extractor.sampling_rate
        self.mask_token = nn.Parameter(torch.randn(token_width or width) * 0.02)
        self.extractor = describe_extractor(extractor)
        self._lr_scale = lr_scale
        if checkpointing:
            recompute(model)

    def lr_scale(self, name: str) -> float:
        """Return the argument `lr_scale` for parameters of the model, and 1 for new ones."""
        return self._lr_scale if name.startswith("model.") else 1.0

    def portable(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments that rebuild this encoder without hub and folders: the weights are saved."""
        replaced = (*self.sources, "size", "config", "extractor")
        kept = {name: value for name, value in options.items() if name not in replaced}
        made = {"config": describe_config(self.model.config), "extractor": self.extractor}
        return {**kept, **made, "lr_scale": self._lr_scale}

    def __setstate__(self, state: dict[str, Any]) -> None:
        use_packed_attention()  # this may be another process than that of the constructor
        super().__setstate__(state)


def hide(rows: Tensor, hidden: Tensor | None, value: Tensor | float) -> Tensor:
    """Replace rows, (N, D), where `hidden`, (N,) bool, is True."""
    if hidden is None:
        return rows
    return torch.where(hidden[:, None], torch.as_tensor(value, device=rows.device).to(rows.dtype), rows)
