"""The short way to the samples of a usual clip.

Lhotse copies the objects of a clip several times, for what it could be beside a stretch of one file. That takes longer
than to read a short clip.
"""

from __future__ import annotations

from math import isclose

import numpy as np
from lhotse import AudioSource, MonoCut
from lhotse.audio.recording import assert_and_maybe_fix_num_samples
from lhotse.augmentation import Resample
from lhotse.cut import Cut

from slap.datamodules.audio.decode import LARGEST, checked_source
from slap.datamodules.audio.tar_member import TarMember


def load_simple_cut(cut: Cut, largest: int = LARGEST) -> np.ndarray | None:
    """What `slap.datamodules.audio.decode.checked(cut, largest).load_audio()` gives, in less time.

    Usual is one file, or one member of a tar file, of one channel, perhaps resampled.

    Returns:
        (1, T) float32; None for any other clip.

    Raises:
        FileError: see `slap.core.bad_clip.Reason`.
    """
    if not isinstance(cut, MonoCut) or cut.recording is None:
        return None
    recording, transforms = cut.recording, cut.recording.transforms or []
    (source, *others) = recording.sources
    usual = type(source) in (AudioSource, TarMember) and source.channels == [cut.channel] and not source.has_video
    if others or not usual or len(transforms) > 1 or not all(type(change) is Resample for change in transforms):
        return None
    if cut.start > recording.duration:
        return None  # Lhotse has an error for it
    # From here on it is Recording.load_audio, with what cannot be left out.
    offset, duration = cut.start, cut.duration
    reach = None if isclose(duration, recording.duration, abs_tol=1e-3) else duration
    for change in transforms:
        offset, reach = change.reverse_timestamps(offset, reach, recording.sampling_rate)
    samples = checked_source(source, recording, largest).load_audio(offset, reach)
    for change in transforms:
        samples = change(samples, recording.sampling_rate)
    if samples.shape[1] == cut.num_samples:
        return samples
    fixed: np.ndarray = assert_and_maybe_fix_num_samples(samples, cut.start, duration, recording)
    return fixed
