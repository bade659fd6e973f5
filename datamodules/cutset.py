"""Reads Lhotse CutSet manifests without running what they say.

Lhotse executes a recording source of type `command`, and opens paths like `pipe:...` through a shell. A manifest is
data from anywhere, so whatever is not a plain file is refused before Lhotse sees it.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

from lhotse.cut import Cut, MixedCut, MonoCut, MultiCut
from lhotse.cut.set import deserialize_cut

from slap.datamodules.clip import ManifestError
from slap.datamodules.table import Record

SOURCES = ("file", "memory")
CUTS = ("MonoCut", "MultiCut", "MixedCut")


def is_cut(record: Record) -> bool:
    """Whether a JSON object is one of Lhotse's cuts, not an `audio, caption` record."""
    return "type" in record and ("recording" in record or "tracks" in record)


def cut_of(record: Record, folder: Path, where: str) -> Cut:
    """The cut that a record describes, its paths resolved, with captions as the texts of its supervisions.

    Of custom fields only `labels` (task to label) is kept: nothing here reads others, and they may hold sources too.

    Args:
        record: the JSON object of the cut; it is taken apart.
        folder: what relative paths start from.
        where: file and line, for messages.

    Raises:
        ManifestError: the cut has no audio or no caption, a file is missing, or a source is not allowed.
    """
    if record.get("type") not in CUTS:
        raise ManifestError(f"{where}: a cut of type {record.get('type')!r}; accepted are {', '.join(CUTS)}")
    refuse_commands(record, where)
    _strip(record)
    try:
        cut = deserialize_cut(record)
        labels = (cut.custom or {}).get("labels", {})
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"{where}: this is not a Lhotse cut: {type(error).__name__}: {error}") from error
    if not cut.has_recording:
        raise ManifestError(f"{where}: cut {cut.id!r} has no recording")
    if not isfinite(cut.duration) or cut.duration <= 0 or not all(track.start >= 0 for track in tracks_of(cut)):
        raise ManifestError(f"{where}: cut {cut.id!r} lasts {cut.duration} s; it must be a positive, finite time")
    if not cut.supervisions or not all((part.text or "").strip() for part in cut.supervisions):
        raise ManifestError(f"{where}: cut {cut.id!r} needs supervisions, each with a caption as its `text`")
    if not isinstance(labels, dict) or not all(isinstance(label, str) and label for label in labels.values()):
        raise ManifestError(f"{where}: the custom field `labels` must map tasks to texts, got {labels!r}")
    cut = cut.with_recording_path_prefix(folder)
    for path in files_of(cut):
        if not Path(path).is_file():
            raise ManifestError(f"{where}: there is no file {path}; relative paths start from the manifest's folder")
    return cut


def tracks_of(cut: Cut) -> Iterator[MonoCut | MultiCut]:
    """The cuts with a recording that a cut is made of: those of its tracks, or itself."""
    if isinstance(cut, MixedCut):
        for track in cut.tracks:
            yield from tracks_of(track.cut)
    elif isinstance(cut, MonoCut | MultiCut):
        yield cut


def files_of(cut: Cut) -> list[str]:
    """The audio files that a cut reads."""
    return [source.source for track in tracks_of(cut) for source in track.recording.sources if source.type == "file"]


def refuse_commands(value: Any, where: str) -> None:
    """Raise when any source within nested JSON data is anything but a plain file or data in memory.

    Raises:
        ManifestError: there is one; the message quotes it.
    """
    if isinstance(value, list):
        for part in value:
            refuse_commands(part, where)
    if isinstance(value, dict):
        source = value.get("source")
        if "source" in value and value.get("type") not in SOURCES:
            raise ManifestError(
                f"{where}: a recording source of type {value.get('type')!r} ({source!r}) is refused, "
                f"since it may run commands or fetch from a network; accepted are {' and '.join(SOURCES)}"
            )
        # Kaldi's pipes end in a bar; Lhotse's begin with a scheme, as URLs do.
        if isinstance(source, str) and (source.strip().startswith("pipe:") or "://" in source or source.endswith("|")):
            raise ManifestError(f"{where}: the source {source!r} is refused: it must be the path of a file")
        for part in value.values():
            refuse_commands(part, where)


def _strip(record: Record) -> None:
    """Drop what nothing here reads from the record of a cut: features and custom fields other than labels."""
    record.pop("features", None)
    custom = record.pop("custom", None)
    if isinstance(custom, dict) and "labels" in custom:
        record["custom"] = {"labels": custom["labels"]}
    for supervision in record.get("supervisions", []):
        for name in ("custom", "alignment"):
            supervision.pop(name, None)
    for track in [*record.get("tracks", []), *([record["snr_reference"]] if "snr_reference" in record else [])]:
        _strip(track["cut"])
