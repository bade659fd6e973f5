"""The index of a manifest of cuts: what it holds, how it is made in one pass, and the file that keeps it.

A manifest may be a folder of shards; then the index lies beside the folder.

n cuts in K blocks.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile

import numpy as np
from lhotse.cut import Cut

from slap.datamodules.manifests.blocks import LINES, Blocks, BlockWriter, members
from slap.datamodules.manifests.sequence import key_of, origin_keys
from slap.datamodules.manifests.tables import raw_lines

VERSION = 2
SMALL = 2000  # cuts: reading them through takes a fraction of a second, which is not worth a file
IN_MEMORY = 1 << 26  # bytes of blocks that wait in memory for their file, not on disk
REPORT = 100_000  # cuts between lines in the log

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CutIndex:
    """What is known of the cuts of a manifest without decoding them.

    Args:
        durations: (n,) float64, seconds.
        keys: (n,) int64, fingerprints of the ids.
        firsts: (K + 1,) int64, the number of the first cut of each block, and n.
        lines: (K,) int64, the line on which each block begins, from 1.
        tasks: the zero-shot tasks for which any cut has a label, in alphabetical order.
        blocks: where they lie.
        parts: where shards begin, ascending from 0, with n at the end; None if there are none.
        origins: (m, 2) int64, for each origin of a cut its fingerprint and the number of the cut.
    """

    durations: np.ndarray
    keys: np.ndarray
    firsts: np.ndarray
    lines: np.ndarray
    tasks: tuple[str, ...]
    blocks: Blocks
    parts: np.ndarray | None = None
    origins: np.ndarray = field(default_factory=lambda: np.empty((0, 2), np.int64))


class Gathered:
    """Gathers an index while cuts go by."""

    def __init__(self) -> None:
        self.durations, self.keys = array("d"), array("q")
        self.firsts, self.lines = array("q", [0]), array("q", [1])
        self.origins = array("q")
        self.tasks: set[str] = set()

    def add(self, cut: Cut) -> None:
        """One more cut."""
        for origin in origin_keys(cut):
            self.origins.extend((origin, len(self.keys)))
        self.durations.append(cut.duration)
        self.keys.append(key_of(cut.id))
        self.tasks.update((cut.custom or {}).get("labels", {}))

    def end_block(self, line: int) -> None:
        """A block ends with a line of this number."""
        self.firsts.append(len(self.keys))
        self.lines.append(line + 1)

    def index(self, blocks: Blocks) -> CutIndex:
        """The index; lines after the last block's end are one more block."""
        if len(self.firsts) <= len(blocks):
            self.firsts.append(len(self.keys))
            self.lines.append(0)
        durations, keys = np.frombuffer(self.durations), np.frombuffer(self.keys, dtype=np.int64)
        firsts, lines = (np.array(values, dtype=np.int64) for values in (self.firsts, self.lines[:-1]))
        origins = np.frombuffer(self.origins, dtype=np.int64).reshape(-1, 2)
        return CutIndex(durations, keys, firsts, lines, tuple(sorted(self.tasks)), blocks, origins=origins)


def build_index(path: Path, decode: Callable[[bytes, Path, int], Cut]) -> CutIndex:
    """Read a manifest of cuts through and index it.

    Args:
        path: of the manifest.
        decode: the cut on a line, of which file, of which number; it checks the cut.

    Raises:
        ManifestError: a line is damaged, or `decode` refuses it.
    """
    gathered, gzipped = Gathered(), path.suffix == ".gz"
    found = members(path) if gzipped else None
    ends = set(found[1]) if found else set()
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as copy:
        writer = BlockWriter(copy) if gzipped and not found else None  # type: ignore[arg-type]
        size, plain, number = 0, [0], 0
        for number, line in raw_lines(path):
            size += len(line)
            if line.strip():
                gathered.add(decode(line, path, number))
                if len(gathered.keys) % REPORT == 0:
                    log.info("indexing %s: %d cuts so far", path, len(gathered.keys))
            if writer:
                writer.write(line)
            if size in ends if found else number % LINES == 0:
                gathered.end_block(number)
                plain.append(size)
        if plain[-1] < size:
            plain.append(size)
        if not writer:
            return gathered.index(Blocks(np.array(found[0] if found else plain), path, gzipped))
        writer.flush()
        return gathered.index(_kept_blocks(path, copy, np.array(writer.offsets), len(gathered.keys)))


