"""What resampling costs before anything is allocated: rates of files and manifests are whatever somebody wrote there.

The filter of two rates has a row for each sample of the new rate in their common period: 160 for 44.1 kHz to 16 kHz,
but 16,000 for 44,101 Hz, whose 700 million numbers take gigabytes.
"""

from __future__ import annotations

from math import ceil, gcd

from lhotse import Recording
from lhotse.augmentation import Resample, Speed
from lhotse.augmentation import torchaudio as lhotse_resampling

from slap.audio.header import FileError

WIDTH, ROLLOFF = 6, 0.99
"""Of Lhotse's filter: zero crossings, and the share of the band that it keeps."""

MAKING = 9
"""Making a filter takes about so many times what it takes as float32. Measured: 8.3 times."""

KEPT = 1 << 28
"""Bytes of the filters that a process keeps; Lhotse keeps all of them, as many as there are pairs of rates."""


def filter_bytes(rate: int, wanted: int) -> int:
    """What the filter from one rate, in Hz, to another takes as float32."""
    shared = gcd(rate, wanted)
    period, produced = rate // shared, wanted // shared
    if period == produced:
        return 0
    width = ceil(WIDTH * period / (min(period, produced) * ROLLOFF))
    return 4 * produced * (2 * width + period)


def check_resampling(rate: int, wanted: int, largest: int, name: str) -> None:
    """Refuse two rates whose filter would take more memory than reading a clip may.

    Args:
        rate: Hz, of what is read.
        wanted: Hz.
        largest: bytes that reading a clip may take.
        name: of the file, for the message.

    Raises:
        FileError: it would.
    """
    needed = MAKING * filter_bytes(rate, wanted)
    if needed > largest:
        raise FileError(
            f"resampling from {rate} to {wanted} Hz, which have little in common, takes {needed >> 20} MB, but only "
            f"{largest >> 20} MB are allowed",
            "wrong_rate",
            name,
        )


def check_transforms(recording: Recording, largest: int, name: str) -> None:
    """The same for all that a recording asks for.

    Raises:
        FileError: one of its transforms would take too much.
    """
    for transform in recording.transforms or []:
        if isinstance(transform, Resample):
            check_resampling(transform.source_sampling_rate, transform.target_sampling_rate, largest, name)
        elif isinstance(transform, Speed):
            rate = recording.sampling_rate
            check_resampling(max(round(rate * transform.factor), 1), rate, largest, name)


def forget_filters() -> None:
    """Forget Lhotse's filters where they take more than `KEPT`."""
    known = lhotse_resampling._precompiled_resamplers
    if len(known) > 1 and sum(filter_bytes(*rates) for rates in known) > KEPT:
        known.clear()
