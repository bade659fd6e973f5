"""Tar files in the WebDataset format as a manifest: indexed once, and their audio read where it lies.

A folder of tar files, one of them, or several by a pattern, `shards/{000..099}.tar`. Each is read once from its
beginning to its end, which takes as long as the disk takes; what is found is kept beside it, as `000.tar.index` and
`000.tar.blocks`, see `slap.datamodules.manifests.cut_index`. A tar file whose size or time has changed is read again.

A clip is called `FOLDER/TAR/KEY`. Reading stays within few tar files at a time, and processes read different ones
(`slap.datamodules.sampling.epoch`).
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from glob import glob
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from lhotse import Recording
from lhotse.cut import Cut

from slap.audio.decoders import measure
from slap.audio.errors import AudioError
from slap.audio.scan import is_audio
from slap.core.bad_clip import BadClip, Reason
from slap.core.errors import UserError
from slap.datamodules.audio.decode import LARGEST, MEGABYTE
from slap.datamodules.audio.tar_member import TarMember, tar_members
from slap.datamodules.manifests.clip import Clip, ManifestError
from slap.datamodules.manifests.clip_cut import cut_of_clip
from slap.datamodules.manifests.cut_index import CutIndex, index_copy
from slap.datamodules.manifests.cuts import CutManifest, open_indexed
from slap.datamodules.manifests.lines import Record
from slap.datamodules.manifests.sequence import Clips, ConcatClips, without_uncaptioned
from slap.datamodules.manifests.tables import check_text, clip_of
from slap.datamodules.shar.tar import MOST_TEXT
from slap.datamodules.webdataset.samples import TARS, TEXTS, expanded, natural, record_of_sample, split_name, tars_in

NO_CAPTION = "no caption: the sample has neither text in a .json, nor a .txt, nor a .cls that names a class"

log = logging.getLogger(__name__)


class TarClips(ConcatClips):
    """The clips of several tar files, each of which is a part that lies together."""

    def __init__(self, tars: Sequence[CutManifest]) -> None:
        super().__init__(tars)
        self.parts = np.unique(self.firsts)


def is_tars(path: Path) -> bool:
    """Return True if a path names tar files: by its suffix, or as a folder that holds some."""
    return bool(tars_in(path)) if path.is_dir() else path.name.endswith(TARS)


def open_tars(path: Path, bad: list[BadClip], captioned: bool = True) -> Clips:
    """Open the clips of tar files, in the order of the files and of the audio in them.

    Args:
        path: a tar file, a folder of them, or a pattern with braces or asterisks.
        bad: a list to which the bad clips are appended.
        captioned: clips without captions are bad.

    Raises:
        ManifestError: there is no such file, or one is compressed, damaged or cut off.
    """
    paths = _named(path)
    tars = []
    for number, tar in enumerate(paths, start=1):
        tars.append(open_indexed(tar, decoded_sample, lambda tar=tar: _index(tar), keep=True))  # type: ignore[misc]
        bad += tars[-1].cut_index.bad
        log.info("%s: %d clips (tar file %d of %d)", tar, len(tars[-1]), number, len(paths))
    clips = TarClips(tars)
    return without_uncaptioned(clips, bad, NO_CAPTION) if captioned else clips


def _named(path: Path) -> list[Path]:
    """Return the tar files that a path or a pattern names."""
    if path.is_dir():
        found = tars_in(path)
    else:
        found = []
        for name in [str(path)] if path.exists() else expanded(str(path)):
            matching = [Path(name)] if Path(name).exists() else sorted(map(Path, glob(name)), key=natural)  # noqa: PTH207
            if not matching:
                raise ManifestError(f"{path}: there is no tar file {name}")
            found += matching
    for tar in found:
        if tar.suffix != ".tar":
            raise ManifestError(
                f"{tar} is compressed, so its members cannot be read in place; decompress it (gunzip), or unpack the "
                "corpus with `slap prepare webdataset`"
            )
    return found


@dataclass
class _Sample:
    """A sample of a tar file: the member that is its audio, and those that describe it."""

    audio: tuple[str, int, int] | None = None
    texts: dict[str, tuple[int, int]] = field(default_factory=dict)


def _index(tar: Path) -> CutIndex:
    bad: list[BadClip] = []

    def lines() -> Iterator[tuple[bytes, Cut]]:
        with tar.open("rb") as file:
            for number, (key, sample) in enumerate(_samples(tar).items(), start=1):
                record = _record(tar, file, key, sample, bad)
                if record is not None:
                    line = json.dumps(record).encode() + b"\n"
                    yield line, decoded_sample(line, tar, number)

    return replace(index_copy(tar, lines(), keep=True), bad=tuple(bad))


def _samples(tar: Path) -> dict[str, _Sample]:
    """Return the samples of a tar file that have audio, by key, in the order of their first members."""
    samples: dict[str, _Sample] = {}
    passed_over: Counter[str] = Counter()
    for member in tar_members(tar):
        key, suffix = split_name(member.name)
        place = member.offset_data, member.size
        if suffix in TEXTS:
            samples.setdefault(key, _Sample()).texts.setdefault(suffix, place)
        elif is_audio(f"name.{suffix}"):
            sample = samples.setdefault(key, _Sample())
            sample.audio = sample.audio or (member.name, *place)
        else:
            passed_over[suffix] += 1
    if passed_over:
        kinds = ", ".join(f"{count} .{suffix}" for suffix, count in passed_over.most_common())
        log.info("%s: members passed over: %s", tar, kinds)
    return {key: sample for key, sample in samples.items() if sample.audio is not None}


def _record(tar: Path, file: IO[bytes], key: str, sample: _Sample, bad: list[BadClip]) -> Record | None:
    """Return the line of the index for a sample; None if it is bad."""
    assert sample.audio is not None
    member, offset, size = sample.audio
    name, where = f"{tar.resolve().parent.name}/{tar.stem}/{key}", f"{tar}: {member}"
    try:
        record = record_of_sample(_texts(file, sample))
        check_text(record)
        clip = clip_of(record, member, name, captioned=False)
        if size > LARGEST:
            raise AudioError(f"{size / MEGABYTE:.0f} MB", "too_large")
        header = measure(BytesIO(_read(file, offset, size)), where)
        about = {"rate": header.rate, "frames": header.frames, "channels": header.channels}
    except (AudioError, UserError, TypeError) as error:
        reason: Reason = error.reason if isinstance(error, AudioError) else "caption"
        bad.append(BadClip(name, reason, str(error), where, where))
        return None
    described: dict[str, Any] = {
        "captions": clip.captions,
        "fields": clip.fields,
        "labels": clip.labels,
        "tags": clip.tags,
    }
    return {"id": name, "member": member, "offset": offset, "size": size, **about, **described}


def _texts(file: IO[bytes], sample: _Sample) -> dict[str, bytes]:
    found = {}
    for suffix, (offset, size) in sample.texts.items():
        if size > MOST_TEXT:
            raise ManifestError(f"a .{suffix} of {size} bytes; at most {MOST_TEXT} are read")
        found[suffix] = _read(file, offset, size)
    return found


def _read(file: IO[bytes], offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def decoded_sample(line: bytes, tar: Path, number: int) -> Cut:
    """Return the cut on a line of the index, with its audio in the tar file.

    Raises:
        ManifestError: the line is damaged.
    """
    try:
        about = json.loads(line)
        clip = Clip(about["id"], about["member"], about["captions"], about["labels"], tags=about["tags"])
        clip = replace(clip, fields=about["fields"])
        channels = list(range(about["channels"]))
        source = TarMember("memory", channels, str(tar), offset=int(about["offset"]), size=int(about["size"]))
        recording = Recording(clip.id, [source], about["rate"], about["frames"], about["frames"] / about["rate"])
        cut = cut_of_clip(clip, recording, recording.duration)
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise ManifestError(f"{tar}.blocks, line {number} is damaged; remove it: {error}") from error
    cut.custom = {"labels": {}, **cut.custom, "where": f"{tar}: {clip.audio}"}
    return cut
