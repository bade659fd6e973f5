"""Hugging Face data sets with random access as manifests: clips whose audio lies in arrow files.

The headers of all audio are read once, and what they say is kept beside the arrow files, as `slap-*.npz`. In memory are
some 40 bytes per clip; captions and audio are read when a clip is.

n clips.
"""

from __future__ import annotations

import json
import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from lhotse import AudioSource, Recording
from lhotse.cut import Cut

from slap.audio.decoders import measure
from slap.audio.errors import AudioError
from slap.core.bad_clip import BadClip, Reason
from slap.core.files import FileStamp, atomic_write
from slap.datamodules.audio.stored import StoredAudio
from slap.datamodules.bad_clips import RowError
from slap.datamodules.huggingface.rows import RowReader, undecoded
from slap.datamodules.huggingface.source import Source
from slap.datamodules.manifests.clip import Clip, ManifestError
from slap.datamodules.manifests.clip_cut import checked_cut
from slap.datamodules.manifests.columns import Columns
from slap.datamodules.manifests.data_root import refuse_elsewhere
from slap.datamodules.manifests.index_file import read_arrays
from slap.datamodules.manifests.sequence import Clips, key_of, origin_keys, without_uncaptioned
from slap.datamodules.manifests.tables import check_text, clip_of

VERSION = 1
REPORT = 10_000  # rows between lines in the log
REMEMBERED = 64  # clips whose captions are kept in memory

log = logging.getLogger(__name__)


class Rows:
    """Rows of a data set with random access.

    Args:
        source: name of the data set.
        dataset: the data set, of the library.
        reader: reader of its columns.
        roots: folders below which audio files must lie, if any.
    """

    def __init__(self, source: Source, dataset: Any, reader: RowReader, roots: Sequence[str] = ()) -> None:
        self.source, self.reader, self.roots = source, reader, roots
        self._audio = undecoded(dataset, reader.audio).select_columns([reader.audio])
        self._others = dataset.select_columns(list(reader.names))
        self.files = [Path(file["filename"]) for file in dataset.cache_files]
        name = os.path.realpath(source.name) if Path(source.name).exists() else source.name
        self.name = f"{name}/{dataset.split or 'train'}"

    def __len__(self) -> int:
        return len(self._audio)

    def where(self, number: int) -> str:
        """Return the place of a row, for messages."""
        return f"{self.source.text}, row {number}"

    def clip(self, number: int, name: str) -> Clip:
        """Return the clip of a row, whose captions may be none.

        Args:
            number: number of the row.
            name: id of its audio, where the data set gives none.

        Raises:
            ValueError, TypeError: a value of the row cannot be used.
        """
        record = self.reader.record(self._others[number] if self.reader.names else {})
        check_text(record)
        return clip_of(record, self.where(number), name, captioned=False)

    def audio(self, number: int) -> tuple[Any, str]:
        """Return the content of a row's audio, or the path of its file, and its name.

        Raises:
            AudioError: it has none.
            ManifestError: its file lies outside of the folders that audio may lie in.
        """
        content, name = self.reader.content(self._audio[number])
        if not content:
            raise AudioError(f"{self.where(number)} has no audio", "absent", self.where(number))
        if isinstance(content, BytesIO) and not content.getvalue():
            raise AudioError(f"the audio of {self.where(number)} is 0 bytes", "empty", self.where(number))
        if isinstance(content, str):
            refuse_elsewhere(content, self.roots, self.where(number))
            if "://" in content:
                raise AudioError(f"{content} is no file of this machine", "absent", content)
        return content, name


@dataclass
class RowAudio(StoredAudio):
    """A source that is the audio of a row; `source` says which one.

    Args:
        rows: the rows.
        number: number of the row.
    """

    rows: Rows | None = field(default=None, repr=False, compare=False)
    number: int = 0

    def read(self) -> bytes:
        """Read the bytes of the audio.

        Raises:
            OSError: the arrow file was cut off.
        """
        assert self.rows is not None
        content, _ = self.rows.audio(self.number)
        raw: bytes = content.getvalue()
        return raw


