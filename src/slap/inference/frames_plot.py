"""The plot of a recording: its spectrogram, the similarity of texts over time, the events, and those that are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from slap.audio.reader import blocks
from slap.core.segments import Segment
from slap.inference.frames import Event, Frames
from slap.inference.spectrogram import ROWS, levels, row_of

RATE = 16_000
"""Sample rate of the spectrogram, Hz."""

TICKS = (0, 0.5, 1, 2, 4, 8)
"""Frequencies beside the spectrogram, kHz."""


def draw(path: str, frames: Frames, events: Sequence[Event], out: Path, known: Sequence[Segment] = ()) -> None:
    """Write the plot.

    Args:
        path: the recording.
        frames: similarity of texts to it.
        events: events that were found.
        out: file to write; its ending says the format, e.g. .png.
        known: segments that are known to be so, seconds from the begin of the recording; outlined, those of other
            phrases than the texts in rows of their own.
    """
    rows = list(dict.fromkeys([*frames.texts, *(segment.text for segment in known)]))
    with mpl.rc_context({"font.family": "sans-serif", "font.size": 9, "savefig.dpi": 150}):
        figure = Figure(figsize=(10, 2.2 + 2.2 + 0.28 * len(rows) + 0.6), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(3, 1, sharex=True, height_ratios=[2.2, 2.2, 0.28 * len(rows) + 0.3])
        _spectrogram(axes[0], path, frames)
        colors = [f"C{i % 10}" for i in range(len(rows))]
        _curves(axes[1], frames, colors)
        _events(axes[2], rows, events, colors)
        for segment in known:
            span = [(frames.begins + segment.start, segment.end - segment.start)]
            axes[2].broken_barh(span, (rows.index(segment.text) - 0.45, 0.9), facecolors="none", edgecolors="black")
        axes[0].set_title(Path(path).name, parse_math=False)
        axes[2].set_xlim(0, frames.begins + frames.seconds)
        axes[2].set_xlabel("time (s)")
        axes[2].set_ylabel("events\n(outlined: known)" if known else "events")
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


def _events(axes: Axes, rows: Sequence[str], events: Sequence[Event], colors: list[str]) -> None:
    for event in events:
        i = rows.index(event.text)
        axes.broken_barh([(event.onset, event.offset - event.onset)], (i - 0.35, 0.7), color=colors[i])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [text.replace("$", r"\$") for text in rows])
    for label, color in zip(axes.get_yticklabels(), colors, strict=True):  # the legend of the curves, too
        label.set_color(color)
