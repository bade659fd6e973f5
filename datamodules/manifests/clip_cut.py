"""From a clip and the recording of its audio to a cut."""

from __future__ import annotations

from lhotse import MonoCut, MultiCut, Recording, SupervisionSegment
from lhotse.cut import Cut

from slap.audio.decoders import ROUNDING
from slap.audio.errors import AudioError
from slap.core.bad_clip import BadClip
from slap.core.segments import cropped, outside, plain
from slap.core.units import Seconds
from slap.datamodules.bad_clips import RowError
from slap.datamodules.manifests.clip import Clip


def checked_cut(clip: Clip, recording: Recording | AudioError, where: str) -> Cut:
    """Return the cut of a clip.

    Raises:
        RowError: its recording cannot be read, the clip lies outside of it, or a segment outside of the clip.
    """
    if isinstance(recording, AudioError):
        hint = "; relative paths start from the manifest's folder" if recording.reason == "absent" else ""
        raise RowError(BadClip(clip.id, recording.reason, str(recording) + hint, recording.file, where))
    duration = recording.duration - clip.start if clip.duration is None else clip.duration
    if duration <= 0 or clip.start + duration > recording.duration + ROUNDING:
        detail = (
            f"the clip from {clip.start} to {clip.start + max(duration, 0)} s lies outside of the file, "
            f"which lasts {recording.duration:.3f} s; without `duration` a clip goes on to the end"
        )
        raise RowError(BadClip(clip.id, "wrong_duration", detail, recording.id, where))
    duration = min(duration, recording.duration - clip.start)
    if fault := outside(clip.segments or (), duration):
        raise RowError(BadClip(clip.id, "wrong_duration", fault, recording.id, where))
    cut = cut_of_clip(clip, recording, duration)
    cut.custom = {"labels": {}, **cut.custom, "where": where}
    return cut


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
    tags = {task: list(tags) for task, tags in clip.tags.items()}
    custom = {"labels": dict(clip.labels), "tags": tags, "corpus": clip.corpus, "split": clip.split, "fold": clip.fold}
    custom["origin"] = dict(clip.origin)
    custom["segments"] = None if clip.segments is None else cropped(plain(clip.segments), 0.0, duration)
    custom["choices"] = {task: list(captions) for task, captions in clip.choices.items()}
    stated = {name: value for name, value in custom.items() if value not in ({}, "", None)}
    return kind(clip.id, clip.start, duration, channel, supervisions, None, recording, stated)
