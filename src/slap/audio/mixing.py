"""From the channels of a recording to one: their mean, or the loudest of them where the mean would cancel them.

n frames, C channels.

The rule (our choice) is one for training and use. Samples are the mean of the channels, so a sound in one of the six
channels of 5.1 is 15.6 dB softer than the same sound in all of them; nothing else is done about levels. Where channels
cancel each other, such as stereo of opposite phase, the mean is silence or a residue although the recording is loud:
then the loudest channel is taken for the whole segment that is read.

The first 30 seconds of the segment, from the first frame in which anything is heard, decide: channels cancel if the
power of their sum is below 1 % of the sum of their powers (independent channels, or sound in one of them: 100 %). So
the result depends on the samples of the segment alone, not on the blocks in which they come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import numpy as np

from slap.audio.level import SILENT
from slap.core.units import Seconds

CANCELLED = 0.01
"""The power of the sum over the sum of the powers below which channels cancel."""

DECIDING: Seconds = 30.0
"""Length of what decides."""

MOST_HELD = 1 << 26
"""Bytes of what decides, at most: a file may have hundreds of channels at a rate of radio."""

HEARD = 10 ** (SILENT / 20)
"""The sample above which a frame is heard."""

PIECE = 4096
"""Frames that are looked at together for the first one that is heard."""

Mix = Callable[[np.ndarray], np.ndarray]
"""From a block, (n, C) float32, to the samples to use, (n,) or (C, n)."""


def mixed(blocks: Iterable[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    """Yield the one channel, (n_i,) float32, of a segment that comes in blocks, (n_i, C) float32.

    Blocks are held back until there is enough to decide.

    Args:
        blocks: consecutive frames of the segment, of one number of channels.
        rate: Hz.
    """
    rest = iter(blocks)
    for block in rest:
        if block.shape[1] == 1 or (lead := first_heard(block)) == len(block):
            yield average(block)
            continue
        stop = lead + min(round(DECIDING * rate), MOST_HELD // (4 * block.shape[1]))
        frames, rest = _first(block, rest, stop)
        samples = average(frames)
        channel = _loudest(frames[lead:stop], samples[lead:stop])
        if channel is not None:
            samples[lead:] = frames[lead:, channel]
        for start in range(0, len(samples), len(block)):
            yield samples[start : start + len(block)]
        for part in rest:
            yield average(part) if channel is None else np.ascontiguousarray(part[:, channel])
        return


def mix(frames: np.ndarray, rate: int) -> np.ndarray:
    """Return the one channel, (n,), of a whole segment, (n, C) float32; see `mixed`."""
    return np.concatenate(list(mixed([frames], rate)))


def average(block: np.ndarray) -> np.ndarray:
    """Return the mean of the channels, (n,), of a block, (n, C) float32."""
    channels = block.shape[1]
    if channels == 1:
        return block[:, 0]
    mean: np.ndarray = block[:, 0] + block[:, 1]
    for channel in range(2, channels):
        mean += block[:, channel]
    mean /= channels
    return mean


def first_heard(block: np.ndarray) -> int:
    """Return the number of the first frame of a block, (n, C), in which anything is heard; n if there is none."""
    for start in range(0, len(block), PIECE):
        loud = np.abs(block[start : start + PIECE].reshape(-1)) > HEARD
        first = int(loud.argmax())
        if loud[first]:
            return start + first // block.shape[1]
    return len(block)


def _first(block: np.ndarray, rest: Iterator[np.ndarray], count: int) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """Return a block and of the next ones as much as makes a number of frames, and the blocks after that."""
    held, missing = [block], count - len(block)
    while missing > 0 and (following := next(rest, None)) is not None:
        held.append(following[:missing])
        if len(following) > missing:
            rest = chain([following[missing:]], rest)
        missing -= len(following)
    return (block if len(held) == 1 else np.concatenate(held)), rest


def _loudest(frames: np.ndarray, mean: np.ndarray) -> int | None:
    """Return the loudest channel of frames, (n, C), that cancel in their mean, (n,); None if they do not."""
    together, apart = frames.shape[1] ** 2 * float(mean @ mean), float(np.vdot(frames, frames))
    if not together < CANCELLED * apart:  # NaN, too, is for the mean to show
        return None
    return int(np.square(frames, dtype=np.float64).sum(0).argmax())
