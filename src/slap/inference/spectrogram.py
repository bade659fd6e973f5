"""A spectrogram as a picture: time from left to right, frequency on the mel scale from bottom to top.

T samples, F frequency bins, R rows and W columns of the picture.
"""

from __future__ import annotations

import io
from typing import BinaryIO

import numpy as np
import soundfile
import torch
from torch import Tensor

ROWS, COLUMNS = 112, 900
RANGE = 70.0
"""Decibels below the loudest that are shown."""

LONGEST = 60.0
"""Seconds that one picture shows."""


def spectrogram(file: BinaryIO, start: float, end: float) -> bytes:
    """A stretch of an open audio file as PNG.

    Args:
        file: is read from where the stretch begins.
        start: seconds.
        end: seconds; at most `LONGEST` after the start.

    Raises:
        ValueError: the stretch is empty or too long.
        soundfile.LibsndfileError: the file is no audio.
    """
    if not 0 <= start < end <= start + LONGEST:
        raise ValueError(f"{start:g} to {end:g} s; up to {LONGEST:g} s can be shown at once")
    with soundfile.SoundFile(file) as sound:
        sound.seek(min(round(start * sound.samplerate), max(sound.frames - 1, 0)))
        samples = sound.read(round((end - start) * sound.samplerate), dtype="float32", always_2d=True)
        mono = torch.from_numpy(np.nan_to_num(samples.mean(axis=1)))
        return png(levels(mono, sound.samplerate))


def levels(samples: Tensor, rate: int) -> np.ndarray:
    """Samples, (T,), to levels from 0 to 1, (R, W), the lowest frequency first."""
    size = max(2 ** round(np.log2(0.03 * rate)), 16)
    hop = max(1, min(size // 2, len(samples) // COLUMNS))
    padded = torch.nn.functional.pad(samples, (size // 2, size // 2 + hop))
    spectrum = torch.stft(padded, size, hop, window=torch.hann_window(size), center=False, return_complex=True)
    power = spectrum.abs().square()
    power = torch.nn.functional.adaptive_max_pool1d(power[None], min(COLUMNS, power.shape[1]))[0]
    rows = np.maximum.reduceat(power.numpy(), _first_bins(size // 2 + 1, rate), axis=0)
    decibels = 10 * np.log10(np.maximum(rows / max(float(rows.max()), 1e-12), 1e-12))
    levels: np.ndarray = (decibels / RANGE + 1).clip(0, 1)
    return levels


def png(values: np.ndarray) -> bytes:
    """Levels from 0 to 1 as a picture."""
    from matplotlib.image import imsave

    out = io.BytesIO()
    imsave(out, values, cmap="magma", vmin=0, vmax=1, origin="lower", format="png")
    return out.getvalue()


def _first_bins(bins: int, rate: int) -> np.ndarray:
    """The first of the F bins of each row; rows are equally high on the mel scale (HTK's formula)."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, ROWS + 1)[:-1] / 2595) - 1)
    return np.minimum(np.round(edges / (rate / 2) * (bins - 1)).astype(np.int64), bins - 1)
