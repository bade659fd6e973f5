"""The index of a tar file in the WebDataset format: its samples, checked once, and a cut for each of them.

A line of the index holds the place of a sample's audio in the tar file, the properties of that audio, and its captions
and labels. A clip is called `FOLDER/TAR/KEY`.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from lhotse import Recording
from lhotse.cut import Cut

from slap.audio.decoders import measure
from slap.audio.errors import AudioError
from slap.audio.scan import is_audio
from slap.core.bad_clip import BadClip, Reason
from slap.core.errors import UserError
from slap.datamodules.audio.decode import LARGEST, MEGABYTE
from slap.datamodules.audio.tar_member import TarMember, open_tar, tar_members
from slap.datamodules.manifests.clip import Clip, ManifestError
from slap.datamodules.manifests.clip_cut import cut_of_clip
from slap.datamodules.manifests.cut_index import CutIndex, index_copy
from slap.datamodules.manifests.cuts import Decode
from slap.datamodules.manifests.lines import Record
from slap.datamodules.manifests.tables import check_text, clip_of
from slap.datamodules.shar.tar import MOST_TEXT
from slap.datamodules.webdataset.samples import TEXTS, record_of_sample, split_name

log = logging.getLogger(__name__)


def decoder_of(tar: TarMember) -> Decode:
    """Return the decoder of the lines of the index of a tar file.

    Args:
        tar: a source in that file, which serves as the pattern of all others.
    """
    return partial(decoded_sample, tar=tar)


def index_samples(path: Path, beside: Path, tar: TarMember, name: str) -> CutIndex:
    """Read a tar file from its beginning to its end, and index its samples.

    Args:
        path: the tar file on this machine.
        beside: path of the file beside which the index is kept.
        tar: a source in the tar file, which serves as the pattern of all others; messages show its `source`.
        name: begin of the ids of the clips, `FOLDER/TAR`.

    Raises:
        ManifestError: it is no tar file, or damaged or cut off.
    """
    bad: list[BadClip] = []

    def lines() -> Iterator[tuple[bytes, Cut]]:
        samples = _samples(path, tar)
        with open_tar(path, tar.copied) as file:
            for number, (key, sample) in enumerate(samples.items(), start=1):
                record = _record(f"{name}/{key}", file, sample, tar.source, bad)
                if record is not None:
                    line = json.dumps(record).encode() + b"\n"
                    yield line, decoded_sample(line, beside, number, tar)

    return replace(index_copy(beside, lines(), keep=True), bad=tuple(bad))


@dataclass
class _Sample:
    """A sample of a tar file: the member that is its audio, and those that describe it."""

    audio: tuple[str, int, int] | None = None
    texts: dict[str, tuple[int, int]] = field(default_factory=dict)


def _samples(path: Path, tar: TarMember) -> dict[str, _Sample]:
    """Return the samples of a tar file that have audio, by key, in the order of their first members."""
    samples: dict[str, _Sample] = {}
    passed_over: Counter[str] = Counter()
    for member in tar_members(path, tar.copied):
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
        log.info("%s: members passed over: %s", tar.source, kinds)
    return {key: sample for key, sample in samples.items() if sample.audio is not None}


def _record(name: str, file: IO[bytes], sample: _Sample, shown: str, bad: list[BadClip]) -> Record | None:
    """Return the line of the index for a sample; None if it is bad."""
    assert sample.audio is not None
    member, offset, size = sample.audio
    where = f"{shown}: {member}"
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


def decoded_sample(line: bytes, path: Path, number: int, tar: TarMember) -> Cut:
    """Return the cut on a line of the index, with its audio in the tar file.

    Args:
        line: the line.
        path: path of the file beside which the index is kept.
        number: number of the line.
        tar: pattern of the source, see `index_samples`.

    Raises:
        ManifestError: the line is damaged.
    """
    try:
        about = json.loads(line)
        clip = Clip(about["id"], about["member"], about["captions"], about["labels"], tags=about["tags"])
        clip = replace(clip, fields=about["fields"])
        channels = list(range(about["channels"]))
        source = tar.at(channels, int(about["offset"]), int(about["size"]))
        recording = Recording(clip.id, [source], about["rate"], about["frames"], about["frames"] / about["rate"])
        cut = cut_of_clip(clip, recording, recording.duration)
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise ManifestError(f"{path}.blocks, line {number} is damaged; remove it: {error}") from error
    cut.custom = {"labels": {}, **cut.custom, "where": f"{tar.source}: {clip.audio}"}
    return cut
