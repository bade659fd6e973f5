"""Readers of tables, CSV and JSON lines, where a row is an audio file with its caption, into clips.

Every error names the file and the line, numbered from 1.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from slap.core.bad_clip import BadClip
from slap.core.errors import UserError
from slap.core.segments import FORM, fault_of, plain
from slap.datamodules.captions.validate import NO_TEXT, quoted, says_missing, text_error
from slap.datamodules.manifests.audio_files import AudioFiles
from slap.datamodules.manifests.choices import checked_choices
from slap.datamodules.manifests.clip import Clip, ManifestError
from slap.datamodules.manifests.columns import ColumnNames, Columns, option
from slap.datamodules.manifests.csv_rows import csv_records
from slap.datamodules.manifests.lines import Record, json_records

log = logging.getLogger(__name__)

CSV_SUFFIXES = (".csv", ".tsv")
JSON_SUFFIXES = (".jsonl", ".jsonl.gz")
SUFFIXES = (*CSV_SUFFIXES, *JSON_SUFFIXES)
"""Endings of the names of manifests in a file, in upper or lower case."""

CAPTION = re.compile(r"caption(?:_(?P<field>.+?))??(?:_\d+)?", re.DOTALL)
TEMPLATE = "the sound of {label}"
"""Template of the captions of a file that has labels only."""

FIELD = "caption"  # the field of captions without one
SEPARATOR = ";"  # between the tags of a clip in a cell
NO_LABELS = ("NaN", "nan", "<NA>", "#N/A", "null", "NULL")
"""Words for a missing label, exactly so: `None` and `none` may be classes."""

ORIGINS = ("youtube", "freesound")
"""Columns with the id of the source of the audio."""

ROUNDING = 0.01
"""Largest difference between `end` and `start` + `duration`, seconds: times in tables are rounded."""


class CaptionError(UserError):
    """A caption that is empty or no text."""


def is_table(name: str, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Return True if a file has the name of a table."""
    return name.lower().endswith(suffixes)


def records_of(path: Path, columns: Columns | None = None, captioned: bool = True) -> Iterator[tuple[int, Record]]:
    """Yield the rows of a table by the known names of its columns, each with the number of its last line.

    Args:
        path: path of the table, of any kind.
        columns: columns of the table that have a name of their own, see `slap.datamodules.manifests.columns`.
        captioned: refuse a CSV without any column of captions or labels.

    Raises:
        ManifestError: the table cannot be read, or a column is missing or unclear; names the line.
    """
    names = ColumnNames(path, columns)
    if is_table(path.name, CSV_SUFFIXES):
        for line, record in csv_records(path, names, captioned):
            described = any(map(CAPTION.fullmatch, names.read))
            yield line, record if described else with_template(record)
        return
    for line, record in json_records(path):
        where = f"{path}, line {line}"
        if "recording" in record or "tracks" in record:
            raise ManifestError(
                f"{where}: this is a Lhotse cut; name the file itself as a manifest for training, and put no other "
                "rows into it"
            )
        known = names.of(tuple(record), where)
        if "audio" not in known.values():
            raise ManifestError(
                f"{where}: `audio` is missing or empty; this row has {', '.join(record) or 'nothing'}. Rename its key, "
                f"or say which it is, e.g. {option('audio', 'filepath')}"
            )
        yield line, {known[name]: value for name, value in record.items() if name in known}
    names.finish()


def with_template(record: Record) -> Record:
    """Return a row with a caption that is made of its labels; a row without labels stays as it is."""
    try:
        found = [*_labels(record).values(), *(tag for tags in _tags(record).values() for tag in tags)]
    except ValueError:
        return record  # `clips_of` reports the fault, with the line
    if not found:
        return record
    return {**record, "caption": [TEMPLATE.format(label=" and ".join(dict.fromkeys(found)))], "fields": ["template"]}


