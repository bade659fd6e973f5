"""Readers of Lhotse cuts that run none of the commands in them.

Lhotse executes a recording source of type `command`, and opens paths like `pipe:...` through a shell. A manifest may
come from anywhere, so every source that is not a plain file is refused before Lhotse sees it.

Custom fields that are kept, all optional: `labels` {task: label} and `tags` {task: [label, ...]} for the zero-shot
tasks, `choices` {task: [caption, ...]}, see `slap.datamodules.manifests.choices`, `corpus`, `split`, `fold`, `origin`
{site: id}, the source of the audio, and `segments`, phrases with the time in which each is heard, see
`slap.core.segments`. A supervision keeps `field`, the field of the corpus that its caption is from. Other custom fields
are dropped, since they may hold audio sources too.

A supervision with the custom field `segment` set to true is no caption but a segment: its text is the phrase, and its
start and duration say when it is heard. All others are captions of the whole cut, whatever their times. The segments of
a mix are those of its tracks, later by the tracks' offsets.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from lhotse import Recording, SupervisionSegment
from lhotse.cut import Cut, MixedCut, MonoCut, MultiCut, PaddingCut
from lhotse.cut.set import deserialize_cut
from lhotse.utils import fastcopy

from slap.audio.decoders import RATES
from slap.core.segments import FORM, cropped, fault_of, outside, plain, shifted
from slap.datamodules.audio.stored import StoredAudio
from slap.datamodules.captions.validate import NO_TEXT, quoted
from slap.datamodules.manifests.choices import WANTED, are_choices
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.data_root import refuse_elsewhere
from slap.datamodules.manifests.lines import Record
from slap.datamodules.remote.address import masked

NO_CUT = (AssertionError, AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError)
"""The errors that Lhotse raises for a record that is no cut."""

LONGEST = 1e9
"""Largest duration, seconds: thirty years. Beyond it, numbers of samples would lose their last digits."""

SOURCES = ("file", "memory")
FIELDS = {
    "labels": (lambda value: _texts(value, str), "map tasks to texts"),
    "tags": (lambda value: _texts(value, list), "map tasks to lists of texts"),
    "choices": (are_choices, WANTED.removeprefix("must ")),
    "corpus": (lambda value: isinstance(value, str), "be text"),
    "split": (lambda value: isinstance(value, str), "be text"),
    "fold": (lambda value: isinstance(value, int), "be a whole number"),
    "origin": (lambda value: _texts(value, str), "map sites to ids"),
    "segments": (lambda value: not fault_of(value), f"be a list of {FORM}"),
}
"""The custom fields that are kept: a check of the value, and the words for a message."""

SEGMENT = "segment"
"""The custom field of a supervision that is a segment."""

KEPT_OF_CAPTIONS = ("field", SEGMENT)
CUTS = ("MonoCut", "MultiCut", "MixedCut")


def is_cut(record: Record) -> bool:
    """Return True if a JSON object is one of Lhotse's cuts, not an `audio, caption` record."""
    return "type" in record and ("recording" in record or "tracks" in record)


def cut_of(
    record: Record,
    folder: Path,
    where: str,
    roots: Sequence[str] = (),
    dropped: dict[str, None] | None = None,
    captioned: bool = True,
) -> Cut:
    """Return the cut that a record describes, its paths resolved, with captions as the texts of its supervisions.

    Its files need not exist; they are opened when the clip is loaded.

    Args:
        record: JSON object of the cut; it is modified.
        folder: folder from which relative paths start.
        where: file and line, for messages.
        roots: folders below which its files must lie, if any; see `slap.datamodules.manifests.data_root`.
        dropped: gets the names of its custom fields that are dropped.
        captioned: refuse a cut without captions.

    Raises:
        ManifestError: the cut has no audio or no caption, a field has the wrong type, or a source is not allowed.
    """
    if record.get("type") not in CUTS:
        raise ManifestError(f"{where}: a cut of type {record.get('type')!r}; accepted are {', '.join(CUTS)}")
    try:
        refuse_commands(record, where)
        if dropped is not None:
            dropped |= dict.fromkeys(name for name in record.get("custom") or () if name not in FIELDS)
        strip(record)
        cut = with_segments_gathered(deserialize_cut(record), where)
        check_cut(cut, where, captioned)
        return _resolved(cut, str(folder), where, roots)
    except ManifestError:
        raise
    except NO_CUT as error:
        raise ManifestError(f"{where}: this is not a Lhotse cut: {type(error).__name__}: {error}") from error