def build_copied(path: Path, parts: Iterable[Iterable[bytes]], decode: Callable[[bytes, Path, int], Cut]) -> CutIndex:
    """CutIndex what is not in the lines of one file, by lines that are made for it.

    Args:
        path: of the manifest.
        parts: of each shard the lines, one a cut, that its cuts can be decoded from later.
        decode: as for `build_index`.

    Raises:
        ManifestError: `decode` refuses a line.
    """
    gathered, shards, number = Gathered(), [0], 0
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as copy:
        writer = BlockWriter(copy)  # type: ignore[arg-type]
        for part in parts:
            for line in part:
                number += 1
                gathered.add(decode(line, path, number))
                writer.write(line)
                if number % LINES == 0:
                    gathered.end_block(number)
            shards.append(number)
            log.info("indexing %s: %d cuts so far, in %d shards", path, number, len(shards) - 1)
        writer.flush()
        blocks = _kept_blocks(path, copy, np.array(writer.offsets), number)
    return replace(gathered.index(blocks), parts=np.array(shards))


def _kept_blocks(path: Path, copy: IO[bytes], offsets: np.ndarray, cuts: int) -> Blocks:
    """The blocks of a copy, in a file beside the manifest if that is worth while and possible, else in memory."""
    target = _beside(path, "blocks")
    copy.seek(0)
    if cuts > SMALL:
        try:
            _write(target, lambda file: shutil.copyfileobj(copy, file))
            return Blocks(offsets, target, gzipped=True)
        except OSError as error:
            log.warning("%s: its blocks are kept in memory, since %s cannot be written: %s", path, target, error)
            copy.seek(0)
    return Blocks(offsets, path, gzipped=True, data=copy.read())


def save_index(path: Path, index: CutIndex) -> None:
    """Keep an index beside its manifest; where that cannot be written, only the log says so."""
    known = {"version": VERSION, "tasks": index.tasks, **_identity(path), "copied": index.blocks.path != path}
    known["blocks"] = index.blocks.path.stat().st_size
    arrays = {name: getattr(index, name) for name in ("durations", "keys", "firsts", "lines", "origins")}
    if index.parts is not None:
        arrays["parts"] = index.parts
    about = np.frombuffer(json.dumps(known).encode(), dtype=np.uint8)
    try:
        _write(_beside(path, "index"), lambda file: np.savez(file, about=about, offsets=index.blocks.offsets, **arrays))
    except OSError as error:
        log.warning("%s: its index cannot be kept beside it, so it is made each time: %s", path, error)


def load_index(path: Path) -> CutIndex | None:
    """The index beside a manifest; None if there is none, or one that does not fit."""
    try:
        with _beside(path, "index").open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        known = json.loads(arrays.pop("about").tobytes())
        if known["version"] != VERSION or not _same(path, known):
            return None
        blocks = Blocks(
            arrays.pop("offsets"),
            _beside(path, "blocks") if known["copied"] else path,
            gzipped=known["copied"] or path.suffix == ".gz",
        )
        index = CutIndex(**arrays, tasks=tuple(known["tasks"]), blocks=blocks)
        fits = blocks.path.stat().st_size == known["blocks"] == blocks.offsets[-1]
        fits = fits and len(index.firsts) == len(blocks) + 1 == len(index.lines) + 1
        fits = fits and index.firsts[-1] == len(index.durations) == len(index.keys)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        log.warning("%s: its index is damaged and made anew: %s", path, error)
        return None
    return index if fits else None


def _same(path: Path, known: dict[str, Any]) -> bool:
    """Whether a manifest is still the one that an index was made of: by size and time, or else by its content."""
    status = path.stat()
    if path.is_dir():
        return _digest(path) == known["digest"]
    if status.st_size != known["size"]:
        return False
    return status.st_mtime_ns == known["time"] or _digest(path) == known["digest"]


def _identity(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"size": status.st_size, "time": status.st_mtime_ns, "digest": _digest(path)}


def _digest(path: Path) -> str:
    """Of a file's content; of a folder's listing, with the sizes and times of its files."""
    if path.is_dir():
        files = [(file.name, file.stat()) for file in sorted(path.iterdir())]
        listing = [(name, status.st_size, status.st_mtime_ns) for name, status in files]
        return hashlib.blake2b(json.dumps(listing).encode(), digest_size=16).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f"{path.name}.{kind}")


def _write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file that appears complete or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            write(file)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
