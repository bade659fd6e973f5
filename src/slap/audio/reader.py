"""Audio as people have it, files and arrays of any rate and number of channels, to mono float32 at a model's rate.

T samples of a recording at the rate it has, T' at the rate that is wanted, C channels.

Files are read by soundfile (wav, flac, ogg, mp3, opus, aiff, ...), and MPEG-4 (m4a) through the extra `m4a`, in blocks
where they are long; resampling is torchaudio's, and the same whether a recording comes whole or in blocks. Channels are
averaged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, isqrt
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor
from torchaudio.functional import resample

from slap.audio.mpeg4 import Mpeg4File, is_mpeg4
from slap.audio.rates import RATES

BLOCK = 30.0
"""Seconds that are decoded at once."""

LARGEST_BLOCK = 1 << 26
"""Bytes of samples that are decoded at once: a small file may hold hundreds of channels at a rate of radio."""

MOST_CHANNELS = 64
LOUDEST = 100.0
"""Float samples beyond this are no audio in -1 to 1, most likely integers that were converted without scaling."""

KERNEL = 6
"""Zero crossings of torchaudio's resampling filter, which says how far a sample looks."""

FINEST = 2000
"""Largest denominator of a ratio of rates. That of 44.1 and 16 kHz is 160; rates without a common divisor would need
gigabytes of filters, and are taken to about a millionth."""

LARGEST_FILTER = 1 << 23
"""Numbers of a filter; making it takes some eight times as much as it holds."""


class AudioError(ValueError):
    """A recording that cannot be used; the message names it and says what is wrong."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself; compressed files may be wrong about their length.

    Attributes:
        samples: T.
        rate: Hz.
        channels: C.
    """

    samples: int
    rate: int
    channels: int

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.samples / self.rate


def header(path: str | Path) -> Header:
    """Read a file's header.

    Raises:
        AudioError: there is no such file, or it is no audio.
    """
    with opened(path) as file:
        return Header(file.frames, file.samplerate, file.channels)


def read(path: str | Path, rate: int) -> Tensor:
    """A whole file, (T',) float32, mono at a rate.

    Raises:
        AudioError: it cannot be read, has no samples, or samples that are not finite.
    """
    return torch.cat(list(blocks(path, rate)))


def blocks(
    path: str | Path, rate: int, seconds: float = BLOCK, start: float = 0.0, duration: float | None = None
) -> Iterator[Tensor]:
    """A file in consecutive blocks, (n_i,) float32, mono at a rate; joined they are `read`.

    Args:
        path: of the file.
        rate: Hz.
        seconds: of a block.
        start: where in the file to begin, in seconds; what lies before is not decoded where the format allows it.
        duration: seconds to read; None is up to the end.

    Raises:
        AudioError: as `read`; while iterating.
    """
    yield from decoded(opened(path), path, rate, seconds, start, duration)


