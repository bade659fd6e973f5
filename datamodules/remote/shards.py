"""Shards of a Shar folder elsewhere, by a listing or by a range of numbers.

s3://bucket/train_shards                        an object store lists the folder
https://host/train_shards                       a web server shows an index page of it, with links
https://host/train_shards/{000000..000041}      or the numbers of the shards are given; nothing is listed
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from slap.core.errors import UserError
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.remote.address import joined
from slap.datamodules.remote.listing import looked_up, sized
from slap.datamodules.remote.store import RemoteFile
from slap.datamodules.shar.read import JOURNAL, pairs_of

MOST = 1_000_000
"""Shards that a range may have."""

_RANGE = re.compile(r"(?P<folder>.+)/\{(?P<first>\d+)\.\.(?P<last>\d+)\}")


@dataclass(frozen=True)
class RemoteShard:
    """A shard: the file of its cuts and the file of its audio."""

    cuts: RemoteFile
    audio: RemoteFile


def ranged_shards(url: str, roots: tuple[str, ...]) -> list[RemoteShard] | None:
    """Return the shards of a folder by their numbers; None if its address ends with no range of numbers.

    Args:
        url: address of the folder.
        roots: the remote roots.

    Raises:
        ManifestError: nothing may be read there, or one lacks its cuts or its audio.
    """
    ranged = _RANGE.fullmatch(url)
    if ranged is None:
        return None
    names = _names(ranged["first"], ranged["last"], url)
    files = looked_up([joined(ranged["folder"], name) for name in names], roots)
    return [RemoteShard(cuts, audio) for cuts, audio in zip(files[::2], files[1::2], strict=True)]


def listed_shards(url: str, files: Mapping[str, RemoteFile]) -> list[RemoteShard]:
    """Return the shards of a folder, in the order of their numbers.

    Args:
        url: address of the folder, for messages.
        files: its files by name, see `slap.datamodules.remote.listing.listed`.

    Raises:
        ManifestError: there are no shards, or one lacks its cuts or its audio.
    """
    if JOURNAL in files:
        raise ManifestError(f"{url} is not complete: it holds {JOURNAL}, which `slap pack` removes in the end")
    whole = sized([files[name] for pair in pairs_of(files, url) for name in pair])
    return [RemoteShard(cuts, audio) for cuts, audio in zip(whole[::2], whole[1::2], strict=True)]


def _names(first: str, last: str, url: str) -> list[str]:
    """Return the names of the files of the shards from the first number to the last one, as wide as the first one."""
    numbers = range(int(first), int(last) + 1)
    if not 0 < len(numbers) <= MOST:
        raise UserError(f"{url}: a range goes from a number to a larger one, and has at most {MOST} shards")
    kinds = ("cuts.{}.jsonl.gz", "recording.{}.tar")
    return [kind.format(f"{number:0{len(first)}d}") for number in numbers for kind in kinds]
