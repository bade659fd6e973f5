"""The pooling heads of CLAP models of the `transformers` library, in the place of SLAP's attention pooling.

B items, N rows, D width, E shared dimension.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from slap.core.errors import UserError
from slap.core.packed import Packed
from slap.nn.pooling import Pooling, unit


class ClapAudioPooling(Pooling):
    """CLAP's head of the audio encoder: the mean of the dense features, and a projection of two layers.

    Args:
        config: a `ClapAudioConfig`.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.projection = _projection(config)

    def forward(self, tokens: Packed, lengths: Tensor | None = None) -> Tensor:
        """Pool packed rows, (N, D), to (B, E), see `Pooling`; a mean does not depend on `lengths`."""
        del lengths
        sums = tokens.values.new_zeros(len(tokens), tokens.values.shape[1]).index_add(0, tokens.item, tokens.values)
        return unit(self.projection(sums / tokens.lengths[:, None]))

    def single(self, rows: Tensor) -> Tensor:
        """Pool one item, (N, D), to (E,), see `Pooling`."""
        return unit(self.projection(rows.mean(0, keepdim=True)))[0]


class ClapTextPooling(Pooling):
    """CLAP's head of the text encoder: a layer on the first token, tanh, and a projection of two layers.

    Args:
        config: a `ClapTextConfig`.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.projection = _projection(config)

    def forward(self, tokens: Packed, lengths: Tensor | None = None) -> Tensor:
        """Pool packed rows, (N, D), to (B, E), see `Pooling`; the first row does not depend on `lengths`."""
        del lengths
        return self._project(tokens.values[tokens.cu_seqlens[:-1].long()])

    def single(self, rows: Tensor) -> Tensor:
        """Pool one item, (N, D), to (E,), see `Pooling`."""
        return self._project(rows[:1])[0]

    def _project(self, first: Tensor) -> Tensor:
        return unit(self.projection(torch.tanh(self.dense(first))))


def check_pooling(config: Any, width: int, embedding_dim: int, duration: bool = False) -> None:
    """Check that the projection of a configuration fits the model.

    Args:
        config: a `ClapAudioConfig` or a `ClapTextConfig`.
        width: D of the encoder.
        embedding_dim: E of the model.
        duration: whether the embedding shall depend on the number of rows.

    Raises:
        ValueError: it has other dimensions, or the duration is asked for.
    """
    if duration:
        raise UserError("CLAP's pooling hears no durations: leave out pool_duration, or set `projection: false`")
    if (config.hidden_size, config.projection_dim) != (width, embedding_dim):
        raise UserError(
            f"CLAP's projection goes from {config.hidden_size} to {config.projection_dim} dimensions, but the encoder "
            f"has {width} and the model's embedding_dim is {embedding_dim}: make hidden_size and projection_dim of "
            "`config` the same as these"
        )


def _projection(config: Any) -> nn.Module:
    from transformers.models.clap.modeling_clap import ClapProjectionLayer

    layer: nn.Module = ClapProjectionLayer(config)
    return layer
