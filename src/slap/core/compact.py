"""Smaller embeddings: their leading dimensions, and int8.

n embeddings, E shared dimension, d leading dimensions.
"""

from __future__ import annotations

from typing import cast, get_args

import torch
from torch import Tensor
from torch.nn.functional import normalize

from slap.core.errors import UserError
from slap.core.units import EmbeddingType

LEVELS = 127
"""The largest int8 in use. -128 is not used, so that a vector and its opposite have opposite numbers."""


def leading(embeddings: Tensor, dim: int) -> Tensor:
    """Take the leading `dim` dimensions of embeddings of length 1, (..., E), and give them length 1 again, (..., dim).

    Example:
        >>> leading(torch.tensor([0.48, 0.36, 0.8]), 2)
        tensor([0.8000, 0.6000])
    """
    return embeddings if dim == embeddings.shape[-1] else normalize(embeddings[..., :dim], dim=-1)


def to_int8(embeddings: Tensor) -> Tensor:
    """Quantize embeddings of length 1, (..., E), symmetrically to int8, (..., E).

    The largest number of each vector becomes 127 or -127, and 0 stays 0. The factor is not kept (our choice), as the
    length that `from_int8` restores is known. A vector whose numbers are not finite has no int8 form.

    Raises:
        ValueError: an embedding is not finite.

    Example:
        >>> to_int8(torch.tensor([[0.6, -0.8], [1.0, 0.0]])).tolist()
        [[95, -127], [127, 0]]
    """
    if not bool(embeddings.isfinite().all()):
        raise UserError("an embedding is not finite, so it cannot be stored as int8; are the model's weights whole?")
    largest = embeddings.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(embeddings.dtype).tiny)
    return (embeddings / largest * LEVELS).round().to(torch.int8)


def from_int8(embeddings: Tensor) -> Tensor:
    """Return int8 embeddings, (..., E), as float32 of length 1, whose products are cosines.

    Example:
        >>> from_int8(torch.tensor([[95, -127]], dtype=torch.int8)).round(decimals=2).tolist()
        [[0.6000000238418579, -0.800000011920929]]
    """
    return normalize(embeddings.float(), dim=-1)


def known_type(dtype: str) -> EmbeddingType:
    """Check the name of a number type of embeddings.

    Raises:
        ValueError: there is no such type.
    """
    if dtype not in get_args(EmbeddingType):
        raise UserError(f"the dtype of embeddings is one of {', '.join(get_args(EmbeddingType))}; got {dtype!r}")
    return cast(EmbeddingType, dtype)


def compact(embeddings: Tensor, dim: int, dtype: EmbeddingType = "float32") -> Tensor:
    """Take the leading `dim` dimensions of embeddings, (..., E), in a number type.

    Raises:
        ValueError: an unknown number type, or an embedding that is not finite as int8.
    """
    short = leading(embeddings, dim)
    return to_int8(short) if known_type(dtype) == "int8" else short
