"""Clips of a table in a few arrays, some hundred bytes each, and a cut that is made on access.

Python objects cost more, and in forked loading processes once more each: looking at an object writes to its count of
references, so the process gets a copy of the page. Arrays are shared by all processes.

n clips in m files.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from lhotse import AudioSource, Recording
from lhotse.cut import Cut

from slap.audio.decoders import Header
from slap.datamodules.manifests.clip import Clip
from slap.datamodules.manifests.clip_cut import checked_seconds, custom_of, cut_at
from slap.datamodules.manifests.sequence import Clips, key_of, origin_key


class Texts:
    """Texts in one array of bytes.

    Args:
        content: (b,) uint8, the texts in UTF-8, one after the other.
        ends: (n,) int64, the end of each.
    """

    def __init__(self, content: np.ndarray, ends: np.ndarray) -> None:
        self.content, self.ends = content, ends

    def __len__(self) -> int:
        """Return n."""
        return len(self.ends)

    def __getitem__(self, number: int) -> str:
        start = int(self.ends[number - 1]) if number else 0
        # File names may hold bytes that are no UTF-8, as lone surrogates.
        return self.content[start : int(self.ends[number])].tobytes().decode("utf-8", "surrogatepass")


class TextsBuilder:
    """Texts that are added one by one."""

    def __init__(self) -> None:
        self._content, self._ends = bytearray(), array("q")

    def add(self, text: str) -> int:
        """Add a text, and return its number."""
        self._content += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._content))
        return len(self._ends) - 1

    def texts(self) -> Texts:
        """Return the texts."""
        return Texts(np.frombuffer(self._content, np.uint8), np.frombuffer(self._ends, np.int64))


class TableClips(Clips):
    """The clips of a table, or of a folder.

    Args:
        builder: the clips.
    """

    def __init__(self, builder: TableBuilder) -> None:
        self.durations = np.frombuffer(builder.durations, np.float64)
        self.keys = np.frombuffer(builder.keys, np.int64)
        self.lasting = np.frombuffer(builder.lasting, np.int64)
        self.tasks = tuple(sorted(builder.tasks))
        self.uncaptioned = np.frombuffer(builder.uncaptioned, np.int64)
        self._origins = np.frombuffer(builder.origins, np.int64).reshape(-1, 2)
        self._records, self._files = builder.records.texts(), builder.files.texts()
        self._places = np.frombuffer(builder.places, np.int64).reshape(-1, 2)
        self._headers = np.frombuffer(builder.headers, np.int64).reshape(-1, 3)
        self._where = builder.where

    def cut(self, number: int) -> Cut:
        """Return the clip of a number."""
        clip, recording, where = self._clip(number)
        return cut_at(clip, recording, float(self.durations[number]), where)

    def customs(self) -> Iterator[Mapping[str, Any]]:
        """Yield the custom fields of each clip, without making cuts."""
        for number in range(len(self)):
            clip, _, where = self._clip(number)
            yield custom_of(clip, float(self.durations[number]), where)

    def origins(self) -> np.ndarray:
        """Return the origins of the clips."""
        return self._origins

    def _clip(self, number: int) -> tuple[Clip, Recording, str]:
        file, line = self._places[number].tolist()
        path, (frames, rate, channels) = self._files[file], self._headers[file].tolist()
        clip = Clip(audio=path, **json.loads(self._records[number]))
        source = AudioSource("file", list(range(channels)), path)
        recording = Recording(path, [source], rate, frames, frames / rate)
        return clip, recording, f"{self._where}, line {line}" if line else path


class TableBuilder:
    """The clips of a table while it is read.

    Args:
        where: path of the table, for messages.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.durations, self.keys, self.lasting, self.uncaptioned = array("d"), array("q"), array("q"), array("q")
        self.origins, self.places, self.headers = array("q"), array("q"), array("q")
        self.records, self.files = TextsBuilder(), TextsBuilder()
        self.tasks: set[str] = set()
        self._numbers: dict[str, int] = {}

    def add(self, clip: Clip, header: Header, line: int, name: str) -> None:
        """Add a clip.

        Args:
            clip: the clip, with the path of its file.
            header: of its file.
            line: its line; 0 if it has none, and its path says where it is from.
            name: its lasting name, see `Clips.lasting`.

        Raises:
            RowError: the clip lies outside of its file, or a segment outside of the clip.
        """
        path, number = str(clip.audio), len(self.keys)
        where = f"{self.where}, line {line}" if line else path
        self.durations.append(checked_seconds(clip, header.duration, where))
        if path not in self._numbers:
            self._numbers[path] = self.files.add(path)
            self.headers.extend((header.frames, header.rate, header.channels))
        self.places.extend((self._numbers[path], line))
        self.records.add(json.dumps(_record(clip), ensure_ascii=False))
        self.keys.append(key_of(clip.id))
        self.lasting.append(key_of(name))
        self.origins.extend(part for one in clip.origin.items() for part in (origin_key(*one), number))
        self.tasks.update(clip.labels)
        if not clip.captions:
            self.uncaptioned.append(number)


_DEFAULTS = Clip("x", "x", ())
_OPTIONAL = [field.name for field in fields(Clip) if field.name not in ("id", "audio", "captions")]


def _record(clip: Clip) -> dict[str, Any]:
    """Return what a clip states, but its file."""
    stated = {name: getattr(clip, name) for name in _OPTIONAL}
    stated = {name: value for name, value in stated.items() if value != getattr(_DEFAULTS, name)}
    return {"id": clip.id, "captions": clip.captions, **stated}