def clips_of(
    path: Path,
    records: Iterable[tuple[int, Record]],
    bad: list[BadClip],
    root: Path | None = None,
    captioned: bool = True,
) -> list[tuple[int, Clip]]:
    """Return the clips that records describe, in the order of their first records, each with the line of that record.

    Several records of one clip, by its `id` or else by its file, start and duration, add their captions to it. A clip
    without an `id` is called by the path of its file with all links resolved, and by its segment.

    Args:
        path: path of the manifest, for messages.
        records: records, each with its line.
        bad: a list to which clips are appended whose caption is empty or no text.
        root: folder from which ids of files below it start; None is the root of the file system.
        captioned: every clip needs a caption; otherwise an empty one is none.

    Raises:
        ManifestError: a record has another fault; names the line.
    """
    files = AudioFiles(path.parent, root)
    clips: dict[str, tuple[int, Clip]] = {}
    missing: list[int] = []  # lines
    for line, record in records:
        try:
            check_text(record)
            missing += [line] * _count_missing(record)
            audio = files.find(_text(record, "audio"))
            clip = clip_of(record, audio, files.name(audio), captioned)
            if clip.id in clips:
                first, known = clips[clip.id]
                clips[clip.id] = first, _merge(known, clip, first, files)
            else:
                clips[clip.id] = line, clip
        except CaptionError as error:
            name, audio = (_writable(record.get(key)) for key in ("id", "audio"))
            bad.append(BadClip(name or audio, "caption", str(error), audio, f"{path}, line {line}"))
        except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise ManifestError(f"{path}, line {line}: {error}") from error
    if missing:
        log.warning(
            "%s: %d captions and labels say NaN, null or the like and count as missing; the first is on line %d",
            path,
            len(missing),
            missing[0],
        )
    files.log_respelled(path)
    return list(clips.values())


def _count_missing(record: Record) -> int:
    """Return the number of captions and labels of a record that say that they are missing."""
    count = 0
    for name, value in record.items():
        values = value if isinstance(value, list) else [value]
        if CAPTION.fullmatch(name):
            count += sum(map(says_missing, values))
        elif name.startswith(("label", "tags")):
            count += sum(text in NO_LABELS for text in values if isinstance(text, str))
    return count


def check_text(record: Record) -> None:
    """Refuse a row if any text in it is not UTF-8 or has the character NUL."""
    for name, value in record.items():
        for text in _texts(value):
            if NO_TEXT.search(text):
                raise CaptionError(f"manifests are UTF-8 text, this line is not: `{name}` is {quoted(text)}")
            if "\0" in text:
                raise CaptionError(f"`{name}` has a character NUL in it: {quoted(text)}")


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts within a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value if isinstance(value, list) else (*value, *value.values()):
            yield from _texts(part)


def _writable(value: Any) -> str:
    """Return the beginning of a text, with bytes that are not UTF-8 escaped; of another value, nothing."""
    return value[:80].encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else ""


def clip_of(record: Record, audio: str, name: str, captioned: bool = True) -> Clip:
    """Return the clip that a record describes.

    Args:
        record: record; its `audio` is not read.
        audio: path of the audio, or where it is stored.
        name: id of the audio; that of a clip without `id` has its segment too.
        captioned: the clip needs a caption; otherwise an empty one is none.

    Raises:
        CaptionError: the caption is empty or no text.
        ValueError, TypeError: another value cannot be used.
    """
    start, duration = _segment(record)
    segment = f"@{start}" + (f"+{duration}" if duration is not None else "") if start or duration is not None else ""
    name = _text(record, "id") if "id" in record else name + segment
    about: dict[str, Any] = {"tags": _tags(record), "fold": _fold(record), **_origin(record)}
    about["segments"] = _segments(record)
    about["choices"] = checked_choices(record.get("choices", {}))
    captions, fields = _captions(record, captioned)
    return Clip(name, audio, captions, _labels(record), start, duration, fields=fields, **about)


