"""Rows of a Hugging Face data set: their audio as bytes or as the path of a file, and the rest by known names.

The library decodes nothing: audio is read by the reader that reads files.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from slap.datamodules.huggingface.source import Source
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.columns import ColumnNames, Columns, option
from slap.datamodules.manifests.lines import Record
from slap.datamodules.manifests.tables import CAPTION, with_template

TEXTS = ("captions", "text")
"""Names of a column of captions, in data sets that have none called `caption`."""

BYTES, PATH = "bytes", "path"
"""Names of the parts of a column of audio."""


class RowReader:
    """Reader of the columns of a data set by their known names.

    Args:
        source: name of the data set, for messages.
        features: type of each column, of the library.
        columns: columns of the data set whose names are not the known ones.

    Attributes:
        audio: name of the column of audio.
        names: known names of the other columns that are read.

    Raises:
        ManifestError: there is no column of audio, or several.
    """

    def __init__(self, source: Source, features: Mapping[str, Any], columns: Columns | None = None) -> None:
        given = {**(columns or {}), **source.columns}
        self.audio = _audio_column(source.text, features, given.pop("audio", None))
        others = tuple(name for name in features if name != self.audio)
        if "caption" not in given and not any(map(CAPTION.fullmatch, others)):
            found = [name for name in TEXTS if name in others]
            given |= {"caption": found[0]} if found else {}
        known = ColumnNames(Path(source.text), given)
        self.names = known.of(others, source.text)
        known.finish(others)
        self._classes = {name: features[name].names for name in self.names if hasattr(features[name], "names")}

    @property
    def tasks(self) -> tuple[str, ...]:
        """The zero-shot tasks that its columns have a single label of."""
        named = (known for known in self.names.values() if known.startswith("label") and known != "labels")
        return tuple(sorted("label" if known == "label" else known[len("label_") :] for known in named))

    def record(self, row: Mapping[str, Any]) -> Record:
        """Return a row by known names, without its audio and without what is null; labels as texts."""
        record: Record = {}
        for column, known in self.names.items():
            value = row[column]
            if column in self._classes and value is not None:
                value = self._classes[column][value] if value >= 0 else None  # the library's sign of a missing label
            elif known.startswith("label") and isinstance(value, int):
                value = str(value)
            if value is not None:
                record[known] = value
        return record if any(map(CAPTION.fullmatch, record)) else with_template(record)

    def content(self, row: Mapping[str, Any]) -> tuple[BytesIO | str, str]:
        """Return the content of the audio of a row, or the path of its file, and its name; empty if there is none."""
        value = row[self.audio]
        if isinstance(value, str):
            return value, value
        stored = (value or {}).get(BYTES)
        name = (value or {}).get(PATH) or ""
        return (name if stored is None else BytesIO(stored)), name


def _audio_column(text: str, features: Mapping[str, Any], asked: str | None) -> str:
    """Return the name of the column of audio."""
    if asked is not None and asked not in features:
        raise ManifestError(f"{text}: there is no column {asked!r}; there are {', '.join(features)}")
    found = [asked] if asked else [name for name, kind in features.items() if _is_audio(kind)]
    if not found and "audio" in features:
        found = ["audio"]
    if len(found) != 1:
        which = f"several columns hold audio, {', '.join(found)}" if found else "no column holds audio"
        raise ManifestError(
            f"{text}: {which}; say which one to read, e.g. {option('audio', next(iter(features), 'file'))}"
        )
    return found[0]


def _is_audio(kind: Any) -> bool:
    """Return True if a column is one of audio: by its type, or as a pair of bytes and path."""
    return type(kind).__name__ == "Audio" or (isinstance(kind, Mapping) and {BYTES, PATH} == set(kind))


def undecoded(dataset: Any, audio: str) -> Any:
    """Return a data set that gives the bytes of its audio, not samples."""
    feature = dataset.features[audio]
    if type(feature).__name__ != "Audio" or not feature.decode:
        return dataset
    return dataset.cast_column(audio, type(feature)(decode=False))
