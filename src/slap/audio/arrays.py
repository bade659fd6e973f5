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
from slap.audio.mixing import mix
from slap.audio.resample import resample

MOST_CHANNELS = 64
"""Channels of an array, of whose axes the shorter one is taken for that of the channels."""

STEREO = 2
"""Channels of an array, at most, that are taken for channels without being asked for."""

LOUDEST = 100.0
"""Float samples beyond this are no audio in -1 to 1, most likely integers that were converted without scaling."""

READ = "samples may be floats in -1 to 1, int8, int16, int32 or uint8"


def from_array(array: Any, rate: int, wanted: int, name: str = "the array", channels: bool = False) -> Tensor:
    """Convert an array or tensor of samples to (T',) float32, mono at a rate.

    Floats lie in -1 to 1; int16, int32, int8 and uint8 are full-scale integers. Of two axes the shorter one is that of
    the channels: (C, T) as torchaudio gives, or (T, C) as soundfile does. They become one, see `slap.audio.mixing`.

    Args:
        array: a numpy array, a tensor, or what numpy makes one of.
        rate: of the array, Hz.
        wanted: Hz.
        name: of the recording, for messages.
        channels: take two axes for channels and samples also where there are more than 2 channels; otherwise such an
            array may be a batch, and is refused.

    Raises:
        AudioError: it has no samples, other than 1 or 2 axes, another type, samples that are not finite or not in -1 to
            1, or an impossible rate.
    """
    samples = _tensor(array, name)
    check_rate(rate, name)
    mono = _mono(_scaled(samples, name), rate, name, channels)
    if not len(mono):
        raise AudioError(f"{name} holds no samples", "empty")
    check_samples(mono, name)
    return resample(mono, rate, wanted)


def check_rate(rate: Any, name: str) -> None:
    """Raise an `AudioError` for a rate that no recording has."""
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or not RATES[0] <= rate <= RATES[1]:
        raise AudioError(
            f"{name} needs a sample rate as an int of {RATES[0]} to {RATES[1]} Hz, got {rate!r}", "wrong_rate"
        )


def _tensor(array: Any, name: str) -> Tensor:
    if isinstance(array, Tensor):
        return array.detach().cpu()
    found = np.asarray(array)
    if found.dtype.kind not in "fiu":
        raise AudioError(f"{name} is no array of numbers but one of {found.dtype}; {READ}")
    kind = np.dtype(np.float64) if found.dtype.kind == "f" and found.dtype.itemsize > 8 else found.dtype
    # torch takes neither negative strides nor the other byte order, and warns of arrays that it could write to.
    found = found.astype(kind.newbyteorder("="), order="C", copy=not found.flags.writeable)
    return torch.as_tensor(found)


def _scaled(samples: Tensor, name: str) -> Tensor:
    if samples.is_floating_point():
        return samples.float()
    if samples.dtype in (torch.int8, torch.int16, torch.int32):
        return (samples.double() / -float(torch.iinfo(samples.dtype).min)).float()
    if samples.dtype == torch.uint8:
        return (samples.float() - 128) / 128
    raise AudioError(f"{name} holds {samples.dtype}; {READ}")


def _mono(samples: Tensor, rate: int, name: str, channels: bool) -> Tensor:
    shape = tuple(samples.shape)
    if samples.dim() == 1:
        return samples
    if samples.dim() != 2:
        raise AudioError(
            f"{name} has shape {shape}; (samples,), (channels, samples) and (samples, channels) are read, and with "
            "batch=True one more axis before these"
        )
    if 0 in shape:
        raise AudioError(f"{name} of shape {shape} holds no samples; the shortest recording has one", "empty")
    if not channels and min(shape) > STEREO:
        raise AudioError(
            f"{name} has shape {shape}, which may be a batch of recordings or the channels of one: pass batch=True or "
            "channels=True. Only (samples,), (1 or 2, samples) and (samples, 1 or 2) need neither"
        )
    if (shape[0] == shape[1] and shape[0] > 1) or min(shape) > MOST_CHANNELS:
        raise AudioError(
            f"{name} has shape {shape}, of which the channels cannot be told; average them first, or pass batch=True "
            "if each row is a recording"
        )
    return mix((samples.T if shape[0] <= shape[1] else samples).numpy(), rate)


def check_samples(samples: Tensor, name: str, start: int = 0) -> None:
    """Refuse samples that are not finite or far beyond -1 to 1.

    Args:
        samples: (..., n), with n above 0.
        name: of the recording, for messages.
        start: the number of the first sample.

    Raises:
        AudioError: there is one.
    """
    low, high = (float(extreme) for extreme in samples.aminmax())  # both NaN if any is
    if low >= -LOUDEST and high <= LOUDEST:
        return
    finite = samples.isfinite()
    if not bool(finite.all()):
        first = tuple((~finite).nonzero()[0].tolist())
        found = f"has a sample that is {samples[first]:.0f}, number {start + first[-1]}; all must be finite"
    else:
        found = (
            f"has samples of up to {max(-low, high):.6g}; floats must lie in -1 to 1 (divide what were 16-bit integers "
            "by 32768, or pass them as int16)"
        )
    raise AudioError(f"{name} {found}", "not_finite")
