"""The clips and captions that encoders and training steps are measured on: the same for every benchmark.

Durations are log-normal, exp(N(1.6, 0.8)) seconds, cut to 0.5-30 s: half of them are below 5 s, the mean is near 6.7 s,
and padding to the longest of a batch would compute several times what is there. The audio is noise, since no encoder
here takes longer or shorter for what it hears.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

RATE = 16_000
"""Hz."""

SHORTEST, LONGEST = 0.5, 30.0
"""Seconds."""

WORDS = "a dog rain on car engine bird two people talk while music plays far away and water runs door closes"
"""What captions are drawn from."""


def durations(count: int, seed: int = 0) -> list[float]:
    """Seconds of each of so many clips; equal seeds give equal ones."""
    drawn = torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (1.6 + 0.8 * drawn).exp().clamp(SHORTEST, LONGEST).tolist()


def durations_of(seconds: float, seed: int = 0) -> list[float]:
    """Return durations of clips that sum to about a budget, never more; at least one clip.

    Args:
        seconds: the budget, in seconds.
        seed: the seed of `durations`.
    """
    chosen: list[float] = []
    for one in durations(max(16, int(seconds)), seed):
        if chosen and sum(chosen) + one > seconds:
            break
        chosen.append(one)
    return chosen


def waveforms(lengths: Sequence[float], rate: int = RATE, seed: int = 0) -> list[Tensor]:
    """Make a waveform, (T_i,) float32, for each duration in seconds."""
    generator = torch.Generator().manual_seed(seed)
    return [0.1 * torch.randn(max(1, round(one * rate)), generator=generator) for one in lengths]


def captions(count: int, seed: int = 0) -> list[str]:
    """Make a number of captions of 6 to 16 words."""
    generator = torch.Generator().manual_seed(seed)
    words = WORDS.split()
    sizes = torch.randint(6, 17, (count,), generator=generator).tolist()
    return [" ".join(words[i] for i in torch.randint(len(words), (n,), generator=generator).tolist()) for n in sizes]
