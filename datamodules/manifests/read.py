"""Manifests: files that list clips with their audio files and captions.

Four kinds are read. In the first two, a row is an audio file with its caption.

- `.csv` or `.tsv` with a header, in upper or lower case. Columns `audio` and `caption`; several captions of a clip are
  in repeated rows or in columns caption_1, caption_2, ... Captions of another field are in `caption_<field>`, e.g.
  caption_tags; training can draw fields with probabilities of their own, and captions without a field have the field
  `caption`. Optional: `id`; `start` and either `end` or `duration`, in seconds, for a clip within a long file; `label`
  and `label_<task>` for the zero-shot tasks "label" and "<task>"; `tags` and `tags_<task>` where a clip may have
  several labels, as `dog;rain`; `fold`, a whole number, for cross-validation; `corpus`, `split`; `youtube` and
  `freesound`, the ids of the source of the audio; `segments`, see below, as JSON. An empty cell is a missing value, as
  is a caption that says NaN, null, None or n/a. Without any column of captions, captions are made of the labels.
- `.jsonl` with the same names as keys; `caption` may be a list, `fields` lists the field of each caption, `labels` is
  an object of task and label, `tags` a list or an object of task and list, and `origin` an object of site and id.
  `segments` lists phrases with the time in which each is heard (strong labels), in seconds from the begin of the clip,
  `[{"start": 0.5, "end": 1.2, "text": "a dog barks"}]`; an empty list says that none is, see `slap.core.segments`.
- `.jsonl` of Lhotse cuts, as `write_cuts` or Lhotse's `CutSet.to_file` writes them: each supervision's `text` is a
  caption, and the custom field `labels` maps tasks to labels. A cut keeps the channels that it names. Only plain
  files are allowed as sources. A supervision with the custom field `segment: true` is a segment, with its own start and
  duration. See `slap.datamodules.manifests.safe_cuts` for the other fields that are kept.
- a folder in Lhotse's Shar format, cuts and audio in shards, as `slap pack` writes it; see
  `slap.datamodules.shar.read`. It may lie in an object store or on a web server, see `slap.datamodules.remote.shards`.
- tar files in the WebDataset format: a folder of them, or `shards/{000..099}.tar`; see
  `slap.datamodules.webdataset.read`. They may lie elsewhere too, see `slap.datamodules.remote.tars`.
- a Hugging Face data set, `hf:data/clips?split=train`; see `slap.datamodules.huggingface.source`.

Other names of times are known (`start_time`, `begin`, `onset`, `end_time`, `stop`), and `offset` is the end beside an
`onset` and else the start. Columns with names of their own are given in `columns`. Any other column is ignored and
listed, unless it may change what is trained on: then it is refused, see `slap.datamodules.manifests.columns`. Cells are
separated by commas, semicolons, tabs or bars, and the text is UTF-8, or UTF-16 with a mark, as spreadsheets write them.

A clip without an `id` is called by the path of its file with all links resolved, and by its segment, so one file is one
clip in every manifest. A file whose name on the disk differs in upper and lower case, or in the encoding of accents, is
found if it is the only one, see `slap.datamodules.manifests.audio_files`.

A filter may follow the path: `all.csv#fold=1,2`; see `slap.datamodules.manifests.filters`.

The JSON kinds may be gzipped (`.jsonl.gz`). Relative paths start from the manifest's folder.

The first two kinds are held in memory, some 300 bytes per clip, and the headers of all files are read. Of cuts only an
index is in memory, 17 bytes per clip, so manifests of any size are read: see `slap.datamodules.manifests.cuts`. Faults
of a manifest are found when it is opened; a missing audio file of a cut is found when the clip is loaded, and
`slap.datamodules.bad_clips` handles it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lhotse.cut import Cut

from slap.audio.decoders import Header, measure
from slap.audio.errors import AudioError
from slap.audio.scan import scan
from slap.core.bad_clip import BadClip
from slap.datamodules.bad_clips import RowError, check_manifest
from slap.datamodules.huggingface.read import open_rows
from slap.datamodules.huggingface.source import is_huggingface
from slap.datamodules.manifests.clip import Clip, ManifestError, write_manifest
from slap.datamodules.manifests.clip_cut import unreadable
from slap.datamodules.manifests.columns import Columns
from slap.datamodules.manifests.cuts import open_cuts, write_cuts
from slap.datamodules.manifests.data_root import (
    Folders,
    RemoteRoots,
    refuse_elsewhere,
    resolved_remote_roots,
    resolved_roots,
)
from slap.datamodules.manifests.filters import filtered, split_filter
from slap.datamodules.manifests.lines import Record, json_records
from slap.datamodules.manifests.safe_cuts import is_cut
from slap.datamodules.manifests.sequence import ClipNames, Clips
from slap.datamodules.manifests.table_clips import TableBuilder, TableClips
from slap.datamodules.manifests.tables import CSV_SUFFIXES, SUFFIXES, clips_of, is_table, records_of
from slap.datamodules.remote.address import address, is_remote
from slap.datamodules.remote.manifest import open_remote
from slap.datamodules.shar.read import SHARD, open_shar
from slap.datamodules.webdataset.read import is_tars, open_tars

__all__ = ["Clip", "ManifestError", "captions_of", "read_manifest", "write_cuts", "write_manifest"]

MAX_BAD = 0.05  # default share of the clips of a table


def read_manifest(
    path: str | Path,
    max_bad: float = MAX_BAD,
    bad: list[BadClip] | None = None,
    data_root: Folders | None = None,
    columns: Columns | None = None,
    captioned: bool = True,
    remote_roots: RemoteRoots | None = None,
) -> Clips:
    """Read a manifest of any kind; the docstring of this module describes the kinds.

    Rows of a table whose clip cannot be used (its file is absent, unreadable, truncated or empty, it lies outside of
    the file, or its caption is empty or no text) are left out.

    Args:
        path: ends in .csv, .tsv, .jsonl or .jsonl.gz, or names a folder of shards, also by its address, tar files or a
            Hugging Face data set; a filter such as `#fold=1,2` may follow, see `slap.datamodules.manifests.filters`.
        max_bad: largest share of bad clips, 0 to 1.
        bad: a list to which the bad clips are appended.
        data_root: folders below which audio must lie; see `slap.datamodules.manifests.data_root`.
        columns: columns of a table whose names are not the known ones, {known name: column}; None as the column says
            that there is none. Cuts and shards have no columns.
        captioned: every clip needs a caption; one without is bad. Otherwise it has none, and a folder of audio files is
            a manifest too.
        remote_roots: addresses below which shards may be read from other machines; see
            `slap.datamodules.manifests.data_root`.

    Returns:
        A sequence with one cut per clip: its captions as the texts of its supervisions, the custom field `labels` (task
        to label), and the custom field `where`, the file and line that it came from.

    Raises:
        ManifestError: something is missing, empty, damaged or not allowed, or too many clips are bad; names the file,
            the line and what is accepted.
    """
    path, wanted = split_filter(Path(path))
    found: list[BadClip] = []
    if is_remote(path):
        clips: Clips = open_remote(address(path), resolved_remote_roots(remote_roots), found, captioned)
    else:
        clips = _opened(path, found, resolved_roots(data_root), columns, captioned)
    check_manifest(path, found, len(clips), max_bad)
    if bad is not None:
        bad += found
    if not len(clips):
        first = f"none of its {len(found)} clips can be used; {found[0].where}: {found[0].detail}" if found else ""
        raise ManifestError(f"{path}: {first or 'the manifest is empty'}")
    return filtered(clips, wanted, path) if wanted else clips


def read_names(path: str | Path, columns: Columns | None = None, captioned: bool = True) -> Clips | ClipNames:
    """Read the names of the clips of a manifest; of a table without a filter, no audio file is opened.

    Args:
        path: as of `read_manifest`.
        columns: as of `read_manifest`.
        captioned: as of `read_manifest`.

    Raises:
        ManifestError: as `read_manifest`.
    """
    table, wanted = split_filter(Path(path))
    if wanted or not table.is_file() or not is_table(table.name) or _holds_cuts(table):
        return read_manifest(path, max_bad=1.0, columns=columns, captioned=captioned)
    rows = clips_of(table, records_of(table, columns, captioned), [], captioned=captioned)
    return ClipNames([(clip.id, clip.origin) for _, clip in rows])


def _opened(path: Path, bad: list[BadClip], roots: Sequence[str], columns: Columns | None, captioned: bool) -> Clips:
    if is_huggingface(path):
        return open_rows(path, bad, columns, roots, captioned)
    is_shar = path.is_dir() and any(SHARD.fullmatch(file.name) for file in path.iterdir())
    if not is_shar and is_tars(path):
        return open_tars(path, bad, captioned, roots)
    if not path.is_dir():
        return _file(path, bad, roots, columns, captioned)
    if not captioned and not is_shar:
        return open_folder(path, bad, roots)
    return open_shar(path, captioned, roots)


def _file(path: Path, bad: list[BadClip], roots: Sequence[str], columns: Columns | None, captioned: bool) -> Clips:
    if not is_table(path.name):
        raise ManifestError(f"{path}: the name of a manifest ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise ManifestError(f"{path}: there is no such manifest")
    if _holds_cuts(path):
        return open_cuts(path, roots, captioned)
    return _table(path, records_of(path, columns, captioned), bad, roots, captioned)


def _holds_cuts(path: Path) -> bool:
    """Return True if a file holds Lhotse's cuts, not the rows of a table."""
    first = None if is_table(path.name, CSV_SUFFIXES) else next(json_records(path), None)
    return first is not None and is_cut(first[1])


