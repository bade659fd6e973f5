"""Clips of a Shar folder elsewhere: the cuts are read when it is opened, and a tar file when a clip in it is needed.

An index of the cuts is kept, see `slap.datamodules.remote.indexes`.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from lhotse.cut import Cut

from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.cut_index import CutIndex, index_copy
from slap.datamodules.manifests.cuts import CutManifest, Decode, open_indexed, refuse_uncaptioned
from slap.datamodules.manifests.lines import json_records
from slap.datamodules.remote.cache import copy_of, fetched
from slap.datamodules.remote.indexes import listing_of
from slap.datamodules.remote.member import RemoteSharMember
from slap.datamodules.remote.shards import RemoteShard
from slap.datamodules.remote.store import RemoteFile
from slap.datamodules.shar.read import cut_in_tar, index_line

FETCHED = 8
"""Files of cuts that are fetched at the same time."""


class RemoteClips(CutManifest):
    """Clips whose audio lies in shards elsewhere.

    Args:
        path: file with the list of the shards, beside which the index lies.
        index: index of the cuts.
        decode: decoder of its lines.
        shards: the shards.
    """

    remote = True

    def __init__(self, path: Path, index: CutIndex, decode: Decode, shards: Sequence[RemoteShard]) -> None:
        super().__init__(path, index, decode)
        assert index.parts is not None
        self.shards, self._firsts = shards, index.parts.tolist()

    def shard(self, number: int) -> RemoteFile | None:
        """Return the tar file with the audio of a clip."""
        return self.shards[bisect_right(self._firsts, number) - 1].audio

    def near(self, number: int) -> range | None:
        """Return the clips in the shard of a clip and in the two beside it."""
        return neighbors(self._firsts, number)


def neighbors(firsts: Sequence[int], number: int) -> range:
    """Return the clips in the shard of a clip and in the two beside it.

    Args:
        firsts: numbers of the first clips of the shards, ascending from 0, and the number of clips.
        number: of the clip.
    """
    shard = bisect_right(firsts, number) - 1
    return range(firsts[max(shard - 1, 0)], firsts[min(shard + 2, len(firsts) - 1)])


def open_remote_shar(shards: Sequence[RemoteShard], captioned: bool = True) -> RemoteClips:
    """Open the clips of a Shar folder elsewhere, in the order of its shards.

    Args:
        shards: the shards, see `slap.datamodules.remote.shards`.
        captioned: refuse clips without captions.

    Raises:
        ManifestError: a file of cuts cannot be fetched, or a cut is not allowed.
    """
    decode = partial(decoded_remote, shards=shards)
    listing = listing_of([file for shard in shards for file in (shard.cuts, shard.audio)])
    opened = open_indexed(listing, decode, lambda: _index(listing, shards, decode))
    clips = RemoteClips(listing, opened.cut_index, decode, shards)
    if captioned:
        refuse_uncaptioned(clips)
    return clips


def _index(listing: Path, shards: Sequence[RemoteShard], decode: Decode) -> CutIndex:
    parts = [0]

    def lines() -> Iterator[tuple[bytes, Cut]]:
        with ThreadPoolExecutor(FETCHED, "fetch") as pool:
            for number, file in enumerate(pool.map(fetched, [shard.cuts for shard in shards])):
                parts.append(parts[-1])
                for line in _lines(file, number):
                    parts[-1] += 1
                    yield line, decode(line, listing, parts[-1])

    return replace(index_copy(listing, lines()), parts=np.array(parts))


def _lines(file: RemoteFile, shard: int) -> Iterator[bytes]:
    """Yield a line of the index for each cut of a shard: its places in both files, and its record."""
    path = copy_of(file)
    try:
        for position, (number, record) in enumerate(json_records(path)):
            yield index_line({"shard": shard, "line": number, "number": position}, record)
    except ManifestError as error:
        raise ManifestError(str(error).replace(str(path), str(file))) from error


def decoded_remote(line: bytes, listing: Path, number: int, shards: Sequence[RemoteShard]) -> Cut:  # noqa: ARG001
    """Decode and check the cut on a line of the index, with its audio in the tar file of its shard.

    Raises:
        ManifestError: the line holds no cut, or one that is not allowed; names the shard's file and the line in it.
    """
    place, record = json.loads(line)
    shard = shards[place["shard"]]
    member = RemoteSharMember(
        "memory", [], str(shard.audio), file=shard.audio, number=place["number"], clip=record.get("id", "")
    )
    return cut_in_tar(record, member, f"{shard.cuts}, line {place['line']}")
