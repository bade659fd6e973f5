"""Shards of a Shar folder elsewhere, by a listing or by a range of numbers.

s3://bucket/train_shards                        an object store lists the folder
https://host/train_shards                       a web server shows an index page of it, with links
https://host/train_shards/{000000..000041}      or the numbers of the shards are given; nothing is listed
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from slap.core.errors import UserError
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.data_root import refuse_other_machines
from slap.datamodules.remote.address import WEB, joined, masked
from slap.datamodules.remote.download import attempted, look
from slap.datamodules.remote.errors import RemoteMissingError
from slap.datamodules.remote.store import RemoteFile, store_of
from slap.datamodules.shar.read import JOURNAL, pairs_of

ASKED = 16
"""Files that are asked for at the same time."""

MOST = 1_000_000
"""Shards that a range may have."""

_RANGE = re.compile(r"(?P<folder>.+)/\{(?P<first>\d+)\.\.(?P<last>\d+)\}")


@dataclass(frozen=True)
class RemoteShard:
    """A shard: the file of its cuts and the file of its audio."""

    cuts: RemoteFile
    audio: RemoteFile


def remote_shards(url: str, roots: tuple[str, ...]) -> list[RemoteShard]:
    """Return the shards of a folder, in the order of their numbers.

    Args:
        url: address of the folder, with a range of numbers after it or without.
        roots: the remote roots.

    Raises:
        ManifestError: nothing may be read there, there are no shards, or one lacks its cuts or its audio.
    """
    refuse_other_machines(url, roots)
    if "?" in url:
        raise UserError(f"{masked(url)}: the address of a Shar folder has no query; its files would not have it")
    if url.endswith(".tar"):
        raise ManifestError(
            f"{url}: tar files in the WebDataset format are read from this machine alone; of other machines Shar "
            "folders are read, as `slap pack` writes them from such tar files too"
        )
    ranged = _RANGE.fullmatch(url)
    if ranged:
        files = _looked_up(_names(ranged["first"], ranged["last"], url), ranged["folder"], roots)
    else:
        files = _listed(url, roots)
    return [RemoteShard(files[cuts], files[audio]) for cuts, audio in pairs_of(files, url)]


def _listed(url: str, roots: tuple[str, ...]) -> dict[str, RemoteFile]:
    store = store_of(url)
    try:
        listed = {file.name: file for file in attempted(url, lambda: store.files(url, roots))}
    except RemoteMissingError as error:
        hint = "; without an index page, give the numbers: FOLDER/{000000..000041}" if url.startswith(WEB) else ""
        raise RemoteMissingError(f"{error}{hint}") from error
    if JOURNAL in listed:
        raise ManifestError(f"{url} is not complete: it holds {JOURNAL}, which `slap pack` removes in the end")
    if not url.startswith(WEB):
        return listed
    return _looked_up([name for pair in pairs_of(listed, url) for name in pair], url, roots)


def _names(first: str, last: str, url: str) -> list[str]:
    """Return the names of the files of the shards from the first number to the last one, as wide as the first one."""
    numbers = range(int(first), int(last) + 1)
    if not 0 < len(numbers) <= MOST:
        raise UserError(f"{url}: a range goes from a number to a larger one, and has at most {MOST} shards")
    kinds = ("cuts.{}.jsonl.gz", "recording.{}.tar")
    return [kind.format(f"{number:0{len(first)}d}") for number in numbers for kind in kinds]


def _looked_up(names: Iterable[str], folder: str, roots: tuple[str, ...]) -> dict[str, RemoteFile]:
    """Return files by name, with size and version."""
    with ThreadPoolExecutor(ASKED, "look") as pool:
        found = pool.map(lambda name: (name, look(joined(folder, name), roots)), names)
        return dict(found)
