"""Files of a folder elsewhere: those that its place lists, or those of given names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from slap.datamodules.manifests.data_root import refuse_other_machines
from slap.datamodules.remote.address import WEB
from slap.datamodules.remote.cache import found
from slap.datamodules.remote.download import attempted
from slap.datamodules.remote.errors import RemoteMissingError
from slap.datamodules.remote.store import RemoteFile
from slap.datamodules.remote.stores import store_of

ASKED = 16
"""Files that are asked for at the same time."""


def listed(url: str, roots: tuple[str, ...]) -> dict[str, RemoteFile]:
    """Return the files of a folder by name; those of a web server have no size yet, see `sized`.

    Args:
        url: address of the folder.
        roots: the remote roots.

    Raises:
        ManifestError: nothing may be read there, or the folder cannot be listed.
    """
    refuse_other_machines(url, roots)
    store = store_of(url)
    try:
        return {file.name: file for file in attempted(url, lambda: store.files(url, roots))}
    except RemoteMissingError as error:
        hint = "; without an index page, give the numbers: FOLDER/{000000..000041}, or FOLDER/{000..041}.tar"
        raise RemoteMissingError(f"{error}{hint if url.startswith(WEB) else ''}") from error


def sized(files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """Return files of a listing with size and version, which a web server is asked for."""
    if not files or not files[0].url.startswith(WEB):
        return list(files)
    return looked_up([file.url for file in files], files[0].roots)


def looked_up(urls: Iterable[str], roots: tuple[str, ...]) -> list[RemoteFile]:
    """Return files by their addresses, with size and version.

    Raises:
        ManifestError: one of them does not exist, or may not be read.
    """
    with ThreadPoolExecutor(ASKED, "look") as pool:
        return list(pool.map(lambda url: found(url, roots), urls))
