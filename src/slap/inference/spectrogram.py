"""The picture of a spectrogram: time from left to right, frequency on the mel scale from bottom to top.

T samples, F frequency bins, R rows and W columns of the picture.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from itertools import chain

import numpy as np
import torch

from slap.audio.player_clock import on_clock
from slap.audio.reader import AudioFile
from slap.audio.resample import samples_in
from slap.core.errors import UserError
from slap.core.units import Seconds

ROWS, COLUMNS = 112, 900
RANGE = 70.0
"""Decibels below the loudest that are shown."""

LONGEST: Seconds = 60.0
"""Length that one picture of a segment shows, at most."""


def segment_png(file: AudioFile, start: Seconds, end: Seconds) -> bytes:
    """Draw a segment of an open audio file as PNG.

    Args:
        file: the file.
        start: on the clock of a player.
        end: likewise; at most `LONGEST` after the start.

    Raises:
        ValueError: the segment is empty or too long.
        AudioError: it cannot be decoded.
    """
    if not 0 <= start < end <= start + LONGEST:
        raise UserError(f"{start:g} to {end:g} s; up to {LONGEST:g} s can be shown at once")
    rate = file.header.rate
    return png(levels(on_clock(file, rate, start, end), rate, max(samples_in(end - start, rate), 1)))


def levels(blocks: Iterable[np.ndarray], rate: int, samples: int) -> np.ndarray:
    """Compute levels from 0 to 1, (R, W), the lowest frequency first; hours of audio take little memory.

    A column shows the loudest of its moments, a row the loudest of its frequencies.

    Args:
        blocks: consecutive samples, (n_i,) each.
        rate: Hz.
        samples: T, that the width stands for.
    """
    size = max(2 ** round(np.log2(0.03 * rate)), 16)
    hop = max(1, min(size // 2, samples // COLUMNS))
    frames = samples // hop + 2
    power = np.zeros((ROWS, min(COLUMNS, frames)), dtype=np.float32)
    window, bins = torch.hann_window(size), _first_bins(size // 2 + 1, rate)
    held, first = torch.zeros(size // 2), 0  # frames are centered; `held` begins with frame `first`
    for block in chain(blocks, [np.zeros(size // 2 + hop, np.float32)]):
        held = torch.cat([held, torch.from_numpy(block)])
        if len(held) < size:
            continue
        spectrum = torch.fft.rfft(held.unfold(0, size, hop) * window).abs().square().T
        rows = np.maximum.reduceat(spectrum.numpy(), bins, axis=0)
        _add(power, rows, first, frames)
        first += rows.shape[1]
        held = held[rows.shape[1] * hop :]
    decibels = 10 * np.log10(np.maximum(power / max(float(power.max()), 1e-12), 1e-12))
    levels: np.ndarray = (decibels / RANGE + 1).clip(0, 1)
    return levels


def png(values: np.ndarray) -> bytes:
    """Draw levels from 0 to 1."""
    from matplotlib.image import imsave

    out = io.BytesIO()
    imsave(out, values, cmap="magma", vmin=0, vmax=1, origin="lower", format="png")
    return out.getvalue()


def row_of(frequency: float, rate: int) -> float:
    """Return the row of a frequency in Hz, as a position from 0 to R."""
    return float(ROWS * _mel(frequency) / _mel(rate / 2))


def _add(power: np.ndarray, rows: np.ndarray, first: int, frames: int) -> None:
    """Add frames to the columns that they overlap, which are two at most."""
    frame, columns = first + np.arange(rows.shape[1]), power.shape[1]
    for place in (frame * columns // frames, -(-(frame + 1) * columns // frames) - 1):
        place = place.clip(0, columns - 1)
        starts = np.flatnonzero(np.diff(place, prepend=-1))
        loudest = np.maximum.reduceat(rows, starts, axis=1)
        power[:, place[starts]] = np.maximum(power[:, place[starts]], loudest)


def _first_bins(bins: int, rate: int) -> np.ndarray:
    """Return the first of the F bins of each row; rows are equally high on the mel scale."""
    edges = 700 * (10 ** (np.linspace(0, _mel(rate / 2), ROWS + 1)[:-1] / 2595) - 1)
    return np.minimum(np.round(edges / (rate / 2) * (bins - 1)).astype(np.int64), bins - 1)


def _mel(frequency: float) -> float:
    """Convert Hz by HTK's formula."""
    return float(2595 * np.log10(1 + frequency / 700))
