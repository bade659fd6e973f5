"""Manifests of Lhotse cuts of any size: an index in memory, and cuts that are decoded on access.

`write_cuts` writes cuts as `.jsonl.gz` in small gzip members, with an index beside it, `NAME.index`. Lhotse and any
gzip reader can read the manifest. A manifest without an index, or with one that does not fit, is read once, checked,
and indexed, see `slap.datamodules.manifests.cut_index`. If the index cannot be written beside the manifest, it is kept
in memory.

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

from slap.core.errors import UserError
from slap.core.files import atomic_write
from slap.datamodules.audio.load import mixed_down
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.columns import list_ignored
from slap.datamodules.manifests.cut_index import (
    SMALL,
    CutIndex,
    index_file,
    load_index,
    make_index,
    member_writer,
    save_index,
)
from slap.datamodules.manifests.index_file import LARGE
from slap.datamodules.manifests.lines import record_of
from slap.datamodules.manifests.safe_cuts import (
    FIELDS,
    check_cut,
    cut_of,
    kept,
    recordings,
    strip,
    tracks_of,
    with_segments_gathered,
)
from slap.datamodules.manifests.sequence import Clips, repeated

REMEMBERED = 64  # blocks whose cuts are kept in memory

SAME = 1e-6
"""Share of a duration by which that of an index may differ from it."""

Decode = Callable[[bytes, Path, int], Cut]
"""A function that returns the cut on a line, after checks, given the line, the path and the number of the line."""


class CutManifest(Clips):
    """The cuts of a manifest, as `read_manifest` returns them.

    It may be pickled, and used by any process, forked or spawned.

    Args:
        path: path of the manifest.
        index: index of the manifest.
        decode: decoder of lines; None is `decoded_cut`.
    """

    def __init__(self, path: Path, index: CutIndex, decode: Decode | None = None) -> None:
        self.path, self.cut_index, self._decode = path, index, decode
        self.durations, self.keys, self.tasks, self.parts = index.durations, index.keys, index.tasks, index.parts
        self.lasting, self.uncaptioned = self.keys, index.uncaptioned
        self._blocks: OrderedDict[int, list[tuple[int, Cut | bytes]]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_blocks": OrderedDict()}

    def cut(self, number: int) -> Cut:
        """Return the cut of a number, with the custom field `where`, the file and line that it came from.

        Raises:
            ManifestError: the manifest has changed, or the cut is not allowed.
        """
        block = int(np.searchsorted(self.cut_index.firsts, number, side="right")) - 1
        lines = self._block(block)
        place = number - int(self.cut_index.firsts[block])
        line, known = lines[place]
        if isinstance(known, bytes):
            known = (self._decode or decoded_cut)(known, self.path, line)
            if abs(known.duration - self.durations[number]) > SAME * max(known.duration, 1.0):
                raise ManifestError(
                    f"{self.path}, line {line}: the clip lasts {known.duration} s, but by the index beside it "
                    f"{self.durations[number]} s; remove {self.path}.index, and it is made again"
                )
            lines[place] = line, known
        return known

    def customs(self) -> Iterator[Mapping[str, Any]]:
        """Yield the custom fields of each cut, from the lines themselves: ten times as fast as from cuts."""
        if self._decode is not None:
            yield from super().customs()
            return
        number = 0
        for block, first in enumerate(self.cut_index.lines.tolist()):
            for place, line in enumerate(self.cut_index.read(block).split(b"\n"), start=first):
                if line.strip():
                    record = record_of(line, self.path, place, errors="surrogateescape")
                    yield self.cut(number).custom if "tracks" in record else kept(record.get("custom"))
                    number += 1

    def origins(self) -> np.ndarray:
        """Return the origins of the cuts."""
        return self.cut_index.origins

    def _block(self, block: int) -> list[tuple[int, Cut | bytes]]:
        """Return the cuts of a block with the numbers of their lines; those that are not decoded yet as text."""
        if block in self._blocks:
            self._blocks.move_to_end(block)
            return self._blocks[block]
        begin = int(self.cut_index.lines[block])
        try:
            text = self.cut_index.read(block)
        except (OSError, EOFError, zlib.error) as error:
            raise ManifestError(f"{self.path}, line {begin}: cannot be read any more: {error}") from error
        numbered = enumerate(text.split(b"\n"), start=begin)
        lines: list[tuple[int, Cut | bytes]] = [(number, line) for number, line in numbered if line.strip()]
        if len(lines) != self.cut_index.firsts[block + 1] - self.cut_index.firsts[block]:
            raise ManifestError(f"{self.path}, line {begin}: the manifest has changed since it was opened")
        self._blocks[block] = lines
        while len(self._blocks) > REMEMBERED:
            self._blocks.popitem(last=False)
        return lines


def decoded_cut(
    line: bytes,
    path: Path,
    number: int,
    roots: Sequence[str] = (),
    dropped: dict[str, None] | None = None,
    captioned: bool = True,
) -> Cut:
    """Decode and check the cut on a line of a manifest.

    Args:
        line: the line.
        path: path of the manifest.
        number: number of the line.
        roots: folders below which its audio must lie, if there are any.
        dropped: gets the names of its custom fields that are dropped.
        captioned: refuse a cut without captions.

    Raises:
        ManifestError: the line holds no cut, or one that is not allowed; names file and line.
    """
    where = f"{path}, line {number}"
    # Bytes of a caption that are not UTF-8 make the clip bad when it is loaded, and stop nothing here.
    record = record_of(line, path, number, errors="surrogateescape")
    cut = cut_of(record, path.parent, where, roots, dropped, captioned)
    custom = {"labels": {}, **kept(cut.custom), "where": where}
    # A mix has no custom fields of its own, so it becomes one track.
    if isinstance(cut, MixedCut):
        cut = mixed_down(cut)
    cut.custom = custom
    if not any(part.text for part in cut.supervisions):
        cut.supervisions = []
    return cut


def write_cuts(path: str | Path, cuts: Iterable[Cut]) -> Path:
    """Write cuts as a manifest that can be read lazily, with its index.

    Audio below the manifest's folder is written relative to it, so that the folder can move as a whole; other audio by
    its absolute path. Only the custom fields of `slap.datamodules.manifests.safe_cuts` are written. Each of the two
    files appears complete or not at all.

    Args:
        path: ends in .jsonl.gz; its folder is made when it is missing.
        cuts: cuts to write, any number, with audio in files; iterated once.

    Returns:
        The path.

    Raises:
        ManifestError: there are no cuts, reading would refuse one of them, or a cut holds audio in memory or has the id
            of another.
        ValueError: the path has another suffix.
    """
    path = Path(path)
    if not path.name.endswith(".jsonl.gz"):
        raise UserError(f"a manifest of cuts is written as .jsonl.gz, got {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "wb") as file:
        index = make_index(_lines(path, cuts), path, member_writer(file))
        if not len(index.durations):
            raise ManifestError(f"{path}: there are no cuts to write")
        file.flush()
        refuse_repeated(CutManifest(path, replace(index, path=Path(file.name))))
    save_index(path, index)
    return path


def open_cuts(path: Path, roots: Sequence[str] = (), captioned: bool = True) -> CutManifest:
    """Open a manifest of cuts by its index, which is made if there is none that fits.

    Args:
        path: path of the manifest.
        roots: folders below which audio must lie, see `slap.datamodules.manifests.data_root`. With an index, that is
            checked when a cut is decoded.
        captioned: refuse cuts without captions.

    Raises:
        ManifestError: the manifest has a fault, found when it was indexed.
    """
    lenient = partial(decoded_cut, roots=tuple(roots), captioned=False)
    decode = lenient if roots or not captioned else None
    clips = open_indexed(path, decode, partial(_indexed, path, lenient))
    if captioned:
        refuse_uncaptioned(clips)
    return clips


def _indexed(path: Path, decode: Callable[..., Cut]) -> CutIndex:
    """Index a manifest, and list the custom fields that are ignored in it."""
    dropped: dict[str, None] = {}
    index = index_file(path, partial(decode, dropped=dropped))
    if dropped:
        list_ignored(path, tuple(dropped), "custom fields", tuple(FIELDS))
    return index


def open_indexed(path: Path, decode: Decode | None, make: Callable[[], CutIndex], keep: bool = False) -> CutManifest:
    """Open a manifest by its index.

    Args:
        path: path of the manifest.
        decode: decoder of lines, see `CutManifest`.
        make: makes the index if there is none that fits.
        keep: keep the index beside the manifest even if that is small.

    Raises:
        ManifestError: two cuts have the same id, or `make` found another fault.
    """
    index = load_index(path)
    if index is not None:
        return CutManifest(path, index, decode)
    clips = CutManifest(path, make(), decode)
    refuse_repeated(clips)
    if keep or len(clips) > SMALL:
        save_index(path, clips.cut_index)
        if clips.durations.nbytes > LARGE and (kept := load_index(path)) is not None:
            return CutManifest(path, kept, decode)  # which holds less
    return clips


def refuse_uncaptioned(clips: CutManifest) -> None:
    """Refuse a manifest that has cuts without captions.

    Raises:
        ManifestError: there are such cuts; names the first.
    """
    for number in clips.uncaptioned[:1].tolist():
        cut = clips.cut(number)  # a strict decoder refuses it here
        raise ManifestError(
            f"{cut.custom['where']}: clip {cut.id!r} has no caption, as {len(clips.uncaptioned)} of {len(clips)}; "
            "audio without captions trains as `unlabelled`"
        )


def refuse_repeated(clips: Clips) -> None:
    """Refuse clips if two of them have the same id.

    Raises:
        ManifestError: two clips have the same id; names their lines.
    """
    for first, second in repeated(clips.keys):
        cut, again = clips.cut(first), clips.cut(second)
        if cut.id == again.id:
            raise ManifestError(f"{again.where}: the id {cut.id!r} was used before, in {cut.where}")


def _lines(path: Path, cuts: Iterable[Cut]) -> Iterator[tuple[bytes, Cut]]:
    """Yield the line of each cut, after checks, with the cut."""
    folder = os.path.abspath(path.parent)  # noqa: PTH100  # links stay as they are written
    for number, cut in enumerate(cuts, start=1):
        where = f"{path}, line {number}"
        cut = with_segments_gathered(cut, where)
        check_cut(cut, where)
        yield json.dumps(_record(cut, folder, where), ensure_ascii=False).encode() + b"\n", cut


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
