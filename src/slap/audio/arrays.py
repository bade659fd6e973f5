"""Arrays and tensors that users pass as audio, to mono float32 at a model's rate.

T samples at the rate that a recording has, T' at the rate that is wanted, C channels.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

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


def from_array(array: Any, rate: int, wanted: int, name: str = "the array", channels: bool = False) -> np.ndarray:
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
    samples = _plain(array, name)
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


def is_tensor(value: Any) -> bool:
    """Return True for a tensor of torch, which need not be installed."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _plain(array: Any, name: str) -> np.ndarray:
    if is_tensor(array):
        array = array.detach().cpu()
        return (array.float() if array.is_floating_point() else array).numpy()
    found = np.asarray(array)
    if found.dtype.kind not in "fiu":
        raise AudioError(f"{name} is no array of numbers but one of {found.dtype}; {READ}")
    # Windows of it become tensors; torch takes neither negative strides nor the other byte order, and writes to all.
    return found.astype(found.dtype.newbyteorder("="), order="C", copy=not found.flags.writeable)


def _scaled(samples: np.ndarray, name: str) -> np.ndarray:
    kind = samples.dtype
    if kind.kind == "f":
        with np.errstate(over="ignore"):  # too large numbers become infinite, which `check_samples` refuses
            return samples.astype(np.float32, copy=False)
    if kind in (np.int8, np.int16, np.int32):
        return (samples.astype(np.float64) / -float(np.iinfo(kind).min)).astype(np.float32)
    if kind == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    raise AudioError(f"{name} holds {samples.dtype}; {READ}")


def _mono(samples: np.ndarray, rate: int, name: str, channels: bool) -> np.ndarray:
    shape = samples.shape
    if samples.ndim == 1:
        return samples
    if samples.ndim != 2:
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
    return mix(samples.T if shape[0] <= shape[1] else samples, rate)


def check_samples(samples: ArrayLike, name: str, start: int = 0) -> None:
    """Refuse samples that are not finite or far beyond -1 to 1.

    Args:
        samples: (..., n), with n above 0.
        name: of the recording, for messages.
        start: the number of the first sample.

    Raises:
        AudioError: there is one.
    """
    found = np.asarray(samples)
    low, high = float(found.min()), float(found.max())  # both NaN if any is
    if low >= -LOUDEST and high <= LOUDEST:
        return
    finite = np.isfinite(found)
    if not finite.all():
        first = tuple(np.argwhere(~finite)[0].tolist())
        fault = f"has a sample that is {found[first]:.0f}, number {start + first[-1]}; all must be finite"
    else:
        fault = (
            f"has samples of up to {max(-low, high):.6g}; floats must lie in -1 to 1 (divide what were 16-bit integers "
            "by 32768, or pass them as int16)"
        )
    raise AudioError(f"{name} {fault}", "not_finite")
