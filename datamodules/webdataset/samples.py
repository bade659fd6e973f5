"""Samples of a WebDataset: the members of a tar file that have one name up to the first dot.

000017.flac  000017.json     text or caption: a list of captions; tag: a list of tags; label, label_<task>, tags, ...
000017.txt                   a caption
000017.cls                   a label, of the task "label"
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slap.core.errors import UserError
from slap.datamodules.captions.template import templated
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.lines import Record
from slap.datamodules.manifests.tables import TEMPLATE as LABEL_TEMPLATE

TARS = (".tar", ".tar.gz", ".tgz")

TEXTS = ("json", "txt", "cls")
"""Suffixes of members that describe the audio of their sample."""

TEMPLATE = "the sounds of {label}"
"""Template of the captions of clips with tags only, as LAION itself uses it."""

CAPTIONS = ("text", "caption", "captions")
"""Names of captions in the JSON of a sample; the first that has any counts."""

LABELS = re.compile(r"labels|(label|tags)(_.+)?")
"""Names of labels in the JSON of a sample, as manifests have them."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
MOST_TARS = 1_000_000


def tars_in(folder: Path) -> list[Path]:
    """Return the tar files of a folder, 2.tar before 10.tar."""
    found = (path for path in folder.iterdir() if path.name.endswith(TARS) and not path.name.startswith("."))
    return sorted(found, key=natural)


def natural(path: Path) -> list[int | str]:
    """Return a key that sorts paths by the numbers in their names, not by their digits."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def expanded(pattern: str) -> list[str]:
    """Return the names that a pattern with braces stands for.

    Raises:
        ValueError: a range that ends before it begins, or more names than anyone has.

    Example:
        >>> expanded("{a,b}/{08..10}.tar")
        ['a/08.tar', 'a/09.tar', 'a/10.tar', 'b/08.tar', 'b/09.tar', 'b/10.tar']
    """
    braces = _BRACES.search(pattern)
    if braces is None:
        return [pattern]
    span = _RANGE.fullmatch(braces[1])
    words = braces[1].split(",")
    if span:
        first, last, width = int(span[1]), int(span[2]), len(span[1])
        if not 0 <= last - first < MOST_TARS:
            raise UserError(f"{{{braces[1]}}} in {pattern} is a range from {first} to {last}; it must ascend")
        words = [f"{number:0{width}d}" for number in range(first, last + 1)]
    rests = expanded(pattern[braces.end() :])
    return [f"{pattern[: braces.start()]}{word}{rest}" for word in words for rest in rests]


def split_name(name: str) -> tuple[str, str]:
    """Split a member's name at the first dot of its file name into key and suffix.

    Example:
        >>> split_name("./set/17.seg.JSON")
        ('set/17', 'seg.json')
    """
    folder, _, file = name.removeprefix("./").rpartition("/")
    key, _, suffix = file.partition(".")
    return f"{folder}/{key}" if folder else key, suffix.lower()


def described(raw: bytes) -> dict[str, Any]:
    """Return the JSON object of a sample.

    Raises:
        ManifestError: it is none.
    """
    try:
        about = json.loads(raw)
    except (ValueError, RecursionError) as error:  # not UTF-8 is one too
        raise ManifestError("not JSON") from error
    if not isinstance(about, dict):
        raise ManifestError("JSON, but no object")
    return about


def captions_of(about: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the captions that the JSON of a sample holds, or makes of its tags, and the field of each."""
    captions = next(filter(None, (texts_of(about.get(name)) for name in CAPTIONS)), [])
    tags = texts_of(about.get("tag"))
    if captions or not tags:
        return captions, ["caption"] * len(captions)
    return [templated(TEMPLATE, tags)], ["tags"]


def texts_of(value: Any) -> list[str]:
    """Return the texts of a list, or one text, that are not empty, each once."""
    values = value if isinstance(value, list) else [value]
    return list(dict.fromkeys(text.strip() for text in values if isinstance(text, str) and text.strip()))


def record_of_sample(texts: Mapping[str, bytes]) -> Record:
    """Return captions and labels of a sample, by the names that manifests have for them.

    Args:
        texts: content of the members that describe it, by suffix.

    Raises:
        ManifestError: one of them cannot be read.
    """
    about = described(texts["json"]) if "json" in texts else {}
    record: Record = {name: value for name, value in about.items() if LABELS.fullmatch(name) and value is not None}
    captions, fields = captions_of(about)
    caption = " ".join(_text(texts.get("txt", b"")).split())
    if caption and caption not in captions:
        captions, fields = [*captions, caption], [*fields, "caption"]
    label = _text(texts.get("cls", b"")).strip()
    if label:
        record.setdefault("label", label)
        if not captions and not label.isdigit():
            captions, fields = [LABEL_TEMPLATE.format(label=label)], ["template"]
    return {**record, "caption": captions, "fields": fields} if captions else record


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError("no UTF-8 text") from error
