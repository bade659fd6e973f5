"""Manifests of Lhotse cuts of any size: an index in memory, and a cut decoded when it is asked for.

`write_cuts` writes cuts as `.jsonl.gz` in small gzip members (see `slap.datamodules.manifests.blocks`), with an index
beside it,
`NAME.index`: durations, fingerprints of the ids, and where the blocks lie. Lhotse and any gzip reader read the manifest
as ever. A manifest without an index, or with one that does not fit it any more, is read through once, checked, and
indexed. One gzip member of many lines cannot be entered in its middle, so its lines are then kept once more, in blocks,
as `NAME.blocks`. What cannot be written beside the manifest is kept in memory.

n cuts in K blocks.
"""

from __future__ import annotations

import json
import os
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lhotse.cut import Cut, MixedCut
from lhotse.utils import fastcopy

from slap.datamodules.audio.load import mixed_down
from slap.datamodules.manifests.blocks import LINES, Blocks, BlockWriter
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.cut_index import SMALL, CutIndex, Gathered, build_index, load_index, save_index
from slap.datamodules.manifests.safe_cuts import check_cut, cut_of, kept, recordings, strip, tracks_of
from slap.datamodules.manifests.sequence import Clips, repeated
from slap.datamodules.manifests.tables import record_of

REMEMBERED = 64  # blocks whose cuts are kept


