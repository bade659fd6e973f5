"""The index of a manifest of cuts: made in one pass, kept in a file beside it, and 17 bytes per cut in memory.

The lines of a manifest lie in blocks of about 64, any of which is read alone. In a plain file a block is a range of
bytes. In a gzip file it is a member: a gzip file may consist of several, one after the other, and every gzip reader
returns their contents as one. A gzip file whose members are too large for that, as Lhotse writes, is copied to
`NAME.blocks` in small members. Plain text would need no members, but 7 times the space (docs/log.md, 2026-11-30).

Of more than 4 million cuts, the index file is opened and its arrays are read piece by piece, and not held in memory
(`slap.datamodules.stored`).

n cuts in K blocks.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import shutil
import tempfile
import zlib
from array import array
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from itertools import islice, repeat
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile

import numpy as np
from lhotse.cut import Cut

from slap.core.bad_clip import BadClip
from slap.core.files import FileStamp, atomic_write, open_plain
from slap.datamodules.manifests.index_file import LEFT, check_arrays, read_arrays
from slap.datamodules.manifests.lines import raw_lines
from slap.datamodules.manifests.sequence import key_of, origin_keys
from slap.datamodules.stored import Array, StoredArray, digest

VERSION = 4
LINES = 64  # per block: gzip looks back 32 kB, so larger blocks would hardly be smaller
LARGEST = 1 << 19  # bytes of text in a gzip member that serves as a block
SMALL = 2000  # cuts; of fewer ones, no file is kept: reading them takes a fraction of a second
IN_MEMORY = 1 << 26  # bytes of copied blocks that are held in memory until they are written
REPORT = 100_000  # cuts between lines in the log

log = logging.getLogger(__name__)

Lines = Iterable[tuple[bytes, Cut | None]]
"""The lines of a manifest, each with its cut, or None for a blank line."""


@dataclass(frozen=True)
class CutIndex:
    """The properties of the cuts of a manifest that are known without decoding them.

    Args:
        durations: (n,) float64, seconds; of very many cuts they stay in the index file.
        keys: (n,) int64, fingerprints of the ids; likewise.
        origins: (m, 2) int64, for each origin of a cut its fingerprint and the number of the cut.
        tasks: the zero-shot tasks for which any cut has a label, in alphabetical order.
        firsts: (K + 1,) int64, the number of the first cut of each block, and n.
        lines: (K,) int64, the number of the first line of each block, from 1.
        offsets: (K + 1,) int64, the first byte of each block, and the end of the last one.
        path: the file that holds the blocks.
        gzipped: True if each block is a gzip member.
        data: the bytes of the file, if they are in memory only.
        parts: the numbers of the first cuts of shards, ascending from 0, and n; None without shards.
        uncaptioned: (m,) int64, the numbers of the cuts without captions.
        bad: clips that the file holds and that cannot be used.
    """

    durations: Array
    keys: Array
    origins: np.ndarray
    tasks: tuple[str, ...]
    firsts: np.ndarray
    lines: np.ndarray
    offsets: np.ndarray
    path: Path
    gzipped: bool
    data: bytes | None = None
    parts: np.ndarray | None = None
    uncaptioned: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    bad: tuple[BadClip, ...] = ()

    def read(self, block: int) -> bytes:
        """Read the text of a block. The file is opened for each, so that any process may read.

        Raises:
            OSError, EOFError, zlib.error: the file has changed.
        """
        start, stop = int(self.offsets[block]), int(self.offsets[block + 1])
        if self.data is not None:
            raw = self.data[start:stop]
        else:
            with open_plain(self.path) as file:
                file.seek(start)
                raw = file.read(stop - start)
        return gzip.decompress(raw) if self.gzipped else raw


def make_index(
    lines: Lines, path: Path, end_of: Callable[[bytes], int] | None = None, sizes: Iterable[int] = repeat(LINES)
) -> CutIndex:
    """Index lines.

    Args:
        lines: the lines, consumed once.
        path: the file that holds them.
        end_of: returns the end of the next block in the file, given its text; it may write the block. None: the file
            consists of the lines.
        sizes: the number of lines of each block.
    """
    durations, keys, origins, tasks = array("d"), array("q"), array("q"), set[str]()
    uncaptioned = array("q")
    firsts, numbers, offsets = [0], [1], [0]
    lines = iter(lines)
    for block in map(list, (islice(lines, size) for size in sizes)):
        if not block:
            break
        for cut in (cut for _, cut in block if cut is not None):
            origins.extend(part for key in origin_keys(cut) for part in (key, len(keys)))
            if not cut.supervisions:
                uncaptioned.append(len(keys))
            durations.append(cut.duration)
            keys.append(key_of(cut.id))
            tasks.update((cut.custom or {}).get("labels", {}))
            if len(keys) % REPORT == 0:
                log.info("indexing %s: %d cuts so far", path, len(keys))
        firsts.append(len(keys))
        numbers.append(numbers[-1] + len(block))
        text = b"".join(line for line, _ in block)
        offsets.append(end_of(text) if end_of else offsets[-1] + len(text))
    return CutIndex(
        durations=np.frombuffer(durations),
        keys=np.frombuffer(keys, np.int64),
        origins=np.frombuffer(origins, np.int64).reshape(-1, 2),
        tasks=tuple(sorted(tasks)),
        firsts=np.array(firsts, np.int64),
        lines=np.array(numbers[:-1], np.int64),
        offsets=np.array(offsets, np.int64),
        path=path,
        gzipped=path.suffix != ".jsonl",
        uncaptioned=np.frombuffer(uncaptioned, np.int64),
    )


def index_file(path: Path, decode: Callable[[bytes, Path, int], Cut]) -> CutIndex:
    """Read a manifest of cuts and index it.

    Args:
        path: path of the manifest.
        decode: returns the cut on a line, after checks, given the line, the path and the number of the line.

    Raises:
        ManifestError: a line is damaged, or `decode` refuses it.
    """
    lines = ((line, decode(line, path, number) if line.strip() else None) for number, line in raw_lines(path))
    if path.suffix != ".gz":
        return make_index(lines, path)
    found = members(path)
    if found is None:
        return index_copy(path, lines)
    ends = iter([end for end, _ in found])
    return make_index(lines, path, lambda _: next(ends), [size for _, size in found])


def index_copy(path: Path, lines: Lines, keep: bool = False) -> CutIndex:
    """Index lines that no file holds in blocks: they are copied to `NAME.blocks`, or to memory if they are few.

    Args:
        path: path of the manifest.
        lines: the lines, consumed once.
        keep: write them to the file even if they are few.
    """
    target = _beside(path, "blocks")
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as copy:
        index = make_index(lines, target, member_writer(copy))
        copy.seek(0)
        if keep or len(index.keys) > SMALL:
            try:
                with atomic_write(target, "wb") as file:
                    shutil.copyfileobj(copy, file)
                return index
            except OSError as error:
                log.warning("%s: a copy is kept in memory, since %s cannot be written: %s", path, target, error)
                copy.seek(0)
        return replace(index, data=copy.read())


def member_writer(file: IO[bytes]) -> Callable[[bytes], int]:
    """Return a function that appends a text to a file as a gzip member, and returns the end of the file."""

    def write(text: bytes) -> int:
        file.write(gzip.compress(text, compresslevel=6, mtime=0))
        return file.tell()

    return write


def members(path: Path) -> list[tuple[int, int]] | None:
    """Return the end and the number of lines of each member of a gzip file; None if one is damaged or no block."""
    found: list[tuple[int, int]] = []
    with path.open("rb") as file:
        waiting, end = file.read(LARGEST), 0
        while waiting:
            member, text = zlib.decompressobj(wbits=31), b""
            while waiting and not member.eof and len(text) <= LARGEST:
                end += len(waiting)
                try:
                    text += member.decompress(waiting, LARGEST + 1 - len(text))
                except zlib.error:
                    return None
                waiting = member.unconsumed_tail or member.unused_data
                end -= len(waiting)
                waiting = waiting or file.read(LARGEST)
            if not member.eof or not text.endswith(b"\n") or len(text) > LARGEST:
                return None
            found.append((end, text.count(b"\n")))
    return found or None


def save_index(path: Path, index: CutIndex) -> None:
    """Write an index beside its manifest; if it cannot be written, log a warning."""
    stamp = FileStamp.of(path)
    known = {"version": VERSION, "tasks": index.tasks, "size": stamp.size, "time": stamp.mtime_ns}
    known |= {"digests": {name: digest(getattr(index, name)) for name in LEFT}}
    known |= {"digest": _digest(path), "copied": index.path != path, "bad": [asdict(clip) for clip in index.bad]}
    try:
        known["blocks"] = index.path.stat().st_size
        about = np.frombuffer(json.dumps(known).encode(), dtype=np.uint8)
        names = ("durations", "keys", "origins", "firsts", "lines", "offsets", "parts", "uncaptioned")
        arrays = {name: getattr(index, name) for name in names if getattr(index, name) is not None}
        with atomic_write(_beside(path, "index"), "wb") as file:
            np.savez(file, about=about, **arrays)
    except OSError as error:
        log.warning("%s: its index cannot be kept beside it, so it is made each time: %s", path, error)


def load_index(path: Path) -> CutIndex | None:
    """Return the index beside a manifest; None if there is none, it is damaged, or the manifest has changed."""
    try:
        arrays: dict[str, Any] = read_arrays(_beside(path, "index"), left=LEFT)
        known = json.loads(arrays.pop("about").tobytes())
        if known["version"] != VERSION or not _same(path, known):
            return None
        blocks = _beside(path, "blocks") if known["copied"] else path
        check_arrays(arrays, blocks.stat().st_size)
        for name in LEFT:
            if isinstance(arrays[name], StoredArray):
                arrays[name].known = _texts([known["digests"][name]])[0]
        about: dict[str, Any] = {"tasks": _texts(known["tasks"]), "bad": tuple(map(_bad, known["bad"]))}
        index = CutIndex(**arrays, **about, path=blocks, gzipped=blocks.suffix != ".jsonl")
        fits = blocks.stat().st_size == known["blocks"] == index.offsets[-1]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RecursionError, BadZipFile) as error:
        log.warning("%s: its index is damaged and made again: %s", path, error)
        return None
    return index if fits else None


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{str(values)[:80]} is no list of texts")
    return tuple(values)


def _bad(record: Any) -> BadClip:
    return BadClip(*_texts([record[name] for name in ("id", "reason", "detail", "file", "where")]))  # type: ignore[arg-type]


def _same(path: Path, known: dict[str, Any]) -> bool:
    """Return True if a manifest is unchanged since it was indexed, by size and time, or else by its content."""
    same_stamp = FileStamp.of(path) == (known["size"], known["time"])
    return (same_stamp and not path.is_dir()) or _digest(path) == known["digest"]


def _digest(path: Path) -> str:
    """Return a hash of a file's content; of a folder's listing, with the sizes and times of its files.

    Of a tar file size and time alone count, since it may hold gigabytes.
    """
    if path.suffix == ".tar":
        return str(FileStamp.of(path))
    if path.is_dir():
        listing = [(file.name, *FileStamp.of(file)) for file in sorted(path.iterdir())]
        return hashlib.blake2b(json.dumps(listing).encode(), digest_size=16).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f"{path.name}.{kind}")
