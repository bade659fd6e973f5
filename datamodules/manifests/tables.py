"""Readers of CSV and JSON lines, where a row is an audio file with its caption, into clips.

Every error names the file and the line, numbered from 1.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from slap.core.bad_clip import BadClip
from slap.core.errors import UserError
from slap.datamodules.captions.validate import NO_TEXT, quoted, text_error
from slap.datamodules.manifests.clip import Clip, ManifestError

CAPTION = re.compile(r"caption(?:_(?P<field>.+?))??(?:_\d+)?")
LABELS = re.compile(r"(?:label|tags)(?:_.+)?")
TEMPLATE = "the sound of {label}"
"""Template of the captions of a file that has labels only."""

FIELD = "caption"  # the field of captions without one
SEPARATOR = ";"  # between the tags of a clip in a cell
LONGEST_LINE = 1 << 26
"""Largest number of bytes of a line, and of characters of a CSV cell, where Python's own limit is 2^17. A few kB of
gzip can hold a line that would fill the memory."""

Record = dict[str, Any]


class CaptionError(UserError):
    """A caption that is empty or no text."""


def csv_records(path: Path) -> Iterator[tuple[int, Record]]:
    """Yield the rows of a CSV file as {column: cell}, each with the number of its last line."""
    reader = csv.reader((text for _, text in text_lines(path)), strict=True)
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
    try:
        header = [name.strip() for name in next(reader, [])]
        if len(set(header)) < len(header):
            raise ManifestError(f"{path}, line 1: two columns have the same name: {', '.join(header)}")
        captioned = any(CAPTION.fullmatch(name) for name in header)
        if "audio" not in header or not (captioned or any(LABELS.fullmatch(name) for name in header)):
            raise ManifestError(
                f"{path}, line 1: the columns `audio` and `caption` (or caption_1, caption_2, ..., or labels in "
                f"`label` or `tags`) are needed; this file has {', '.join(header) or 'none'}"
            )
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise ManifestError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells for the {len(header)} columns "
                    f'{", ".join(header)}; a caption with a comma stands in "quotes"'
                )
            record = {name: cell for name, cell in zip(header, cells, strict=True) if cell.strip()}
            yield reader.line_num, record if captioned else _with_template(record)
    except csv.Error as error:
        raise ManifestError(f"{path}, line {reader.line_num}: this is not CSV: {error}") from error


def _with_template(record: Record) -> Record:
    """Return a row with a caption that is made of its labels; a row without labels stays as it is."""
    try:
        found = [*_labels(record).values(), *(tag for tags in _tags(record).values() for tag in tags)]
    except ValueError:
        return record  # `clips_of` reports the fault, with the line
    if not found:
        return record
    return {**record, "caption": [TEMPLATE.format(label=" and ".join(dict.fromkeys(found)))], "fields": ["template"]}


def json_records(path: Path) -> Iterator[tuple[int, Record]]:
    """Yield the objects of a file with one JSON object per line, each with the number of its line."""
    for number, raw in raw_lines(path):
        if raw.strip():
            yield number, record_of(raw, path, number, errors="surrogateescape")


def record_of(raw: bytes, path: Path, number: int, errors: str = "strict") -> Record:
    """Return the JSON object on a line, without values that are null.

    Args:
        raw: the line.
        path: path of the file, for messages.
        number: number of the line, for messages.
        errors: handling of bytes that are not UTF-8, as of `bytes.decode`.

    Raises:
        ManifestError: the line holds no JSON object, or is not UTF-8.
    """
    text = _decoded(raw, path, number, errors)
    try:
        record = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ManifestError(f"{path}, line {number}: this is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise ManifestError(f"{path}, line {number}: each line must be a JSON object, this is {text.strip()[:80]}")
    return {name: value for name, value in record.items() if value is not None}


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file, plain or gzipped, numbered from 1, with their ends."""
    number = 0
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        try:
            for number, raw in enumerate(iter(partial(file.readline, LONGEST_LINE + 1), b""), start=1):
                if len(raw) > LONGEST_LINE:
                    raise ManifestError(f"{path}, line {number} has more than {LONGEST_LINE} bytes, which are refused")
                yield number, raw
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ManifestError(f"{path}, after line {number}: the gzip file is damaged: {error}") from error


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file, plain or gzipped, numbered from 1; bytes that are not UTF-8 become `NO_TEXT`."""
    for number, raw in raw_lines(path):
        yield number, _decoded(raw, path, number, errors="surrogateescape")


def _decoded(raw: bytes, path: Path, number: int, errors: str = "strict") -> str:
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8", errors)
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}, line {number}: manifests are UTF-8 text, this line is not: {error}") from error


def clips_of(path: Path, records: Iterable[tuple[int, Record]], bad: list[BadClip]) -> list[tuple[int, Clip]]:
    """Return the clips that records describe, in the order of their first records, each with the line of that record.

    Several records of one clip, by its `id` or else by its file, start and duration, add their captions to it.

    Args:
        path: path of the manifest, for messages.
        records: records, each with its line.
        bad: a list to which clips are appended whose caption is empty or no text.

    Raises:
        ManifestError: a record has another fault; names the line.
    """
    clips: dict[str, tuple[int, Clip]] = {}
    for line, record in records:
        try:
            _check_text(record)
            clip = _clip(record)
            if clip.id in clips:
                first, known = clips[clip.id]
                clips[clip.id] = first, _merge(known, clip, first)
            else:
                clips[clip.id] = line, clip
        except CaptionError as error:
            name, audio = (_writable(record.get(key)) for key in ("id", "audio"))
            bad.append(BadClip(name or audio, "caption", str(error), audio, f"{path}, line {line}"))
        except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise ManifestError(f"{path}, line {line}: {error}") from error
    return list(clips.values())


def _check_text(record: Record) -> None:
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


def _clip(record: Record) -> Clip:
    audio = _text(record, "audio")
    if "start" in record and "offset" in record:
        raise UserError("`start` and `offset` are two names of the same thing; give one of them")
    start = _seconds(record, "offset" if "offset" in record else "start") or 0.0
    duration = _seconds(record, "duration")
    segment = f"@{start}" + (f"+{duration}" if duration is not None else "") if start or duration is not None else ""
    name = _text(record, "id") if "id" in record else os.path.normpath(audio) + segment
    about: dict[str, Any] = {"tags": _tags(record), "fold": _fold(record), **_origin(record)}
    captions, fields = _captions(record)
    return Clip(name, audio, captions, _labels(record), start, duration, fields=fields, **about)


def _merge(known: Clip, clip: Clip, line: int) -> Clip:
    def place(clip: Clip) -> tuple[str, float, float | None]:
        return os.path.normpath(clip.audio), clip.start, clip.duration

    if place(known) != place(clip):
        raise UserError(f"clip {clip.id!r} is {place(clip)}, but on line {line} it is {place(known)}")
    for task, label in clip.labels.items():
        if known.labels.get(task, label) != label:
            raise UserError(
                f"clip {clip.id!r} has the {task} label {label!r}, but on line {line} {known.labels[task]!r}"
            )
    for what, before, now in [("fold", known.fold, clip.fold)] + [
        (f"{task} tags", list(known.tags[task]), list(tags)) for task, tags in clip.tags.items() if task in known.tags
    ]:
        if before is not None and now is not None and before != now:
            raise UserError(f"clip {clip.id!r} has the {what} {now!r}, but on line {line} {before!r}")
    fields = () if not known.fields and not clip.fields else (*_fields(known), *_fields(clip))
    captions = (*known.captions, *clip.captions)
    fold = clip.fold if known.fold is None else known.fold
    labels, tags = {**known.labels, **clip.labels}, {**known.tags, **clip.tags}
    return replace(known, captions=captions, fields=fields, labels=labels, tags=tags, fold=fold)


def _fields(clip: Clip) -> tuple[str, ...]:
    return tuple(clip.fields) or (FIELD,) * len(clip.captions)


def _captions(record: Record) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the captions of a record, and the field of each, or nothing if all have the field `caption`."""
    found: list[str] = []
    fields: list[str] = []
    for name, value in record.items():
        match = CAPTION.fullmatch(name)
        if match:
            values = value if isinstance(value, list) else [value]
            if not all(isinstance(caption, str) and caption.strip() for caption in values):
                raise CaptionError(f"`{name}` must be text that is not empty, got {repr(value)[:80]}")
            for fault in filter(None, map(text_error, values)):
                raise CaptionError(f"`{name}` is no caption: {fault}")
            found += [caption.strip() for caption in values]
            fields += _fields_of(record, len(values)) if name == "caption" else [match["field"] or FIELD] * len(values)
    if not found:
        raise CaptionError("the caption is empty; each row needs one, in `caption` or in caption_1, caption_2, ...")
    return tuple(found), tuple(fields) if set(fields) != {FIELD} else ()


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
            names = [tag.strip() for tag in listed]
            found[task] = tuple(dict.fromkeys(names))
    return found


def _fold(record: Record) -> int | None:
    fold = record.get("fold")
    if isinstance(fold, str) and fold.strip().isdigit():
        fold = int(fold)
    if fold is not None and (isinstance(fold, bool) or not isinstance(fold, int)):
        raise UserError(f"`fold` must be a whole number, got {fold!r}")
    return fold


def _origin(record: Record) -> dict[str, Any]:
    """Return corpus, split and origin of a record; an `origin` that is no object is ignored."""
    origin = record.get("origin", {})
    origin = origin if isinstance(origin, dict) else {}
    if not all(isinstance(name, str) and name for name in origin.values()):
        raise UserError(f"`origin` must be an object of site and id, got {origin!r}")
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
        raise UserError(f"`{name}` must be a number of seconds, got {repr(record[name])[:80]}") from error
