"""Manifests elsewhere: Shar folders, and WebDataset tar files."""

from __future__ import annotations

from slap.core.bad_clip import BadClip
from slap.core.errors import UserError
from slap.datamodules.manifests.sequence import Clips
from slap.datamodules.remote.address import masked
from slap.datamodules.remote.clips import open_remote_shar
from slap.datamodules.remote.listing import listed
from slap.datamodules.remote.shards import listed_shards, ranged_shards
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
    if "?" in url:
        raise UserError(
            f"{masked(url)}: the address of shards or tar files has no query, since logs and checkpoints keep it, and "
            "the files of a folder would not have it; credentials come from the environment"
        )
    if url.endswith(TARS):
        return open_remote_tars(tars_named(url, roots), bad, captioned)
    shards = ranged_shards(url, roots)
    if shards is None:
        files = listed(url, roots)
        tars = tars_listed(files.values())
        if tars and not any(SHARD.fullmatch(name) for name in files):
            return open_remote_tars(tars, bad, captioned)
        shards = listed_shards(url, files)
    return open_remote_shar(shards, captioned)
