"""Batches on their way between processes: small tensors go as bytes, in the message itself.

torch hands over each tensor in shared memory of its own, by a file descriptor that is asked for through a socket. For
waveforms that saves copies; for a few numbers it takes longer than everything else about the batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

SMALL = 1 << 14
"""Elements of a tensor that is sent as bytes at most."""

PLAIN = (torch.int32, torch.int64, torch.float32, torch.float64, torch.bool)


class PickledAsBytes:
    """Base of what is sent between processes; its small tensors go as bytes."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value.numpy() if _is_small(value) else value for name, value in self.__dict__.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            self.__dict__[name] = torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _is_small(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.device.type == "cpu"
        and value.dtype in PLAIN
        and value.numel() <= SMALL
        and not value.requires_grad
    )
