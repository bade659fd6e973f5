"""Embeddings of recordings by a network: the job for `slap.inference.stream`.

W windows, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from slap.audio.recordings import Audio
from slap.core.merging import merge
from slap.core.windows import window_weights
from slap.inference.stream import NotFiniteError, Span, StreamItem, WindowJob, run


def embed(
    audio: Iterable[Audio], encode: Callable[[Sequence[Tensor]], Tensor], rate: int, window: int, batch: int
) -> Iterator[StreamItem[Tensor]]:
    """Embed recordings: results are (E,) float32 on the CPU, of length 1.

    Args:
        audio: the recordings.
        encode: takes windows, (n_i,) each, and gives a row, (E,), for each.
        rate: see `WindowJob`.
        window: likewise.
        batch: likewise.
    """
    return run(audio, WindowJob(lambda clips: list(encode(tensors(clips))), joined, rate, window, batch))


def tensors(clips: Sequence[np.ndarray]) -> list[Tensor]:
    """Return the samples of windows, (n_i,) each, as tensors."""
    return [torch.from_numpy(clip) for clip in clips]


def joined(parts: list[Tensor], spans: list[Span]) -> Tensor:
    """Merge the embeddings of a recording's windows into the recording's, (E,).

    Raises:
        NotFiniteError: it is not finite.
    """
    owner = torch.zeros(len(spans), dtype=torch.int64)
    whole = merge(torch.stack(parts), owner, torch.tensor(window_weights(spans)))[0]
    if not bool(whole.any()):  # NaN is true
        raise NotFiniteError("has an embedding of zeros, which is no direction; are the model's weights whole?")
    return require_finite(whole, "an embedding")


def require_finite(values: Tensor, what: str) -> Tensor:
    """Return what a model gives for a recording.

    Raises:
        NotFiniteError: it is not finite; `_finished` adds the recording's name.
    """
    if not bool(values.isfinite().all()):
        raise NotFiniteError(f"has {what} that is not finite; are the model's weights whole?")
    return values
