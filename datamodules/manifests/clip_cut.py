"""From a clip and the recording of its audio to a cut."""

from __future__ import annotations

from typing import Any

from lhotse import MonoCut, MultiCut, Recording, SupervisionSegment
from lhotse.cut import Cut

from slap.audio.decoders import ROUNDING
from slap.audio.errors import AudioError
from slap.core.bad_clip import BadClip
from slap.core.segments import cropped, outside, plain
from slap.core.units import Seconds
from slap.datamodules.bad_clips import RowError
from slap.datamodules.manifests.clip import Clip


def checked_cut(clip: Clip, recording: Recording, where: str) -> Cut:
    """Return the cut of a clip, with the custom field `where`.

    Raises:
        RowError: the clip lies outside of its recording, or a segment outside of the clip.
    """
    return cut_at(clip, recording, checked_seconds(clip, recording.duration, where), where)


def cut_at(clip: Clip, recording: Recording, duration: Seconds, where: str) -> Cut:
    """Return the cut of a clip of a known duration, with the custom field `where`."""
    cut = cut_of_clip(clip, recording, duration)
    cut.custom = {"labels": {}, **cut.custom, "where": where}
    return cut


def custom_of(clip: Clip, duration: Seconds, where: str) -> dict[str, Any]:
    """Return the custom fields of the cut that `cut_at` returns."""
    return {"labels": {}, **_stated(clip, duration), "where": where}


def unreadable(clip: Clip, error: AudioError, where: str) -> RowError:
    """Return the error of a clip whose file cannot be read."""
    hint = "; relative paths start from the manifest's folder" if error.reason == "absent" else ""
    return RowError(BadClip(clip.id, error.reason, str(error) + hint, error.file, where))


def checked_seconds(clip: Clip, length: Seconds, where: str) -> Seconds:
    """Return the duration of a clip in a file of a known length.

    Raises:
        RowError: the clip lies outside of its file, or a segment outside of the clip.
    """
    duration, audio = length - clip.start if clip.duration is None else clip.duration, str(clip.audio)
    if duration <= 0 or clip.start + duration > length + ROUNDING:
        detail = (
            f"the clip from {clip.start} to {clip.start + max(duration, 0)} s lies outside of the file, "
            f"which lasts {length:.3f} s; without `duration` a clip goes on to the end"
        )
        raise RowError(BadClip(clip.id, "wrong_duration", detail, audio, where))
    duration = min(duration, length - clip.start)
    if fault := outside(clip.segments or (), duration):
        raise RowError(BadClip(clip.id, "wrong_duration", fault, audio, where))
    return duration


def cut_of_clip(clip: Clip, recording: Recording, duration: Seconds) -> MonoCut | MultiCut:
    """Make the cut of a clip: captions are supervisions, and everything else custom fields.

    Segments end with the clip at the latest; those after it are dropped.
    """
    channels = recording.channel_ids
    kind, channel = (MonoCut, channels[0]) if len(channels) == 1 else (MultiCut, channels)
    supervisions = [
        SupervisionSegment(
            f"{clip.id}-{n}", recording.id, 0.0, duration, channel, text, custom={"field": field} if field else None
        )
        for n, (text, field) in enumerate(zip(clip.captions, clip.fields or [""] * len(clip.captions), strict=True))
    ]
    return kind(clip.id, clip.start, duration, channel, supervisions, None, recording, _stated(clip, duration))


def _stated(clip: Clip, duration: Seconds) -> dict[str, Any]:
    """Return the custom fields that a clip states."""
    tags = {task: list(tags) for task, tags in clip.tags.items()}
    custom = {"labels": dict(clip.labels), "tags": tags, "corpus": clip.corpus, "split": clip.split, "fold": clip.fold}
    custom["origin"] = dict(clip.origin)
    custom["segments"] = None if clip.segments is None else cropped(plain(clip.segments), 0.0, duration)
    custom["choices"] = {task: list(captions) for task, captions in clip.choices.items()}
    return {name: value for name, value in custom.items() if value not in ({}, "", None)}
