"""Bad clips: a data module leaves out a clip that cannot be used, and records it, instead of stopping the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from slap.core.errors import UserError

BAD_CLIPS = "bad_clips.jsonl"
"""Name of the file in a run's folder that lists bad clips."""

Reason = Literal[
    "absent",  # there is no such file
    "unreadable",  # it cannot be opened as audio, or decoded
    "truncated",  # it ends, or its data breaks off, before the end that its header declares
    "empty",  # it holds no samples
    "not_finite",  # NaN, infinity, or values beyond what any format's scale explains
    "silent",  # nothing is heard in the whole clip: its level is below that of `slap.audio.level`
    "wrong_duration",  # its duration is not that of the manifest, or the clip lies outside of it
    "wrong_rate",  # no recording has such a sample rate, or resampling from it takes too much memory
    "too_large",  # its header declares more than may be decoded at once
    "caption",  # a caption is empty or no text, see `slap.datamodules.captions.validate`
]
REASONS: tuple[Reason, ...] = get_args(Reason)


@dataclass(frozen=True)
class BadClip:
    """A clip that was left out.

    Args:
        id: id of the clip; empty where its row has none.
        reason: one of `REASONS`.
        detail: the fault in words.
        file: the audio file; empty if there is none.
        where: file and line of the manifest.

    Raises:
        ValueError: there is no such reason.
    """

    id: str
    reason: Reason
    detail: str
    file: str = ""
    where: str = ""

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise UserError(f"{self.reason!r} is no reason to leave a clip out; valid are: {', '.join(REASONS)}")