class CutManifest(Clips):
    """The cuts of a manifest, as `read_manifest` gives them; use that.

    It may be pickled, and used by any process, forked or spawned.

    Args:
        path: of the manifest.
        index: of it.
        decode: the cut on a line, of which file, of which number; it checks the cut. Default is `decoded`.
    """

    def __init__(self, path: Path, index: CutIndex, decode: Callable[[bytes, Path, int], Cut] | None = None) -> None:
        self.path, self.contents, self._decode = path, index, decode
        self.durations, self.keys, self.tasks, self.parts = index.durations, index.keys, index.tasks, index.parts
        self._lines: OrderedDict[int, list[tuple[int, Cut | bytes]]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lines": OrderedDict()}

    def cut(self, number: int) -> Cut:
        """The cut of a number, with the custom field `where`, the file and line that it came from.

        Raises:
            ManifestError: the manifest has changed, or the cut is not allowed.
        """
        block = int(np.searchsorted(self.contents.firsts, number, side="right")) - 1
        lines = self._block(block)
        place = number - int(self.contents.firsts[block])
        line, known = lines[place]
        if isinstance(known, bytes):
            known = (self._decode or decoded)(known, self.path, line)
            lines[place] = line, known
        return known

    def customs(self) -> Iterator[Mapping[str, Any]]:
        """The custom fields that are kept of each cut, from the lines themselves: ten times as fast as from cuts."""
        if self._decode is not None:  # the lines are others than a manifest's
            yield from super().customs()
            return
        number = 0
        for block in range(len(self.contents.blocks)):
            first = int(self.contents.lines[block])
            for place, line in enumerate(self.contents.blocks.read(block).split(b"\n"), start=first):
                if line.strip():
                    record = record_of(line, self.path, place, errors="surrogateescape")
                    yield self.cut(number).custom if "tracks" in record else kept(record.get("custom"))
                    number += 1

    def origins(self) -> np.ndarray:
        """The origins of the cuts."""
        return self.contents.origins

    def _block(self, block: int) -> list[tuple[int, Cut | bytes]]:
        """The cuts of a block with their lines' numbers, those that were not asked for yet as text."""
        if block in self._lines:
            self._lines.move_to_end(block)
            return self._lines[block]
        begin = int(self.contents.lines[block])
        try:
            text = self.contents.blocks.read(block)
        except (OSError, EOFError, zlib.error) as error:
            raise ManifestError(f"{self.path}, line {begin}: cannot be read any more: {error}") from error
        numbered = enumerate(text.split(b"\n"), start=begin)
        lines: list[tuple[int, Cut | bytes]] = [(number, line) for number, line in numbered if line.strip()]
        if len(lines) != self.contents.firsts[block + 1] - self.contents.firsts[block]:
            raise ManifestError(f"{self.path}, line {begin}: the manifest has changed since it was opened")
        self._lines[block] = lines
        while len(self._lines) > REMEMBERED:
            self._lines.popitem(last=False)
        return lines


def decoded(line: bytes, path: Path, number: int, roots: Sequence[str] = ()) -> Cut:
    """The cut that a line of a manifest holds, checked; its audio must lie below one of the roots, if there are any.

    Raises:
        ManifestError: it is not a cut, or not one that is allowed; names file and line.
    """
    where = f"{path}, line {number}"
    # Bytes of a caption that are not UTF-8 make the clip bad when it is loaded, and stop nothing here.
    cut = cut_of(record_of(line, path, number, errors="surrogateescape"), path.parent, where, roots)
    custom = {"labels": {}, **kept(cut.custom), "where": where}
    # A mix has no custom fields of its own, so it becomes one track that reads it.
    if isinstance(cut, MixedCut):
        return fastcopy(mixed_down(cut), custom=custom)
    cut.custom = custom
    return cut


def write_cuts(path: str | Path, cuts: Iterable[Cut]) -> Path:
    """Write cuts as a manifest that can be read lazily, with its index.

    Audio below the manifest's folder is written relative to it, so that the folder can move as a whole; other audio by
    its absolute path. Of custom fields those of `slap.datamodules.manifests.safe_cuts` are written. Each of the two
    files appears
    complete or not at all.

    Args:
        path: ends in .jsonl.gz; its folder is made when it is missing.
        cuts: any number of them, read once, with audio in files.

    Returns:
        The path.

    Raises:
        ManifestError: there are no cuts, or one is such that reading would refuse it, holds audio in memory, or has the
            id of another.
        ValueError: the path ends otherwise.
    """
    path = Path(path)
    if not path.name.endswith(".jsonl.gz"):
        raise ValueError(f"a manifest of cuts is written as .jsonl.gz, got {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            gathered, offsets = _write(path, cuts, BlockWriter(file))
        index = gathered.index(Blocks(offsets, part, gzipped=True))
        if not len(index.durations):
            raise ManifestError(f"{path}: there are no cuts to write")
        refuse_repeated(CutManifest(path, index))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    save_index(path, replace(index, blocks=replace(index.blocks, path=path)))
    return path


def open_cuts(path: Path, roots: Sequence[str] = ()) -> CutManifest:
    """A manifest of cuts, by its index; that is made, and kept, where there is none that fits.

    Args:
        path: of the manifest.
        roots: below which audio must lie, see `slap.datamodules.manifests.data_root`. With an index, that is seen cut
            by cut.

    Raises:
        ManifestError: a fault in the manifest, found when it was read through.
    """
    decode = partial(decoded, roots=tuple(roots)) if roots else None
    index = load_index(path)
    if index is not None:
        return CutManifest(path, index, decode)
    clips = CutManifest(path, build_index(path, decode or decoded), decode)
    refuse_repeated(clips)
    if len(clips) > SMALL:
        save_index(path, clips.contents)
    return clips


def refuse_repeated(clips: Clips) -> None:
    """Refuse clips two of which have the same id.

    Raises:
        ManifestError: there are two; names their lines.
    """
    for first, second in repeated(clips.keys):
        cut, again = clips.cut(first), clips.cut(second)
        if cut.id == again.id:
            raise ManifestError(f"{again.where}: the id {cut.id!r} was used before, in {cut.where}")


def _write(path: Path, cuts: Iterable[Cut], writer: BlockWriter) -> tuple[Gathered, np.ndarray]:
    folder = os.path.abspath(path.parent)  # noqa: PTH100  # links stay as they are written
    gathered = Gathered()
    for number, cut in enumerate(cuts, start=1):
        where = f"{path}, line {number}"
        check_cut(cut, where)
        writer.write(json.dumps(_record(cut, folder, where), ensure_ascii=False).encode() + b"\n")
        gathered.add(cut)
        if number % LINES == 0:
            gathered.end_block(number)
    writer.flush()
    return gathered, np.array(writer.offsets, dtype=np.int64)


def _record(cut: Cut, folder: str, where: str) -> dict[str, Any]:
    for source in (source for track in tracks_of(cut) for source in track.recording.sources):
        if source.type != "file":
            raise ManifestError(f"{where}: cut {cut.id!r} holds audio in memory; a manifest names files")
    record = cut.to_dict()
    strip(record)
    for recording in recordings(record):
        for source in recording["sources"]:
            audio = os.path.abspath(source["source"])  # noqa: PTH100
            source["source"] = audio[len(folder) + 1 :] if audio.startswith(folder + os.sep) else audio
    return record
