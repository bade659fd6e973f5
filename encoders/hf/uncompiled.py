"""What compiled code calls outside of its graph.

A file by itself, imported when a model first runs: saying so to the compiler imports the compiler, for which those who
use other models should not wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


@torch.compiler.disable  # it would be compiled anew for the lengths of each batch
def clip_by_clip(extract: Callable[[Tensor], Tensor], clips: Sequence[Tensor]) -> Tensor:
    """The rows of all clips, (N, D), of which `extract` makes (1, D, rows of a clip) from each clip, (1, n)."""
    return torch.cat([extract(clip[None])[0].T for clip in clips])