@dataclass(frozen=True)
class RowIndex:
    """Properties of the good clips of a data set, (n,) each.

    Attributes:
        rows: int64, the row of each clip.
        frames: int64, of its audio file.
        rates: int64, Hz.
        channels: int64.
        sizes: int64, bytes; -1 for audio in files.
        durations: float64, seconds.
        keys: int64, fingerprints of the ids.
        origins: (m, 2) int64, see `Clips.origins`.
        uncaptioned: (m,) int64, numbers of the clips without captions.
        tasks: the zero-shot tasks for which any clip has a label.
        bad: rows that cannot be used.
    """

    rows: np.ndarray
    frames: np.ndarray
    rates: np.ndarray
    channels: np.ndarray
    sizes: np.ndarray
    durations: np.ndarray
    keys: np.ndarray
    origins: np.ndarray
    uncaptioned: np.ndarray
    tasks: tuple[str, ...]
    bad: tuple[BadClip, ...]


ARRAYS = {one.name: "<f8" if one.name == "durations" else "<i8" for one in fields(RowIndex)[:-2]}
"""The arrays of a `RowIndex`, and the type of their values."""


class RowClips(Clips):
    """The clips of a data set with random access.

    Args:
        rows: the rows.
        index: properties of the clips.
    """

    def __init__(self, rows: Rows, index: RowIndex) -> None:
        self.rows, self.row_index = rows, index
        self.durations, self.keys, self.lasting = index.durations, index.keys, index.keys
        self.tasks, self.uncaptioned = index.tasks, index.uncaptioned
        self._cuts: OrderedDict[int, Cut] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cuts": OrderedDict()}

    def cut(self, number: int) -> Cut:
        """Return the clip of a number."""
        if number not in self._cuts:
            index, row = self.row_index, int(self.row_index.rows[number])
            header = (int(values[number]) for values in (index.frames, index.rates, index.channels, index.sizes))
            self._cuts[number] = _cut(self.rows, row, *header)
            while len(self._cuts) > REMEMBERED:
                self._cuts.popitem(last=False)
        return self._cuts[number]

    def origins(self) -> np.ndarray:
        """Return the origins of the clips."""
        return self.row_index.origins


def open_rows(
    path: Path, bad: list[BadClip], columns: Columns | None = None, roots: Sequence[str] = (), captioned: bool = True
) -> Clips:
    """Open a data set with random access.

    Args:
        path: its name, `hf:...`.
        bad: a list to which the bad clips are appended.
        columns: columns whose names are not the known ones.
        roots: folders below which the data set and its audio files must lie, if any.
        captioned: clips without captions are bad.

    Raises:
        ManifestError: it cannot be opened, is streamed, or lies elsewhere.
    """
    source = Source.of(path)
    if source.streaming:
        raise ManifestError(f"{path}: a stream has no length and no order to choose from; only `train` can be one")
    refuse_elsewhere(source.name, roots, source.text)
    dataset = source.open(roots)
    rows = Rows(source, dataset, RowReader(source, dataset.features, columns), roots)
    index = _load(rows) or _made(rows)
    bad += index.bad
    clips = RowClips(rows, index)
    return without_uncaptioned(clips, bad) if captioned else clips


def _cut(rows: Rows, row: int, frames: int, rate: int, channels: int, size: int) -> Cut:
    """Return the cut of a row, given the header of its audio; its file is decoded when it is loaded."""
    where, every = rows.where(row), list(range(channels))
    audio: AudioSource
    if size < 0:
        path, _ = rows.audio(row)
        audio, name = AudioSource("file", every, path), os.path.realpath(path)
    else:
        audio, name = RowAudio("memory", every, where, size=size, rows=rows, number=row), f"{rows.name}/{row}"
    clip = rows.clip(row, name)
    return checked_cut(clip, Recording(clip.id, [audio], rate, frames, frames / rate), where)