def _segment(record: Record) -> tuple[float, float | None]:
    """Return start and duration of a record, in seconds."""
    start, end, duration = (_seconds(record, name) for name in ("start", "end", "duration"))
    start = start or 0.0
    if end is None:
        return start, duration
    if not end > start:
        raise UserError(f"the end of the clip, {end}, is not after its start, {start}; both are seconds in the file")
    if duration is not None and abs(end - start - duration) > ROUNDING:
        raise UserError(
            f"the clip from {start} to {end} s does not last the {duration} s of `duration`; give `end` or `duration`, "
            f"and if that is not the duration of the clip, {option('duration', None)} ignores it"
        )
    return start, round(end - start, 9)


def _merge(known: Clip, clip: Clip, line: int, files: AudioFiles) -> Clip:
    def place(clip: Clip) -> tuple[str, float, float | None]:
        return files.place(str(clip.audio)), clip.start, clip.duration

    if place(known) != place(clip):
        raise UserError(f"clip {clip.id!r} is {place(clip)}, but on line {line} it is {place(known)}")
    for task, label in clip.labels.items():
        if known.labels.get(task, label) != label:
            raise UserError(
                f"clip {clip.id!r} has the {task} label {label!r}, but on line {line} {known.labels[task]!r}"
            )
    by_task = [("tags", known.tags, clip.tags), ("choices", known.choices, clip.choices)]
    for what, before, now in [("fold", known.fold, clip.fold)] + [
        (f"{task} {kind}", list(first[task]), list(texts))
        for kind, first, second in by_task
        for task, texts in second.items()
        if task in first
    ]:
        if before is not None and now is not None and before != now:
            raise UserError(f"clip {clip.id!r} has the {what} {now!r}, but on line {line} {before!r}")
    fields = () if not known.fields and not clip.fields else (*_fields(known), *_fields(clip))
    if known.segments is not None and clip.segments is not None and known.segments != clip.segments:
        raise UserError(f"clip {clip.id!r} has other `segments` than on line {line}; list all of them in one row")
    segments = clip.segments if known.segments is None else known.segments
    captions = (*known.captions, *clip.captions)
    fold = clip.fold if known.fold is None else known.fold
    labels, tags = {**known.labels, **clip.labels}, {**known.tags, **clip.tags}
    changed: dict[str, Any] = {"labels": labels, "tags": tags, "fold": fold, "segments": segments}
    choices = {**known.choices, **clip.choices}
    return replace(known, captions=captions, fields=fields, choices=choices, **changed)


def _fields(clip: Clip) -> tuple[str, ...]:
    return tuple(clip.fields) or (FIELD,) * len(clip.captions)


