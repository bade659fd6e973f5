"""Windows of clips that are longer than a model takes: cutting, and joining again.

B clips, W windows of all clips, N rows (samples, frames or patches), P coordinates of a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, groupby
from math import ceil

import torch
from torch import Tensor

from slap.core.packed import Layout, Packed

WINDOWS = "windows"
"""Key of the windows' layout among the plans of the clips' layout."""


@dataclass(frozen=True)
class Cut:
    """The places of the windows of a batch.

    Attributes:
        counts: number of windows of each clip.
        starts: start of each window within its clip, in steps.
    """

    counts: tuple[int, ...]
    starts: tuple[int, ...]


def cut(items: Packed, longest: int, step: int = 1) -> tuple[Packed, Cut]:
    """Cut items that are too long into as few windows as possible, of one length but for the last.

    Args:
        items: packed, N rows, no item empty.
        longest: maximal number of rows per window.
        step: rows per step; windows begin at multiples of it.

    Returns:
        The windows as items of the same values, and their places.

    Example:
        >>> windows, places = cut(Packed.pack([torch.arange(7.0), torch.arange(2.0)]), longest=4)
        >>> windows.sizes, places.counts, places.starts
        ((4, 3, 2), (2, 1), (0, 4, 0))
    """
    sizes, counts, starts = [], [], []
    for size in items.sizes:
        count = 1 if size <= longest else ceil(size / (longest // step * step))
        length = size if count == 1 else ceil(size / count / step) * step
        begins = range(0, size, length)
        sizes += [min(length, size - begin) for begin in begins]
        starts += [begin // step for begin in begins]
        counts.append(len(begins))
    layout = _layout(sizes, items.lengths.device)
    return Packed(items.values, layout.lengths, items.positions, layout), Cut(tuple(counts), tuple(starts))


def join(windows: Packed, places: Cut) -> Packed:
    """Join the windows of each clip.

    Args:
        windows: W windows, packed, with positions (N, P) within the window; the first position counts steps of time.
        places: from `cut`.

    Returns:
        Clips, with positions (N, P + 1): the first counts from the start of the clip, the last is the window.
    """
    assert windows.positions is not None
    device = windows.lengths.device
    number = torch.cat([torch.arange(count) for count in places.counts]).to(device, non_blocking=True)
    starts = torch.tensor(places.starts).to(device, non_blocking=True)
    time = windows.positions[:, :1] + starts[windows.item, None]
    positions = torch.cat([time, windows.positions[:, 1:], number[windows.item, None]], 1)
    ends = accumulate(places.counts)
    sizes = [sum(windows.sizes[end - count : end]) for end, count in zip(ends, places.counts, strict=True)]
    layout = _layout(sizes, device)
    layout.plans[WINDOWS] = windows.layout
    return Packed(windows.values, layout.lengths, positions, layout)


def windows_of(patches: Packed) -> Layout:
    """Return the layout of the windows that `join` joined."""
    if WINDOWS not in patches.layout.plans:  # the layout is a new one, e.g. after a move to another device
        assert patches.positions is not None
        numbers = patches.positions[:, -1].split(patches.sizes)
        sizes = [len(list(rows)) for clip in numbers for _, rows in groupby(clip.tolist())]
        patches.layout.plans[WINDOWS] = _layout(sizes, patches.lengths.device)
    layout: Layout = patches.layout.plans[WINDOWS]
    return layout


def padded(items: Packed, length: int, fill: float = 0.0) -> Tensor:
    """Pad packed items, (N, ...) -> (B, length, ...), with `fill` after their end."""
    batch = items.values.new_full((len(items), length, *items.values.shape[1:]), fill)
    batch[items.item, items.index] = items.values
    return batch


def _layout(sizes: list[int], device: torch.device) -> Layout:
    lengths = torch.tensor(sizes, dtype=torch.int32).to(device, non_blocking=True)
    return Layout(lengths, tuple(sizes))