def check_cut(cut: Cut, where: str, captioned: bool = True) -> None:
    """Refuse a cut that training could not use.

    Args:
        cut: cut to check.
        where: file and line, for messages.
        captioned: refuse a cut without captions.

    Raises:
        ManifestError: the cut has no audio, no positive duration or no caption, or a field has the wrong type.
    """
    if not isinstance(cut.id, str) or not cut.id:
        raise ManifestError(f"{where}: a cut needs an id that is text, got {cut.id!r}")
    if NO_TEXT.search(cut.id):
        raise ManifestError(f"{where}: a cut needs an id that is UTF-8 text, got {quoted(cut.id)}")
    if not cut.has_recording:
        raise ManifestError(f"{where}: cut {cut.id!r} has no recording")
    for track in tracks_of(cut):
        _check_recording(track.recording, where)
    if not 0 < cut.duration <= LONGEST or not all(track.start >= 0 for track in tracks_of(cut)):
        raise ManifestError(f"{where}: cut {cut.id!r} lasts {cut.duration} s; it must be a positive, finite time")
    texts = [bool((part.text or "").strip()) for part in cut.supervisions]
    if (captioned or any(texts)) and not (texts and all(texts)):
        raise ManifestError(f"{where}: cut {cut.id!r} needs supervisions, each with a caption as its `text`")
    custom = cut.custom or {}
    for name, (fits, wanted) in FIELDS.items():
        if custom.get(name) is not None and not fits(custom[name]):
            raise ManifestError(f"{where}: the custom field `{name}` must {wanted}, got {custom[name]!r}")
        written = json.dumps(custom[name], ensure_ascii=False) if name in custom else ""
        if NO_TEXT.search(written):
            raise ManifestError(f"{where}: the custom field `{name}` is not UTF-8 text: {quoted(written)}")


def with_segments_gathered(cut: Cut, where: str) -> Cut:
    """Return a cut whose segments are all in its custom field `segments`, none of them among its supervisions.

    Args:
        cut: a cut; it is not modified.
        where: file and line, for messages.

    Raises:
        ManifestError: a track's custom field `segments`, or a supervision that is a segment, is malformed.
    """
    parts = list(cut.tracks) if isinstance(cut, MixedCut) else [cut]
    own = [part.cut if isinstance(cut, MixedCut) else part for part in parts]
    if not any(map(_has_segments, own)):
        return cut
    offsets = [part.offset if isinstance(cut, MixedCut) else 0.0 for part in parts]
    found = [one for part, offset in zip(own, offsets, strict=True) for one in shifted(_segments(part, where), offset)]
    stripped = [_without_segments(part) for part in own]
    if isinstance(cut, MixedCut):
        cut = fastcopy(cut, tracks=[fastcopy(a, cut=b) for a, b in zip(parts, stripped, strict=True)])
    else:
        cut = stripped[0]
    first = next(tracks_of(cut))
    first.custom = {**(first.custom or {}), "segments": cropped(found, 0.0, cut.duration)}
    return cut


def _is_segment(supervision: SupervisionSegment) -> bool:
    return bool((supervision.custom or {}).get(SEGMENT))


def _has_segments(cut: Any) -> bool:
    own = (getattr(cut, "custom", None) or {}).get("segments") is not None
    return own or any(map(_is_segment, cut.supervisions))


def _segments(cut: Any, where: str) -> list[dict[str, Any]]:
    """Return the segments of a cut that is no mix."""
    own = (getattr(cut, "custom", None) or {}).get("segments") or []
    if fault := fault_of(own) or outside(own, cut.duration):
        raise ManifestError(f"{where}: the custom field `segments`: {fault}")
    # A supervision may begin before its cut, or end after it.
    marked = [part for part in cut.supervisions if _is_segment(part)]
    if lost := [part.id for part in marked if not (part.text or "").strip() or part.duration <= 0]:
        raise ManifestError(f"{where}: the supervision {lost[0]!r} is a segment without a text or a duration")
    rows = [{"start": part.start, "end": part.start + part.duration, "text": part.text.strip()} for part in marked]
    return [*plain(own), *cropped(rows, 0.0, cut.duration)]


def _without_segments(cut: Any) -> Any:
    if isinstance(cut, PaddingCut):
        return cut
    custom = {name: value for name, value in (cut.custom or {}).items() if name != "segments"}
    captions = [part for part in cut.supervisions if not _is_segment(part)]
    return fastcopy(cut, custom=custom or None, supervisions=captions)


