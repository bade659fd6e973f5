"""Time per second of audio in a long clip and in short ones, with local and with global attention.

    python benchmarks/long_clips.py --update

It runs one block of each kind of the encoder `base` without gradient, on a clip of ten minutes and on as much audio in
clips of 10 s.
"""

from __future__ import annotations

import argparse

import flops
import torch
from rows import Row, add_options, finish
from timing import Turns

from slap.core.packed import Layout
from slap.encoders.sizes import SIZES
from slap.nn.layers import Block, rotary

ABOUT = """`python benchmarks/long_clips.py`: one block of the encoder `base`, with local attention (24 patches) and
with global, on one clip of ten minutes beside 60 clips of 10 s: milliseconds a second of audio."""

RATE = 25
"""Patches a second."""


def layout_of(sizes: list[int]) -> Layout:
    """Return the layout of clips with these numbers of patches."""
    return Layout(torch.tensor(sizes, dtype=torch.int32), tuple(sizes))


def run(options: argparse.Namespace) -> list[Row]:
    """Measure; the rows of the table."""
    shape, turns, rows = SIZES["base"], Turns(options.clock), []
    count = options.minutes * 6
    layouts = {"short": layout_of([10 * RATE] * count), "long": layout_of([10 * RATE * count])}
    x = torch.randn(layouts["long"].total, shape.width)
    for kind, window in (("local", 24), ("global", None)):
        block = Block(shape.width, shape.heads, shape.hidden, window).requires_grad_(False)
        for _ in range(options.turns):
            for name, layout in layouts.items():
                rotation = rotary(torch.stack([layout.index, layout.index % 4], 1), shape.width // shape.heads)
                layout.plans.clear()  # which are made anew for each batch
                with torch.no_grad():
                    turns.take(f"{kind}, {name}", lambda: block(x, layout, rotation))  # noqa: B023 - called at once
        short, long = (1000 * turns.median(f"{kind}, {name}") / (10 * count) for name in layouts)
        at_most = 1.5 if kind == "local" else None
        what = f"{kind} block, {options.minutes} minutes against 10 s"
        rows.append(Row(what, "ms/audio s", short, long, long / short, at_most=at_most))
    work = [flops.pairs(layout.sizes, None) for layout in layouts.values()]
    rows.append(Row("pairs of patches that a global block compares, likewise", "million", *(n / 1e6 for n in work)))
    return rows


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("--minutes", type=int, default=10, help="of the long clip (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=2, help="(default: %(default)s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    configure(parser)
    add_options(parser)
    finish("long_clips", "Long clips", ABOUT, run, parser.parse_args())


if __name__ == "__main__":
    main()
