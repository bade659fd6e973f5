"""Arrays and tensors that users pass as audio, to mono float32 at a model's rate.

T samples at the rate that a recording has, T' at the rate that is wanted, C channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from slap.audio.decoders import RATES
from slap.audio.errors import AudioError
from slap.audio.reader import average, check_samples
from slap.audio.resample import resample

MOST_CHANNELS = 64
"""Channels of an array, of whose axes the shorter one is taken for that of the channels."""


def from_array(array: Any, rate: int, wanted: int, name: str = "the array") -> Tensor:
    """Convert an array or tensor of samples, (T,), (C, T) or (T, C), to (T',) float32, mono at a rate.

    Floats lie in -1 to 1; int16, int32, int8 and uint8 are full-scale integers. Of two axes the shorter one is that of
    the channels.

    Args:
        array: a numpy array, a tensor, or what numpy makes one of.
        rate: of the array, Hz.
        wanted: Hz.
        name: of the recording, for messages.

    Raises:
        AudioError: it has no samples, other than 1 or 2 axes, another type, samples that are not finite or not in -1 to
            1, or an impossible rate.
    """
    samples = torch.as_tensor(array if isinstance(array, Tensor) else np.asarray(array)).detach().cpu()
    check_rate(rate, name)
    mono = _mono(_scaled(samples, name), name)
    if not len(mono):
        raise AudioError(f"{name} holds no samples", "empty")
    check_samples(mono, name)
    return resample(mono, rate, wanted)


def check_rate(rate: int, name: str) -> None:
    """Raise an `AudioError` for a rate that no recording has."""
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or not RATES[0] <= rate <= RATES[1]:
        raise AudioError(
            f"{name} needs a sample rate as an int of {RATES[0]} to {RATES[1]} Hz, got {rate!r}", "wrong_rate"
        )


def _scaled(samples: Tensor, name: str) -> Tensor:
    if samples.is_floating_point():
        return samples.float()
    if samples.dtype in (torch.int8, torch.int16, torch.int32):
        return (samples.double() / -float(torch.iinfo(samples.dtype).min)).float()
    if samples.dtype == torch.uint8:
        return (samples.float() - 128) / 128
    raise AudioError(f"{name} holds {samples.dtype}; samples may be floats in -1 to 1, int8, int16, int32 or uint8")


def _mono(samples: Tensor, name: str) -> Tensor:
    shape = tuple(samples.shape)
    if samples.dim() == 1:
        return samples
    if samples.dim() != 2:
        raise AudioError(f"{name} has shape {shape}; (samples,), (channels, samples) or (samples, channels) are read")
    if 0 in shape:
        raise AudioError(f"{name} of shape {shape} holds no samples; the shortest recording has one", "empty")
    if (shape[0] == shape[1] and shape[0] > 1) or min(shape) > MOST_CHANNELS:
        raise AudioError(f"{name} has shape {shape}, of which the channels cannot be told; average them first")
    return average((samples.T if shape[0] <= shape[1] else samples).numpy())
