"""Readers of strong labels: tab-separated lists of events with onset and offset, one row for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slap.core.segments import Rows
from slap.datamodules.corpora.csv_lists import rows
from slap.datamodules.manifests.clip import ManifestError


def events_by_clip(path: Path, columns: Sequence[str], names: Mapping[str, str] | None = None) -> dict[str, Rows]:
    """Read the events of each clip of a list, in the order of the list; clips without events have none.

    A row without a label says that its clip has no event. An event whose offset is not after its onset lasts nothing,
    and is left out.

    Args:
        path: path of the list.
        columns: its columns: name of the clip, onset and offset in seconds of the clip, label.
        names: phrase for each label. Default: the label as words, in lower case.

    Raises:
        FileNotFoundError: there is no such list.
        ManifestError: a time is no number, or a label has no phrase; names file and clip.
    """
    clip, onset, offset, label = columns
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows(path, columns, delimiter="\t"):
        events = found.setdefault(row[clip], [])
        if not row[label].strip():
            continue
        if names is not None and row[label] not in names:
            raise ManifestError(
                f"{path}: clip {row[clip]} has the label {row[label]!r}, not in mid_to_display_name.tsv"
            )
        text = phrase(row[label] if names is None else names[row[label]])
        try:
            start, end = float(row[onset]), float(row[offset])
        except ValueError as error:
            raise ManifestError(f"{path}: clip {row[clip]} has a time that is no number of seconds: {error}") from error
        if not 0 <= start <= end < float("inf"):
            raise ManifestError(f"{path}: clip {row[clip]} has an event from {start} to {end} s")
        if end > start:
            events.append({"start": start, "end": end, "text": text})
    return dict(found)


def phrase(label: str) -> str:
    """Return a label as the phrase of a segment.

    Example:
        >>> phrase("Alarm_bell_ringing")
        'alarm bell ringing'
    """
    return " ".join(label.replace("_", " ").split()).lower()


def phrases(events: Rows) -> list[str]:
    """Return the different phrases of events, in the order in which they begin."""
    return list(dict.fromkeys(event["text"] for event in sorted(events, key=lambda event: event["start"])))