def _captions(record: Record, captioned: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the captions of a record, and the field of each, or nothing if all have the field `caption`."""
    found: list[str] = []
    fields: list[str] = []
    for name, value in record.items():
        match = CAPTION.fullmatch(name)
        if not match:
            continue
        values = value if isinstance(value, list) else [value]
        own = _fields_of(record, len(values)) if name == "caption" else [match["field"] or FIELD] * len(values)
        for caption, field in zip(values, own, strict=True):
            if says_missing(caption) or (not captioned and isinstance(caption, str) and not caption.strip()):
                continue
            if not isinstance(caption, str) or not caption.strip():
                raise CaptionError(f"`{name}` must be text that is not empty, got {repr(value)[:80]}")
            if fault := text_error(caption):
                raise CaptionError(f"`{name}` is no caption: {fault}")
            found.append(caption.strip())
            fields.append(field)
    if captioned and not found:
        raise CaptionError(
            "the caption is empty; each row needs one, in `caption` or in caption_1, caption_2, ... (NaN, null, None "
            "and n/a count as empty)"
        )
    return tuple(found), tuple(fields) if set(fields) - {FIELD} else ()


def _fields_of(record: Record, count: int) -> list[str]:
    """Return the field of each caption in `caption`."""
    fields = record.get("fields", [FIELD] * count)
    if not isinstance(fields, list) or len(fields) != count or not all(isinstance(f, str) and f for f in fields):
        raise UserError(f"`fields` must be a list with a name for each of the {count} captions, got {fields!r}")
    return fields


def _labels(record: Record) -> dict[str, str]:
    labels = record.get("labels", {})
    if not isinstance(labels, dict):
        raise UserError(f"`labels` must be an object of task and label, got {labels!r}")
    # JSON has two ways to give a label, so a task may be named twice.
    named = {"label" if name == "label" else name[6:]: name for name in record if re.fullmatch("label(_.+)?", name)}
    for task, name in named.items():
        if labels.get(task, record[name]) != record[name]:
            raise UserError(f"`{name}` is {record[name]!r}, but `labels` says {labels[task]!r}")
    labels = {**labels, **{task: record[name] for task, name in named.items()}}
    labels = {task: label for task, label in labels.items() if label not in NO_LABELS}
    for task, label in labels.items():
        if not isinstance(label, str) or not label.strip():
            raise UserError(f"the {task} label must be text that is not empty, got {label!r}")
    return {task: label.strip() for task, label in labels.items()}


def _tags(record: Record) -> dict[str, tuple[str, ...]]:
    """Return the tags of a record by task; those in the column `tags` belong to the task "tags"."""
    found: dict[str, tuple[str, ...]] = {}
    for name, value in record.items():
        if name != "tags" and not name.startswith("tags_"):
            continue
        tasks = value if isinstance(value, dict) else {name[5:] or "tags": value}
        for task, tags in tasks.items():
            listed = tags.strip(f"{SEPARATOR} ").split(SEPARATOR) if isinstance(tags, str) else tags
            if not isinstance(listed, list) or not all(isinstance(tag, str) and tag.strip() for tag in listed):
                raise UserError(f"`{name}` must be labels with `{SEPARATOR}` between them, or a list; got {value!r}")
            names = [tag.strip() for tag in listed if tag.strip() not in NO_LABELS]
            if names or not listed:
                found[task] = tuple(dict.fromkeys(names))
    return found


def _fold(record: Record) -> int | None:
    fold = record.get("fold")
    if isinstance(fold, str) and fold.strip().isdigit():
        fold = int(fold)
    if fold is not None and (isinstance(fold, bool) or not isinstance(fold, int)):
        raise UserError(f"`fold` must be a whole number, got {fold!r}")
    return fold


def _segments(record: Record) -> list[dict[str, Any]] | None:
    """Return the segments of a record, from a list or, in a CSV, from its JSON text; None if it has no such column."""
    value = record.get("segments")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise UserError(f"`segments` must be a JSON list of {FORM}, got {value[:80]!r}: {error}") from error
    if value is None:
        return None
    if fault := fault_of(value):
        raise UserError(f"`segments`: {fault}")
    return plain(value)


def _origin(record: Record) -> dict[str, Any]:
    """Return corpus, split and origin of a record."""
    origin = record.get("origin", {})
    if not isinstance(origin, dict) or not all(isinstance(name, str) and name for name in origin.values()):
        raise UserError(f"`origin` must be an object of site and id, got {origin!r}")
    origin = {**origin, **{site: str(record[site]).strip() for site in ORIGINS if site in record}}
    return {"origin": origin, **{name: str(record[name]).strip() for name in ("corpus", "split") if name in record}}


def _text(record: Record, name: str) -> str:
    if name not in record:
        raise UserError(f"`{name}` is missing or empty; this row has {', '.join(record)}")
    if not isinstance(record[name], str) or not record[name].strip():
        raise UserError(f"`{name}` must be text that is not empty, got {record[name]!r}")
    return record[name].strip()


def _seconds(record: Record, name: str) -> float | None:
    if name not in record:
        return None
    try:
        return float(record[name])
    except (TypeError, ValueError, OverflowError) as error:
        hint = "; write a point, not a comma" if "," in str(record[name]) else ""
        raise UserError(f"`{name}` must be a number of seconds, got {repr(record[name])[:80]}{hint}") from error
