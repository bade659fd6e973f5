"""The memory that a clip takes when it is loaded, reckoned from its record before anything is read.

A clip that is a segment of one file is weighed by the header of the file (`slap.audio.reader.AudioFile.check_size`).
Mixes, several sources and transforms are weighed here: the record alone says how far apart the tracks of a mix lie, and
to which rates and speeds samples are brought in between.
"""

from __future__ import annotations

from lhotse import MonoCut, MultiCut, Recording
from lhotse.augmentation import AudioTransform, Resample, Speed, Tempo
from lhotse.cut import Cut, MixedCut

from slap.audio.reader import COPIES, AudioError
from slap.core.units import Seconds


def refuse_heavy(cut: Cut, largest: int) -> None:
    """Refuse a clip that takes too much memory to be loaded.

    Args:
        cut: the clip, a mix or not.
        largest: bytes that it may take.

    Raises:
        AudioError: it takes more.
    """
    # Measured: 3.3 times the samples as float32 for mixes and changes of speed of one to two hours.
    needed = 4 * COPIES * samples_of(cut)
    if not needed <= largest:
        raise AudioError(
            f"clip {cut.id!r}, {cut.duration:.1f} s with its mixes and transforms, takes {needed / 2**20:.0f} MB, but "
            f"only {largest / 2**20:.0f} MB are allowed",
            "too_large",
        )


def samples_of(cut: Cut) -> float:
    """Return the largest number of samples that loading a clip makes, of all tracks and channels together."""
    if isinstance(cut, MixedCut):
        return max(cut.duration * cut.sampling_rate, sum(samples_of(track.cut) for track in cut.tracks))
    if isinstance(cut, MonoCut | MultiCut) and cut.recording is not None:
        return _most(cut.recording, cut.duration)
    return float(max(cut.duration * cut.sampling_rate, cut.num_samples or 0))  # padding


def _most(recording: Recording, seconds: Seconds) -> float:
    """Return the largest number of samples of a segment before, between and after the transforms of a recording."""
    samples = seconds * recording.sampling_rate
    most = samples
    for transform in reversed(recording.transforms or []):
        samples /= growth(transform)
        most = max(most, samples)
    return most * max(recording.num_channels, 1)


def growth(transform: AudioTransform) -> float:
    """Return the number of samples that a transform makes of one."""
    if isinstance(transform, Resample):
        return float(transform.target_sampling_rate / transform.source_sampling_rate)
    return 1 / float(transform.factor) if isinstance(transform, Speed | Tempo) else 1.0
