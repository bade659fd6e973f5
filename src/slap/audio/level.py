"""Level of a recording, by which silence is found: the same in training and in use.

n samples of a block.

A recording is silent (our choice) if its level is below -70 dBFS: nothing that a person hears beside sound at usual
levels. Dither and the residue of channels that cancel lie below -84 dBFS; the softest of 7,800 real clips of ESC-50,
UrbanSound8K, Speech Commands, RAVDESS and FSDD has -56 dBFS. The level is half of the difference between the largest
and the smallest sample, so that a constant offset, which is not heard, does not count.
"""

from __future__ import annotations

from math import inf, log10

import numpy as np
from numpy.typing import ArrayLike

SILENT = -70.0
"""dBFS below which a recording is silent."""


class Level:
    """The level of samples that come in blocks; it does not depend on the blocks.

    Example:
        >>> Level().add([0.5, -0.5]).dbfs, Level().add([0.0] * 8).silent
        (-6.020599913279624, True)
    """

    def __init__(self) -> None:
        self._low, self._high = inf, -inf

    def add(self, samples: ArrayLike) -> Level:
        """Take (n,) more samples into account, and return this object."""
        found = np.asarray(samples)
        low, high = found.min(), found.max()
        self._low, self._high = min(self._low, float(low)), max(self._high, float(high))
        return self

    @property
    def dbfs(self) -> float:
        """DB relative to a sine of full scale; minus infinity for no sound at all."""
        peak = (self._high - self._low) / 2
        return 20 * log10(peak) if peak > 0 else -inf

    @property
    def silent(self) -> bool:
        """True if the samples so far are silent."""
        return self.dbfs < SILENT

    def __str__(self) -> str:
        """Return the level as text."""
        return "digital silence" if self.dbfs == -inf else f"{self.dbfs:.0f} dBFS"
