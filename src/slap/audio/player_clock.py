"""Audio on the clock of a player: in a video whose audio starts late, silence stands before it.

n samples of a block, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from slap.audio.mixing import Mix
from slap.audio.reader import BLOCK, AudioFile
from slap.audio.resample import samples_in
from slap.core.units import Seconds


def on_clock(
    file: AudioFile,
    rate: int,
    start: Seconds = 0.0,
    end: Seconds | None = None,
    seconds: Seconds = BLOCK,
    mix: Mix | None = None,
) -> Iterator[np.ndarray]:
    """Yield the audio between two times on a player's clock in consecutive blocks, (n_i,) or (C, n_i) float32.

    Args:
        file: an open file.
        rate: of the blocks, Hz.
        start: of the segment on the clock; what lies before the first sample of the file is one block of zeros.
        end: likewise; None is the end of the file.
        seconds: length of a block.
        mix: as in `AudioFile.blocks`.

    Raises:
        AudioError: as `AudioFile.blocks`.
    """
    first = max(start, file.begins)
    lead = (first if end is None else min(first, end)) - start
    if lead > 0:
        channels = () if mix is None else (file.header.channels,)
        yield np.zeros((*channels, samples_in(lead, rate)), np.float32)
    if end is None or end > first:
        duration = None if end is None else end - first
        yield from file.blocks(rate, first - file.begins, duration, seconds, mix)