def _made(rows: Rows) -> RowIndex:
    """Read the headers of all audio."""
    found: list[tuple[int, ...]] = []
    cuts: list[tuple[float, int]] = []
    origins: list[tuple[int, int]] = []
    uncaptioned: list[int] = []
    tasks: set[str] = set()
    bad: list[BadClip] = []
    for row in range(len(rows)):
        if row and row % REPORT == 0:
            log.info("%s: %d of %d rows", rows.source.text, row, len(rows))
        try:
            header = _header(rows, row)
            cut = _cut(rows, row, *header)
        except RowError as error:
            bad.append(error.bad)
            continue
        except (AudioError, TypeError, ValueError, ArithmeticError) as error:
            reason: Reason = error.reason if isinstance(error, AudioError) else "caption"
            bad.append(BadClip(rows.where(row), reason, str(error), rows.where(row), rows.where(row)))
            continue
        if not cut.supervisions:
            uncaptioned.append(len(found))
        origins += [(key, len(found)) for key in origin_keys(cut)]
        tasks.update(cut.custom.get("labels", {}))
        found.append((row, *header))
        cuts.append((cut.duration, key_of(cut.id)))
    rows_found, frames, rates, channels, sizes = np.array(found, dtype=np.int64).reshape(-1, 5).T
    index = RowIndex(
        rows=rows_found,
        frames=frames,
        rates=rates,
        channels=channels,
        sizes=sizes,
        durations=np.array([duration for duration, _ in cuts], dtype=np.float64),
        keys=np.array([key for _, key in cuts], dtype=np.int64),
        origins=np.array(origins, dtype=np.int64).reshape(-1, 2),
        uncaptioned=np.array(uncaptioned, dtype=np.int64),
        tasks=tuple(sorted(tasks)),
        bad=tuple(bad),
    )
    _save(rows, index)
    return index


def _header(rows: Rows, row: int) -> tuple[int, int, int, int]:
    """Return frames, rate, channels and size of the audio of a row."""
    content, _ = rows.audio(row)
    size = -1 if isinstance(content, str) else len(content.getvalue())
    header = measure(content, rows.where(row))
    return header.frames, header.rate, header.channels, size


def _place(rows: Rows) -> Path | None:
    """Return the file that keeps the index: its name is made of all that the index depends on."""
    if not rows.files:
        return None
    stamps = [(str(file), *FileStamp.of(file)) for file in rows.files]
    known = [VERSION, rows.source.text, rows.reader.audio, sorted(rows.reader.names.items()), stamps, len(rows)]
    digest = blake2b(json.dumps(known).encode(), digest_size=8).hexdigest()
    return rows.files[0].parent / f"slap-{digest}.npz"


def _save(rows: Rows, index: RowIndex) -> None:
    place = _place(rows)
    if place is None:
        return
    arrays: dict[str, Any] = {name: value for name, value in vars(index).items() if isinstance(value, np.ndarray)}
    about = {"tasks": index.tasks, "bad": [asdict(clip) for clip in index.bad]}
    try:
        with atomic_write(place, "wb", sync=False) as file:
            np.savez(file, about=np.frombuffer(json.dumps(about).encode(), dtype=np.uint8), **arrays)
    except OSError as error:
        log.warning("%s: the lengths of its clips cannot be kept, so they are read each time: %s", place, error)


def _load(rows: Rows) -> RowIndex | None:
    place = _place(rows)
    if place is None or not place.is_file():
        return None
    try:
        arrays = {name: np.asarray(values) for name, values in read_arrays(place, ARRAYS).items()}
        about = json.loads(arrays.pop("about").tobytes())
        bad = tuple(BadClip(**clip) for clip in about["bad"])
        return RowIndex(**arrays, tasks=tuple(about["tasks"]), bad=bad)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RecursionError, BadZipFile) as error:
        log.warning("%s is damaged and made again: %s", place, error)
        return None
