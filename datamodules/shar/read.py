"""Folders in Lhotse's Shar format, as `slap pack` writes them: cuts and their audio in shards, the audio in tar files.

    train/cuts.000000.jsonl.gz   train/recording.000000.tar
    train/cuts.000001.jsonl.gz   train/recording.000001.tar   ...

A folder is indexed once, by the headers of its tar files. The sampler then needs no audio, and workers read audio where
it lies. The index is kept beside the folder, as `train.index` and `train.blocks` (inside, Lhotse would take them for
fields), see `slap.datamodules.manifests.cut_index`. Fields other than `recording` are not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from lhotse.cut import Cut, MixedCut

from slap.datamodules.audio.tar_member import TarMember, tar_members
from slap.datamodules.captions.validate import NO_TEXT
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.cut_index import CutIndex, index_copy
from slap.datamodules.manifests.cuts import CutManifest, open_indexed, refuse_uncaptioned
from slap.datamodules.manifests.data_root import refuse_elsewhere
from slap.datamodules.manifests.lines import Record, json_records
from slap.datamodules.manifests.safe_cuts import cut_of, kept, tracks_of
from slap.datamodules.shar.tar import MOST_TEXT

SHARD = re.compile(r"(?P<field>cuts(?=\..*jsonl)|recording(?=\..*tar))(\.(?P<number>.+))?\.(jsonl|jsonl\.gz|tar)")


JOURNAL = "packing.json"
"""A file in an unfinished folder, with the manifest and the settings that it is made with."""


def open_shar(folder: Path, captioned: bool = True, roots: Sequence[str] = ()) -> CutManifest:
    """Open the clips of a Shar folder, in the order of its shards.

    Args:
        folder: path of the folder.
        captioned: refuse clips without captions.
        roots: folders that the shards must lie in, links resolved, if any.

    Raises:
        ManifestError: the folder holds no Shar, a shard lies elsewhere, is cut off or does not fit its cuts, or a cut
            is not allowed.
    """
    shards = shards_of(folder)
    for file in chain.from_iterable(shards):
        refuse_elsewhere(str(file), roots, str(folder))
    clips = open_indexed(folder, decoded_member, lambda: _index(folder, shards))
    if captioned:
        refuse_uncaptioned(clips)
    return clips


def _index(folder: Path, shards: list[tuple[Path, Path]]) -> CutIndex:
    parts = [0]

    def lines() -> Iterator[tuple[bytes, Cut]]:
        for cuts, audio in shards:
            parts.append(parts[-1])
            for line in _lines(cuts, audio):
                parts[-1] += 1
                yield line, decoded_member(line, folder, parts[-1])

    return replace(index_copy(folder, lines()), parts=np.array(parts))


def shards_of(folder: Path) -> list[tuple[Path, Path]]:
    """Return the files of each shard of a Shar folder: that of its cuts and that of its audio.

    Raises:
        ManifestError: there are no shards, or one lacks its cuts or its audio.
    """
    if (folder / JOURNAL).exists():
        raise ManifestError(f"{folder} is not complete; give the same command of `slap pack` again, and it continues")
    pairs = pairs_of([path.name for path in folder.iterdir()], str(folder))
    return [(folder / cuts, folder / audio) for cuts, audio in pairs]


def pairs_of(names: Iterable[str], folder: str) -> list[tuple[str, str]]:
    """Return the names of the files of each shard, of its cuts and of its audio, among the names of a folder's files.

    Raises:
        ManifestError: there are no shards, or one lacks its cuts or its audio.
    """
    found: dict[str, dict[str, str]] = {"cuts": {}, "recording": {}}
    for name in sorted(names):
        named = SHARD.fullmatch(name)
        if named:
            found[named["field"]][named["number"] or ""] = name
    cuts, audio = found["cuts"], found["recording"]
    if not cuts:
        raise ManifestError(
            f"{folder} is no Shar folder: it holds no cuts.*.jsonl.gz with recording.*.tar; `slap pack` makes one"
        )
    if cuts.keys() != audio.keys():
        lost = [cuts.get(number) or audio[number] for number in sorted(cuts.keys() ^ audio.keys())]
        raise ManifestError(f"{folder}: shards that lack their cuts or their recording: {', '.join(lost)}")
    return [(name, audio[number]) for number, name in cuts.items()]


def _lines(cuts: Path, audio: Path) -> Iterator[bytes]:
    """Yield a line of the index for each cut of a shard: its places in both files, and its record."""
    members = tar_members(audio)
    for number, record in json_records(cuts):
        where = f"{cuts}, line {number}"
        data, about = next(members, None), next(members, None)
        if data is None or about is None:
            raise ManifestError(f"{audio} was cut off: it lacks the audio of {record.get('id')!r} ({where}) and after")
        name = data.name.rpartition(".")[0]
        if name != record.get("id"):
            raise ManifestError(f"{where}: cut {record.get('id')!r}, but its audio in {audio} is called {data.name!r}")
        if data.name.endswith(".nodata"):
            raise ManifestError(f"{where}: cut {record.get('id')!r} has no recording")
        place = {"cuts": cuts.name, "line": number, "tar": audio.name, "offset": data.offset_data, "size": data.size}
        record["recording"] = _about(audio, about.offset_data, about.size)
        yield index_line(place, record)
    if next(members, None) is not None:
        raise ManifestError(f"{cuts} was cut off: {audio} holds audio beyond its last cut")


def index_line(place: dict[str, Any], record: Record) -> bytes:
    """Return the line of the index for a cut: where it and its audio lie, and its record."""
    text = json.dumps([place, record], ensure_ascii=False)
    # Bytes that are not UTF-8 make the clip bad when it is loaded, and stop nothing here.
    return (json.dumps([place, record]) if NO_TEXT.search(text) else text).encode() + b"\n"


def _about(audio: Path, offset: int, size: int) -> Any:
    """Read the description of a recording in a shard."""
    if size > MOST_TEXT:
        raise ManifestError(f"{audio}: byte {offset}: {size} bytes to describe a recording are refused")
    try:
        return json.loads(TarMember("memory", [0], str(audio), offset=offset, size=size).read())
    except (OSError, ValueError, RecursionError) as error:
        raise ManifestError(f"{audio}: byte {offset} should describe a recording: {error}") from error


def decoded_member(line: bytes, folder: Path, number: int) -> Cut:
    """Decode and check the cut on a line of the index, with its audio in the tar file.

    Raises:
        ManifestError: the line holds no cut, or one that is not allowed; names the shard's file and the line in it.
    """
    try:
        place, record = json.loads(line)
        where = f"{folder / place['cuts']}, line {place['line']}"
        names, offset, size = (place["cuts"], place["tar"]), int(place["offset"]), int(place["size"])
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise ManifestError(f"{folder}.blocks, line {number} is damaged; remove it: {error}") from error
    for name in names:
        if Path(name).name != name:
            raise ManifestError(f"{where}: the file {name!r} is not in the folder")
    return cut_in_tar(record, TarMember("memory", [], str(folder / names[1]), offset=offset, size=size), where)


def cut_in_tar(record: Record, member: TarMember, where: str) -> Cut:
    """Return the cut that a record describes, with its audio in a tar file.

    Args:
        record: JSON object of the cut, with a placeholder for the audio; it is modified.
        member: the audio; it gets the channels of the placeholder.
        where: file and line, for messages.

    Raises:
        ManifestError: it is no cut, or one that is not allowed.
    """
    channels = _filled(record, where)
    cut = cut_of(record, Path(), where, captioned=False)
    member.channels = channels
    for track in tracks_of(cut):
        track.recording.sources = [member]
    cut.custom = {"labels": {}, **kept(cut.custom), "where": where}
    if not any(part.text for part in cut.supervisions):
        cut.supervisions = []
    return cut


def _filled(record: Record, where: str) -> list[int]:
    """Replace the placeholder of a recording by one that is allowed, and return its channels."""
    if record.get("type") == MixedCut.__name__:
        raise ManifestError(f"{where}: a MixedCut has no audio of its own in Shar; mix it before packing")
    try:
        (source,) = record["recording"]["sources"]
        if source["type"] not in ("shar", "memory"):
            raise ManifestError(
                f"{where}: a source of type {source['type']!r} is refused: audio in Shar lies in its tar file"
            )
        channels = [int(channel) for channel in source["channels"]]
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ManifestError):
            raise
        raise ManifestError(f"{where}: this is not a recording in Shar: {type(error).__name__}: {error}") from error
    record["recording"]["sources"] = [{"type": "memory", "channels": channels, "source": ""}]
    return channels
