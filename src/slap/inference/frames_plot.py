"""The plot of a recording: its spectrogram, the similarity of texts over time, and the events."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from slap.audio.reader import blocks
from slap.inference.frames import Event, Frames
from slap.inference.spectrogram import ROWS, levels, row_of

RATE = 16_000
"""Sample rate of the spectrogram, Hz."""

TICKS = (0, 0.5, 1, 2, 4, 8)
"""Frequencies beside the spectrogram, kHz."""


def draw(path: str, frames: Frames, events: Sequence[Event], out: Path) -> None:
    """Write the plot, as PNG or the format that the name's ending says."""
    with mpl.rc_context({"font.family": "sans-serif", "font.size": 9, "savefig.dpi": 150}):
        figure = Figure(figsize=(10, 2.2 + 2.2 + 0.28 * len(frames.texts) + 0.6), layout="constrained")
        FigureCanvasAgg(figure)
        rows = figure.subplots(3, 1, sharex=True, height_ratios=[2.2, 2.2, 0.28 * len(frames.texts) + 0.3])
        _spectrogram(rows[0], path, frames)
        colors = [f"C{i % 10}" for i in range(len(frames.texts))]
        _curves(rows[1], frames, colors)
        _events(rows[2], frames, events, colors)
        rows[0].set_title(Path(path).name, parse_math=False)
        rows[2].set_xlim(0, frames.begins + frames.seconds)
        rows[2].set_xlabel("time (s)")
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out)


def _spectrogram(axes: Axes, path: str, frames: Frames) -> None:
    image = levels(blocks(path, RATE), RATE, round(frames.seconds * RATE))
    extent = (frames.begins, frames.begins + frames.seconds, 0, ROWS)
    axes.imshow(
        image, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=0, vmax=1,
        interpolation="nearest",
    )  # fmt: skip
    axes.set_yticks([row_of(1000 * tick, RATE) for tick in TICKS], [f"{tick:g}" for tick in TICKS])
    axes.set_ylabel("kHz")


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
