"""Audio fingerprints of 250 bytes per second that are robust to codecs, gain, resampling and cropping.

After J. Haitsma and T. Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002: a frame is 32 bits; a bit is
1 if the energy falls from one frequency band to the next by more than it did in an earlier frame. A change of gain or a
filter changes no bit, a codec changes few, and between recordings of different things half the bits differ. Our
choices, made on real recordings (docs/log.md, 2026-11-25): audio at 8 kHz, so that speech in telephone quality counts
too; windows of 256 ms every 16 ms, so that a crop at any place is within 8 ms of one; the earlier frame is 128 ms
before; frames that are 60 dB softer than the loudest one of their clip are ignored, since rounding decides their bits.

T samples, F frames, 33 bands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from math import gcd

import numpy as np
from lhotse.cut import Cut

from slap.core.units import Seconds
from slap.datamodules.audio.load import load, mono

RATE = 8000
WINDOW, HOP = 2048, 128  # samples
HOP_SECONDS: Seconds = HOP / RATE
LAG = 8  # frames
BANDS = 33
LOWEST, HIGHEST = 300.0, 3400.0  # Hz
SILENT = 1e-6  # of the energy of the loudest frame
FAINT = 1e-3  # energy of a frame below which it is silence anyway: noise of one step of 16 bits has 6e-4

BLOCK: Seconds = 60.0
MARGIN: Seconds = 1.0
"""Longer audio is read in blocks, with a margin before and after, so that memory stays bounded."""

_TYPE = np.dtype("<u4")


@dataclass(frozen=True)
class Fingerprint:
    """The fingerprint of a clip.

    Args:
        frames: (F,) uint32, 32 bits each; frame i + LAG compared with frame i. A clip below 0.38 s has none.
        sound: (F,) bool, True where both frames are loud enough to be compared.
        content: hash of the samples: equal for copies in another lossless format, with silence around them, or with
            their channel repeated. Empty for silence.
    """

    frames: np.ndarray
    sound: np.ndarray
    content: bytes


def fingerprint(cut: Cut) -> Fingerprint:
    """Compute the fingerprint of a clip, which is decoded at its own rate and averaged to mono.

    Raises:
        DecodeError: the audio cannot be read, or has NaN or infinite samples.
    """
    sounds, contents = _Frames(), _Content(cut.sampling_rate)
    for samples, begin, end in _blocks(cut):
        contents.add(samples[begin:end])
        sounds.add(resampled(samples, cut.sampling_rate)[_at(begin, cut) : _at(end, cut)])
    return Fingerprint(*sounds.frames(), contents.digest())


def _blocks(cut: Cut) -> Iterator[tuple[np.ndarray, int, int]]:
    """Yield the samples of a clip, (T,), in blocks with margins, and begin and end of the block without its margins."""
    count = max(1, round(cut.duration / BLOCK))
    if count == 1:
        samples = load(mono(cut, cut.sampling_rate)).numpy()
        yield samples, 0, len(samples)
        return
    for number in range(count):
        start = number * BLOCK
        end = cut.duration if number == count - 1 else start + BLOCK
        before, after = min(start, MARGIN), min(cut.duration - end, MARGIN)
        part = cut.truncate(offset=start - before, duration=end + after - (start - before), preserve_id=True)
        samples = load(mono(part, cut.sampling_rate)).numpy()
        yield (
            samples,
            round(before * cut.sampling_rate),
            len(samples) if number == count - 1 else round((before + end - start) * cut.sampling_rate),
        )


def _at(place: int, cut: Cut) -> int:
    return round(place * RATE / cut.sampling_rate)


def resampled(samples: np.ndarray, rate: int) -> np.ndarray:
    """Resample samples, (T,) float32, to 8 kHz, by truncating their spectrum or padding it with zeros."""
    if rate == RATE:
        return samples
    unit = rate // gcd(rate, RATE)  # this many samples are a whole number of samples at 8 kHz
    length = -(-len(samples) // unit) * unit
    wanted = length // unit * (RATE // gcd(rate, RATE))
    spectrum = np.fft.rfft(samples, length)
    kept = np.zeros(wanted // 2 + 1, spectrum.dtype)
    kept[: len(spectrum)] = spectrum[: len(kept)]
    short = np.fft.irfft(kept, wanted) * (wanted / length)
    return short[: round(len(samples) * RATE / rate)].astype(np.float32)


def band_energies(samples: np.ndarray) -> np.ndarray:
    """Compute (frames, 33) float32, the energy of each band in each window of samples at 8 kHz, (T,)."""
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    parts = [windows[i : i + 256] * _HANN for i in range(0, len(windows), 256)]
    return np.concatenate([np.square(np.abs(np.fft.rfft(part))).astype(np.float32) @ _FILTERS for part in parts])


def _filters() -> np.ndarray:
    """Compute (1025, 33), the share of each frequency in each band; the bands are equally wide on a log scale."""
    edges = np.geomspace(LOWEST, HIGHEST, BANDS + 1)
    width = RATE / WINDOW
    centers = np.fft.rfftfreq(WINDOW, 1 / RATE)[:, None]
    overlap = np.minimum(centers + width / 2, edges[1:]) - np.maximum(centers - width / 2, edges[:-1])
    return np.clip(overlap / width, 0, 1).astype(np.float32)


_HANN = np.hanning(WINDOW).astype(np.float32)
_FILTERS = _filters()


class _Frames:
    """Converter of samples at 8 kHz to frames, block by block."""

    def __init__(self) -> None:
        self.left = np.zeros(0, np.float32)  # first samples of the next windows
        self.recent = np.zeros((0, BANDS), np.float32)  # energies to compare later ones with
        self.bits: list[np.ndarray] = []
        self.loudness: list[np.ndarray] = []

    def add(self, samples: np.ndarray) -> None:
        """Add samples, (T,)."""
        samples = np.concatenate([self.left, samples])
        if len(samples) < WINDOW:
            self.left = samples
            return
        energies = np.concatenate([self.recent, band_energies(samples)])
        self.left = samples[(len(samples) - WINDOW) // HOP * HOP + HOP :]
        slopes = energies[:, :-1] - energies[:, 1:]
        self.bits.append(np.packbits(slopes[LAG:] > slopes[:-LAG], axis=1).view(_TYPE)[:, 0])
        self.loudness.append(energies[len(self.recent) :].sum(axis=1))
        self.recent = energies[-LAG:]

    def frames(self) -> tuple[np.ndarray, np.ndarray]:
        """Return bits, (F,) uint32, and a mask of the frames that are loud enough, (F,) bool."""
        loudness = np.concatenate([np.zeros(0, np.float32), *self.loudness])
        sound = loudness > max(SILENT * loudness.max(initial=0.0), FAINT)
        return np.concatenate([np.zeros(0, _TYPE), *self.bits]), sound[LAG:] & sound[:-LAG]


class _Content:
    """Hash of samples as 16-bit numbers, without the zeros before and after."""

    def __init__(self, rate: int) -> None:
        self.hash = blake2b(str(rate).encode(), digest_size=16)
        self.begun = False
        self.zeros = 0  # after the last sample that was hashed

    def add(self, samples: np.ndarray) -> None:
        """Add samples, (T,)."""
        steps = np.round(np.clip(samples, -1, 1) * 32767).astype("<i2")
        places = np.flatnonzero(steps)
        if not len(places):
            self.zeros += len(steps)
            return
        first = 0
        if self.begun:
            self.hash.update(bytes(2 * self.zeros))
        else:
            first, self.begun = int(places[0]), True
        self.hash.update(steps[first : places[-1] + 1].tobytes())
        self.zeros = len(steps) - 1 - int(places[-1])

    def digest(self) -> bytes:
        """Return the hash of the samples; empty when all are zero."""
        return self.hash.digest() if self.begun else b""
