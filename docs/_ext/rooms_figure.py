"""The figure of the rooms: an SVG in which each layer of the package is a row, and each room a box."""

from __future__ import annotations

import importlib
import textwrap
from html import escape

WIDTH, GAP, MARGIN, LINE = 760, 12, 16, 17
PLUGINS = ("encoders", "objectives", "datamodules", "recipes")
COLORS = {True: "#e6f4ea", False: "#e8f0fe"}
"""Fill of the boxes, by whether the room is a folder of plug-ins."""

CHARACTER = 6.3
"""Pixels per character of the small text, on average."""


def rooms_figure(layers: list[list[str]]) -> str:
    """Return the figure.

    Args:
        layers: names of the rooms of each layer, the highest first.
    """
    boxes: list[str] = []
    top = MARGIN
    for rooms in layers:
        drawn, bottom = row(rooms, top)
        boxes += drawn
        top = bottom + GAP
    height = top + 26
    note = "Each room may import the rooms in the rows below it. Green and dashed: folders of plug-ins."
    canvas = f'viewBox="0 0 {WIDTH} {height}" role="img" font-family="system-ui, sans-serif"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {canvas}>',
            "<title>The rooms of the package, from the top layer down</title>",
            f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#ffffff"/>',
            *boxes,
            text(note, WIDTH / 2, height - 12, 13, "#5f6368"),
            "</svg>\n",
        ]
    )


def row(rooms: list[str], top: int) -> tuple[list[str], int]:
    """Return the boxes of one layer, and where they end."""
    width = (WIDTH - 2 * MARGIN - GAP * (len(rooms) - 1)) / len(rooms)
    lines = [textwrap.wrap(about(room), int((width - 12) / CHARACTER)) for room in rooms]
    height = 38 + LINE * max(map(len, lines))
    boxes = [box(room, MARGIN + i * (width + GAP), top, width, height, lines[i]) for i, room in enumerate(rooms)]
    return boxes, top + height


def box(room: str, left: float, top: int, width: float, height: int, lines: list[str]) -> str:
    """Return one room: its name, and the lines below it."""
    is_plugin = room in PLUGINS
    dash = ' stroke-dasharray="5 3"' if is_plugin else ""
    shape = f'<rect x="{left:.0f}" y="{top}" width="{width:.0f}" height="{height}" rx="7" fill="{COLORS[is_plugin]}"'
    center = left + width / 2
    return "".join(
        [
            f'{shape} stroke="#5f6368"{dash}/>',
            text(room, center, top + 23, 16, "#202124", "600"),
            *(text(line, center, top + 43 + LINE * i, 12, "#3c4043") for i, line in enumerate(lines)),
        ]
    )


def text(content: str, x: float, y: float, size: int, color: str, weight: str = "400") -> str:
    """Return a line of text, centered at x."""
    style = f'font-size="{size}" font-weight="{weight}" fill="{color}" text-anchor="middle"'
    return f'<text x="{x:.0f}" y="{y}" {style}>{escape(content)}</text>'


def about(room: str) -> str:
    """Return the first sentence of a room's docstring."""
    first_line = (importlib.import_module(f"slap.{room}").__doc__ or "").strip().splitlines()[0]
    return first_line.split(". ")[0].rstrip(".:").replace("`", "")