def _check_recording(recording: Recording, where: str) -> None:
    """Refuse a malformed recording, and a sample rate out of range: audio is resampled to the rate of its recording."""
    rate = recording.sampling_rate
    if not _within(rate, RATES[0], RATES[1]):
        raise ManifestError(f"{where}: a recording at {rate!r} Hz; {RATES[0]} to {RATES[1]} Hz are read")
    seconds, samples = recording.duration, recording.num_samples
    if not all(_within(value, 0, LONGEST * RATES[1]) and value > 0 for value in (seconds, samples)):
        raise ManifestError(f"{where}: a recording of {seconds!r} s and {samples!r} samples; both must be above 0")
    of_sources = [source.channels for source in recording.sources]
    for channels in (recording.channel_ids, *of_sources):
        if not isinstance(channels, list) or not channels or not all(isinstance(one, int) for one in channels):
            raise ManifestError(f"{where}: channels are a list of whole numbers, got {channels!r}")


def tracks_of(cut: Cut) -> Iterator[MonoCut | MultiCut]:
    """Yield the cuts with a recording that a cut consists of: those of its tracks, or itself."""
    if isinstance(cut, MixedCut):
        for track in cut.tracks:
            yield from tracks_of(track.cut)
    elif isinstance(cut, MonoCut | MultiCut):
        yield cut


def _within(value: Any, low: float, high: float) -> bool:
    return isinstance(value, Real) and bool(low <= float(value) <= high)


def _resolved(cut: Cut, folder: str, where: str, roots: Sequence[str]) -> Cut:
    """Change the paths of the files of a cut so that they start from a folder, and return it."""
    for track in tracks_of(cut):
        for source in track.recording.sources:
            if source.type == "file":
                source.source = os.path.join(folder, source.source)  # noqa: PTH118  # Path takes thrice the time
                refuse_elsewhere(source.source, roots, where)
    return cut


def _texts(value: Any, kind: type) -> bool:
    """Return True if a custom field maps texts to texts, or to lists of texts."""
    if not isinstance(value, dict) or not all(isinstance(part, kind) for part in value.values()):
        return False
    texts = [text for part in value.values() for text in part] if kind is list else value.values()
    return all(isinstance(text, str) and text for text in texts)


def files_of(cut: Cut) -> list[str]:
    """Return the paths of the files that a cut reads."""
    sources = (source for track in tracks_of(cut) for source in track.recording.sources)
    return [source.source for source in sources if source.type == "file" or isinstance(source, StoredAudio)]


def refuse_commands(value: Any, where: str) -> None:
    """Refuse nested JSON data with a source that is neither a plain file nor data in memory.

    Raises:
        ManifestError: there is such a source; the message quotes it.
    """
    if isinstance(value, list):
        for part in value:
            refuse_commands(part, where)
    if isinstance(value, dict):
        source = value.get("source")
        if "source" in value and value.get("type") not in SOURCES:
            raise ManifestError(
                f"{where}: a recording source of type {value.get('type')!r} ({masked(repr(source))}) is refused, "
                f"since it may run commands or fetch from a network; accepted are {' and '.join(SOURCES)}"
            )
        if isinstance(source, str) and _runs(source):
            raise ManifestError(
                f"{where}: the source {quoted(masked(source))} is refused: it must be the path of a file"
            )
        for part in value.values():
            refuse_commands(part, where)


def kept(custom: dict[str, Any] | None, names: Iterable[str] = tuple(FIELDS)) -> dict[str, Any]:
    """Return the custom fields with these names that are not null."""
    return {name: custom[name] for name in names if custom.get(name) is not None} if custom else {}


def strip(record: Record) -> None:
    """Drop features, alignments and all custom fields but `FIELDS` from the record of a cut."""
    record.pop("features", None)
    fields = kept(record.pop("custom", None))
    if fields:
        record["custom"] = fields
    for supervision in record.get("supervisions", []):
        supervision.pop("alignment", None)
        fields = kept(supervision.pop("custom", None), KEPT_OF_CAPTIONS)
        if fields:
            supervision["custom"] = fields
    for track in [*record.get("tracks", []), *([record["snr_reference"]] if "snr_reference" in record else [])]:
        strip(track["cut"])


def recordings(record: Record) -> Iterator[Record]:
    """Yield the records of the recordings in the record of a cut."""
    if "recording" in record:
        yield record["recording"]
    for track in [*record.get("tracks", []), *([record["snr_reference"]] if "snr_reference" in record else [])]:
        yield from recordings(track["cut"])


def _runs(source: str) -> bool:
    """Return True if a source is no path: Kaldi's pipes end in a bar, Lhotse's begin with a scheme, as URLs do."""
    return source.strip().startswith("pipe:") or "://" in source or source.rstrip().endswith("|") or "\0" in source
