"""Manifests elsewhere: Shar folders, and WebDataset tar files."""

from __future__ import annotations

from slap.core.bad_clip import BadClip
from slap.core.errors import UserError
from slap.datamodules.manifests.sequence import Clips
from slap.datamodules.remote.address import masked
from slap.datamodules.remote.clips import open_remote_shar
from slap.datamodules.remote.listing import listed
from slap.datamodules.remote.shards import RemoteShard, listed_shards, ranged_shards
from slap.datamodules.remote.store import RemoteFile
from slap.datamodules.remote.tars import open_remote_tars, tars_listed, tars_named
from slap.datamodules.shar.read import SHARD
from slap.datamodules.webdataset.samples import TARS


def open_remote(url: str, roots: tuple[str, ...], bad: list[BadClip], captioned: bool = True) -> Clips:
    """Open the clips of a Shar folder or of tar files elsewhere, in the order of shards or tar files.

    Args:
        url: address, as `slap.datamodules.remote.shards` and `slap.datamodules.remote.tars` describe it.
        roots: the remote roots.
        bad: a list to which the bad clips are appended.
        captioned: clips without captions are bad, and in Shar refused.

    Raises:
        ManifestError: nothing may be read there, there is neither kind, or it cannot be used.
        UserError: the address has a query.
    """
    tars, shards = shards_at(url, roots)
    return open_remote_tars(tars, bad, captioned) if tars else open_remote_shar(shards, captioned)


def files_at(url: str, roots: tuple[str, ...]) -> list[RemoteFile]:
    """Return all files of the shards, or the tar files, at an address; raises what `open_remote` does."""
    tars, shards = shards_at(url, roots)
    return tars or [file for shard in shards for file in (shard.cuts, shard.audio)]


def shards_at(url: str, roots: tuple[str, ...]) -> tuple[list[RemoteFile], list[RemoteShard]]:
    """Return the tar files at an address, and the shards of the Shar folder there; one of the two is empty.

    Raises:
        ManifestError: nothing may be read there, or there is neither kind.
        UserError: the address has a query.
    """
    if "?" in url:
        raise UserError(
            f"{masked(url)}: the address of shards or tar files has no query, since logs and checkpoints keep it, and "
            "the files of a folder would not have it; credentials come from the environment"
        )
    if url.endswith(TARS):
        return tars_named(url, roots), []
    shards = ranged_shards(url, roots)
    if shards is not None:
        return [], shards
    files = listed(url, roots)
    is_shar = any(SHARD.fullmatch(name) for name in files)
    tars = [] if is_shar else tars_listed(files.values())
    return (tars, []) if tars else ([], listed_shards(url, files))