def captions_of(cuts: Iterable[Cut]) -> Iterator[str]:
    """Yield all captions of cuts, in order, those of each cut with the phrases of its segments after them."""
    for cut in cuts:
        for supervision in cut.supervisions:
            yield supervision.text
        for segment in (cut.custom or {}).get("segments") or ():
            yield segment["text"]


def open_folder(folder: Path, bad: list[BadClip], roots: Sequence[str] = ()) -> Clips:
    """Open the audio files below a folder, in the order of their names, as clips without captions."""
    table = TableBuilder(str(folder))
    for found in scan(folder):
        audio = os.path.realpath(folder / found.path)
        refuse_elsewhere(audio, roots, str(folder))
        _add(table, Clip(audio, audio, ()), _header(audio), 0, found.path, bad)
    return TableClips(table)


def _table(
    path: Path, records: Iterable[tuple[int, Record]], bad: list[BadClip], roots: Sequence[str], captioned: bool
) -> Clips:
    headers: dict[str, Header | AudioError] = {}  # clips of one long file share its header
    table = TableBuilder(str(path))
    folder = os.path.realpath(path.parent) + os.sep
    clips = clips_of(path, records, bad, captioned=captioned)
    clips.reverse()
    while clips:  # each is forgotten at once
        line, clip = clips.pop()
        audio = str(clip.audio)
        refuse_elsewhere(audio, roots, f"{path}, line {line}")
        if audio not in headers:
            headers[audio] = _header(audio)
        _add(table, clip, headers[audio], line, clip.id.removeprefix(folder), bad)
    return TableClips(table)


def _add(
    table: TableBuilder, clip: Clip, header: Header | AudioError, line: int, name: str, bad: list[BadClip]
) -> None:
    """Add a clip to a table, or to the list of bad clips."""
    try:
        if isinstance(header, AudioError):
            raise unreadable(clip, header, f"{table.where}, line {line}" if line else str(clip.audio))
        table.add(clip, header, line, name)
    except RowError as error:
        bad.append(error.bad)


def _header(audio: str) -> Header | AudioError:
    """Return the header of a file, or the error if it cannot be read."""
    try:
        return measure(audio)
    except AudioError as error:
        return error