def decoded(
    file: soundfile.SoundFile | Mpeg4File,
    path: str | Path,
    rate: int,
    seconds: float = BLOCK,
    start: float = 0.0,
    duration: float | None = None,
) -> Iterator[Tensor]:
    """Yield the blocks of an open file, as `blocks` does, and close it."""
    with file:
        empty = True
        first = round(start * file.samplerate)
        most = None if duration is None else max(round(duration * file.samplerate), 1)
        if first:
            try:
                file.seek(first)
            except soundfile.LibsndfileError as error:
                raise AudioError(f"{path} has no second {start:g}: {error}") from error
        size = min(round(seconds * file.samplerate), LARGEST_BLOCK // (4 * file.channels))
        stream = _decoded(file, path, max(size, 1), first, most)
        for block in resampled(stream, file.samplerate, rate):
            empty = False
            yield block
    if empty:
        raise AudioError(f"{path} holds no samples")


def from_array(array: Any, rate: int, wanted: int, name: str = "the array") -> Tensor:
    """An array or tensor of samples, (T,), (C, T) or (T, C), to (T',) float32, mono at a rate.

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
        raise AudioError(f"{name} holds no samples; the shortest recording has one")
    _check(mono, name, 0)
    return torch.cat(list(resampled(iter([mono]), rate, wanted)))


def check_rate(rate: int, name: str) -> None:
    """Raise an `AudioError` for a rate that no recording has."""
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or not RATES[0] <= rate <= RATES[1]:
        raise AudioError(f"{name} needs a sample rate as an int of {RATES[0]} to {RATES[1]} Hz, got {rate!r}")


def resampled(stream: Iterator[Tensor], rate: int, wanted: int) -> Iterator[Tensor]:
    """Blocks at one rate, (n_i,), to blocks at another, which joined equal the whole resampled at once.

    Every block is resampled with as much of its neighbors as the filter sees, in whole periods of the two rates.
    """
    if rate == wanted:
        yield from (block for block in stream if len(block))
        return
    ratio = _ratio(rate, wanted)
    period, produced = ratio.denominator, ratio.numerator  # so many samples become so many
    reach = ceil(KERNEL * max(period / produced, 1.0) / 0.99) + 1
    margin = ceil(reach / period) * period
    held, lead = torch.empty(0), 0  # `lead` samples of `held` were resampled before and are context now
    for block in stream:
        held = torch.cat([held, block])
        ready = (len(held) - lead - margin) // period * period
        if ready <= 0:
            continue
        out = resample(held[: lead + ready + margin], period, produced)
        yield out[lead // period * produced : (lead + ready) // period * produced]
        keep = max(lead + ready - margin, 0)
        held, lead = held[keep:].clone(), lead + ready - keep
    if len(held) > lead:
        yield resample(held, period, produced)[lead // period * produced :]


def _ratio(rate: int, wanted: int) -> Fraction:
    """Two rates as a fraction, wanted over given, that a filter of bounded size can do."""
    finest = min(FINEST * max(rate // wanted, 1), isqrt(LARGEST_FILTER * rate // wanted))
    return Fraction(wanted, rate).limit_denominator(finest)


def opened(path: str | Path) -> soundfile.SoundFile | Mpeg4File:
    """Open a file whose header makes sense; libsndfile has the first try, so that most files are opened once.

    Raises:
        AudioError: there is no such file, or it is no audio.
    """
    if not Path(path).is_file():
        raise AudioError(f"there is no file {path}")
    file: soundfile.SoundFile | Mpeg4File
    try:
        try:
            file = soundfile.SoundFile(str(path))
        except soundfile.LibsndfileError:
            if not is_mpeg4(str(path)):
                raise
            file = Mpeg4File(str(path))
    except (soundfile.LibsndfileError, TypeError, ValueError, OSError, ImportError) as error:
        raise AudioError(f"{path} cannot be read as audio: {error}") from error
    if not RATES[0] <= file.samplerate <= RATES[1]:
        file.close()
        raise AudioError(f"{path} says that its rate is {file.samplerate} Hz; {RATES[0]} to {RATES[1]} are read")
    return file


def _decoded(
    file: soundfile.SoundFile | Mpeg4File, path: str | Path, size: int, start: int, most: int | None
) -> Iterator[Tensor]:
    """Blocks of `size` samples, the mean of the channels, from sample `start` on, `most` of them."""
    stop = None if most is None else start + most
    while stop is None or start < stop:
        try:
            if isinstance(file, Mpeg4File):  # what a read leaves of a block is gone
                file.seek(start)
            block = file.read(size if stop is None else min(size, stop - start), dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            at = f"{start / file.samplerate:.2f} s"
            raise AudioError(f"{path} cannot be decoded beyond {at}: {error}") from error
        if not len(block):
            return
        mono = torch.from_numpy(block.mean(axis=1))
        _check(mono, str(path), start)
        yield mono
        start += len(block)


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
        raise AudioError(f"{name} of shape {shape} holds no samples; the shortest recording has one")
    if (shape[0] == shape[1] and shape[0] > 1) or min(shape) > MOST_CHANNELS:
        raise AudioError(f"{name} has shape {shape}, of which the channels cannot be told; average them first")
    return samples.mean(0 if shape[0] <= shape[1] else 1)


def _check(samples: Tensor, name: str, start: int) -> None:
    peak = float(samples.abs().max())  # NaN if any is
    if peak <= LOUDEST:
        return
    finite = samples.isfinite()
    if not bool(finite.all()):
        first = int((~finite).nonzero()[0])
        raise AudioError(
            f"{name} has a sample that is {samples[first]:.0f}, number {start + first}; all must be finite"
        )
    raise AudioError(
        f"{name} has samples of up to {peak:.6g}; floats must lie in -1 to 1 (divide what were 16-bit integers by "
        "32768, or pass them as int16)"
    )
