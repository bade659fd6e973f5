"""Folders in Lhotse's Shar format, as `slap pack` writes them: cuts and their audio in shards, the audio in tar files.

    train/cuts.000000.jsonl.gz   train/recording.000000.tar
    train/cuts.000001.jsonl.gz   train/recording.000001.tar   ...

A folder is walked through once, by the headers of its tar files. What cuts say and where their audio lies is then known
to the sampler without the audio, and workers read audio where it lies. The index is kept beside the folder, as
`train.index` and `train.blocks` (inside, Lhotse would take them for fields), like that of
`slap.datamodules.manifests.cuts`.
Fields other than `recording` are not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lhotse.cut import Cut, MixedCut

from slap.datamodules.audio.tar_member import TarMember, tar_members
from slap.datamodules.captions.validate import NO_TEXT
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.cut_index import SMALL, build_copied, load_index, save_index
from slap.datamodules.manifests.cuts import CutManifest, refuse_repeated
from slap.datamodules.manifests.safe_cuts import cut_of, kept, tracks_of
from slap.datamodules.manifests.tables import Record, json_records

SHARD = re.compile(r"(?P<field>cuts(?=\..*jsonl)|recording(?=\..*tar))(\.(?P<number>.+))?\.(jsonl|jsonl\.gz|tar)")

MOST_TEXT = 1 << 24  # bytes by which a recording may be described

JOURNAL = "packing.json"
"""A file in a folder that is not complete yet: what it is made of, and how."""


def open_shar(folder: Path) -> CutManifest:
    """The clips of a Shar folder, in the order of its shards.

    Raises:
        ManifestError: it is none, a shard is cut off or does not fit its cuts, or something in it is not allowed.
    """
    shards = shards_of(folder)
    index = load_index(folder)
    if index is not None:
        return CutManifest(folder, index, decoded_member)
    parts = (_lines(*shard) for shard in shards)
    clips = CutManifest(folder, build_copied(folder, parts, decoded_member), decoded_member)
    refuse_repeated(clips)
    if len(clips) > SMALL:
        save_index(folder, clips.contents)
    return clips


def shards_of(folder: Path) -> list[tuple[Path, Path]]:
    """The files of each shard of a Shar folder: those of its cuts and of its audio.

    Raises:
        ManifestError: there are none, or one lacks its other file.
    """
    if (folder / JOURNAL).exists():
        raise ManifestError(f"{folder} is not complete; give `slap pack` the same command again, and it goes on")
    found: dict[str, dict[str, Path]] = {"cuts": {}, "recording": {}}
    for path in sorted(folder.iterdir()):
        named = SHARD.fullmatch(path.name)
        if named:
            found[named["field"]][named["number"] or ""] = path
    cuts, audio = found["cuts"], found["recording"]
    if not cuts:
        raise ManifestError(
            f"{folder}: a folder as a manifest holds Shar, cuts.*.jsonl.gz with recording.*.tar; `slap pack` makes one"
        )
    if cuts.keys() != audio.keys():
        lost = [str((cuts.get(number) or audio[number]).name) for number in sorted(cuts.keys() ^ audio.keys())]
        raise ManifestError(f"{folder}: shards that lack their cuts or their recording: {', '.join(lost)}")
    return [(path, audio[number]) for number, path in cuts.items()]


def _lines(cuts: Path, audio: Path) -> Iterator[bytes]:
    """For each cut of a shard a line that says all: where it stands, where its audio lies, and what it is."""
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
        text = json.dumps([place, record], ensure_ascii=False)
        # Bytes that are not UTF-8 make the clip bad when it is loaded, and stop nothing here.
        yield (json.dumps([place, record]) if NO_TEXT.search(text) else text).encode() + b"\n"
    if next(members, None) is not None:
        raise ManifestError(f"{cuts} was cut off: {audio} holds audio beyond its last cut")


def _about(audio: Path, offset: int, size: int) -> Any:
    """What a shard says of a recording."""
    if size > MOST_TEXT:
        raise ManifestError(f"{audio}: byte {offset}: {size} bytes to describe a recording are refused")
    try:
        return json.loads(TarMember("memory", [0], str(audio), offset=offset, size=size).read())
    except (OSError, ValueError, RecursionError) as error:
        raise ManifestError(f"{audio}: byte {offset} should describe a recording: {error}") from error


def decoded_member(line: bytes, folder: Path, number: int) -> Cut:
    """The cut that a line of the index's blocks holds, checked, with its audio where it lies.

    Raises:
        ManifestError: it is not a cut, or not one that is allowed; names the shard's file and the line in it.
    """
    del number
    place, record = json.loads(line)
    where = f"{folder / place['cuts']}, line {place['line']}"
    channels = _filled(record, where)
    cut = cut_of(record, folder, where)
    for name in (place["cuts"], place["tar"]):
        if Path(name).name != name:
            raise ManifestError(f"{where}: the file {name!r} is not in the folder")
    tar = str(folder / place["tar"])
    for track in tracks_of(cut):
        track.recording.sources = [TarMember("memory", channels, tar, offset=place["offset"], size=place["size"])]
    cut.custom = {"labels": {}, **kept(cut.custom), "where": where}
    return cut


def _filled(record: Record, where: str) -> list[int]:
    """Make the placeholder of a recording one that is allowed, and say which channels it has."""
    if record.get("type") == MixedCut.__name__:
        raise ManifestError(f"{where}: a MixedCut has no audio of its own in Shar; it must be mixed before")
    try:
        (source,) = record["recording"]["sources"]
        if source["type"] not in ("shar", "memory"):
            raise ManifestError(f"{where}: a source of type {source['type']!r} is refused: audio in Shar is in its tar")
        channels = [int(channel) for channel in source["channels"]]
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ManifestError):
            raise
        raise ManifestError(f"{where}: this is not a recording in Shar: {type(error).__name__}: {error}") from error
    record["recording"]["sources"] = [{"type": "memory", "channels": channels, "source": ""}]
    return channels
