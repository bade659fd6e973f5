"""A picture of a recording: its spectrogram, the similarity of texts over time, and the events."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from slap.audio.reader import blocks
from slap.inference.frames import Event, Frames

RATE, FFT = 16_000, 512
COLUMNS = 1200
"""Of the spectrogram; louder moments of a column win."""

LEVELS = (-80.0, 0.0)
"""dB below the loudest that are shown."""


def draw(path: str, frames: Frames, events: Sequence[Event], out: Path) -> None:
    """Write the picture, PNG or whatever the name's ending says."""
    with mpl.rc_context({"font.family": "sans-serif", "font.size": 9, "savefig.dpi": 150}):
        figure = Figure(figsize=(10, 2.2 + 2.2 + 0.28 * len(frames.texts) + 0.6), layout="constrained")
        FigureCanvasAgg(figure)
        rows = figure.subplots(3, 1, sharex=True, height_ratios=[2.2, 2.2, 0.28 * len(frames.texts) + 0.3])
        _spectrogram(rows[0], path, frames.seconds)
        colors = [f"C{i % 10}" for i in range(len(frames.texts))]
        _curves(rows[1], frames, colors)
        _events(rows[2], frames, events, colors)
        rows[0].set_title(Path(path).name, parse_math=False)
        rows[2].set_xlim(0, frames.seconds)
        rows[2].set_xlabel("time (s)")
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out)


def _spectrogram(axes: Axes, path: str, seconds: float) -> None:
    image = spectrogram(path, seconds)
    axes.imshow(
        image, origin="lower", aspect="auto", extent=(0, seconds, 0, RATE / 2000), cmap="magma", vmin=LEVELS[0],
        vmax=LEVELS[1], interpolation="nearest",
    )  # fmt: skip
    axes.set_ylabel("kHz")


def spectrogram(path: str, seconds: float) -> np.ndarray:
    """(FFT / 2 + 1, columns) dB below the loudest, read in blocks, so that hours take little memory."""
    hop = max(FFT // 4, round(seconds * RATE / COLUMNS / 4))
    columns = max(min(COLUMNS, round(seconds * RATE / hop)), 1)
    image = np.full((FFT // 2 + 1, columns), 1e-10)
    window, start, held = torch.hann_window(FFT), 0, torch.empty(0)
    for block in blocks(path, RATE):
        held = torch.cat([held, block])
        start, held = _add(image, held, start, hop, window, seconds)
    _add(image, torch.nn.functional.pad(held, (0, FFT)), start, hop, window, seconds)
    decibel = 10 * np.log10(image)
    return decibel - decibel.max()


def _add(
    image: np.ndarray, held: torch.Tensor, start: int, hop: int, window: torch.Tensor, seconds: float
) -> tuple[int, torch.Tensor]:
    """Put the frames of `held`, which begins at sample `start`, into the image; what is left of it."""
    if len(held) < FFT:
        return start, held
    power = torch.fft.rfft(held.unfold(0, FFT, hop) * window).abs().square().T.double().numpy()
    middle = (start + FFT / 2 + hop * np.arange(power.shape[1])) / RATE / seconds * image.shape[1]
    for column, values in zip(middle.astype(int).clip(0, image.shape[1] - 1), power.T, strict=True):
        np.maximum(image[:, column], values, out=image[:, column])
    done = power.shape[1] * hop
    return start + done, held[done:]


def _curves(axes: Axes, frames: Frames, colors: list[str]) -> None:
    for i in range(len(frames.texts)):
        axes.plot(frames.times, frames.similarity[:, i], color=colors[i], linewidth=1.2)
    axes.set_ylabel("similarity")
    axes.grid(alpha=0.3)


def _events(axes: Axes, frames: Frames, events: Sequence[Event], colors: list[str]) -> None:
    for event in events:
        i = frames.texts.index(event.text)
        axes.broken_barh([(event.onset, event.offset - event.onset)], (i - 0.35, 0.7), color=colors[i])
    axes.set_ylim(len(frames.texts) - 0.5, -0.5)
    axes.set_yticks(range(len(frames.texts)), [text.replace("$", r"\$") for text in frames.texts])
    for label, color in zip(axes.get_yticklabels(), colors, strict=True):  # the legend of the curves, too
        label.set_color(color)
    axes.set_ylabel("events")
