"""The figure of the rooms: an SVG in which each layer of the package is a row, and each room a box."""

from __future__ import annotations

import importlib
from html import escape

WIDTH, ROW, GAP, MARGIN = 760, 62, 12, 16
COLORS = ("#e8f0fe", "#e6f4ea", "#fef7e0", "#fce8e6", "#f3e8fd")
PLUGINS = ("encoders", "objectives", "datamodules", "recipes")


def rooms_figure(layers: list[list[str]]) -> str:
    """Return the figure.

    Args:
        layers: names of the rooms of each layer, the highest first.
    """
    height = 2 * MARGIN + len(layers) * ROW + (len(layers) - 1) * GAP + 26
    boxes = [box for i, rooms in enumerate(layers) for box in row(rooms, MARGIN + i * (ROW + GAP))]
    note = "Each room may import the rooms in the rows below it. Dashed: folders of plug-ins."
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
            'font-family="system-ui, sans-serif">',
            "<title>The rooms of the package, from the top layer down</title>",
            f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#ffffff"/>',
            *boxes,
            f'<text x="{WIDTH / 2}" y="{height - 12}" font-size="13" fill="#5f6368" text-anchor="middle">{note}</text>',
            "</svg>\n",
        ]
    )


def row(rooms: list[str], top: int) -> list[str]:
    """Return the boxes of one layer."""
    width = (WIDTH - 2 * MARGIN - GAP * (len(rooms) - 1)) / len(rooms)
    return [box(room, MARGIN + i * (width + GAP), top, width) for i, room in enumerate(rooms)]


def box(room: str, left: float, top: int, width: float) -> str:
    """Return one room: its name, and the beginning of its docstring as far as it fits."""
    color = COLORS[sum(map(ord, room)) % len(COLORS)]
    dash = ' stroke-dasharray="5 3"' if room in PLUGINS else ""
    return (
        f'<rect x="{left:.0f}" y="{top}" width="{width:.0f}" height="{ROW}" rx="7" fill="{color}" stroke="#5f6368"{dash}/>'
        f'<text x="{left + width / 2:.0f}" y="{top + 25}" font-size="16" font-weight="600" fill="#202124" '
        f'text-anchor="middle">{room}</text>'
        f'<text x="{left + width / 2:.0f}" y="{top + 46}" font-size="12" fill="#3c4043" '
        f'text-anchor="middle">{escape(about(room, int(width / 6.4)))}</text>'
    )


def about(room: str, characters: int) -> str:
    """Return the first sentence of a room's docstring, cut to a number of characters at a word."""
    line = (importlib.import_module(f"slap.{room}").__doc__ or "").strip().splitlines()[0].rstrip(".:")
    if len(line) <= characters:
        return line
    return line[: characters - 1].rpartition(" ")[0].rstrip(",:") + " …"
