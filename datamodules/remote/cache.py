"""The cache: copies of files from elsewhere in a folder on disk, shared by all processes of a machine.

    NAME-SIZE-shard.tar         a complete copy; NAME is made of address, size and version, so a changed file is another
    NAME-SIZE-shard.tar.part    one that is being fetched, or that waits to be continued

A process that fetches a file holds an exclusive lock on it, and others wait for it instead of fetching it too. One that
reads a copy holds a shared lock on it, so that it is not removed meanwhile. The system releases the locks of a process
that ends, however it ends. When the cache is full, copies are removed, those that were not read for longest first;
those in use stay, even if the cache then becomes larger than it should.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from hashlib import blake2b
from pathlib import Path

from slap.datamodules.manifests.data_root import RemoteRoots, refuse_other_machines, resolved_remote_roots
from slap.datamodules.remote.address import address
from slap.datamodules.remote.download import download, look
from slap.datamodules.remote.errors import RemoteError
from slap.datamodules.remote.room import PART, locked, make_room
from slap.datamodules.remote.settings import cache_folder
from slap.datamodules.remote.store import RemoteFile
from slap.datamodules.remote.uses import uses

log = logging.getLogger(__name__)

REMEMBERED = 300.0
"""Seconds for which a file that could not be fetched is not asked for again: each of its clips would."""

_failures: dict[Path, tuple[float, RemoteError]] = {}


def local_copy(url: str | Path, remote_roots: RemoteRoots | None = None) -> Path:
    """Return a file on disk with the content of a file elsewhere, fetched now unless the cache has it.

    The server is asked once per call for size and version, so a file that has changed is fetched again. The copy is not
    removed before this process has asked for several others (`slap.datamodules.remote.uses.HELD`), or has ended.

    Args:
        url: address of the file: s3://, gs://, https:// or http://.
        remote_roots: addresses below which files may be read; None stands for the environment variable
            SLAP_REMOTE_ROOTS, see `slap.datamodules.manifests.data_root`.

    Raises:
        ManifestError: the address lies below none of the remote roots.
        RemoteError: the file does not exist, may not be read, or cannot be fetched after several attempts.
        MissingDependencyError: the library that reads such addresses is not installed.
    """
    return copy_of(found(url, resolved_remote_roots(remote_roots)))


def local_copies(urls: Iterable[str | Path], remote_roots: RemoteRoots | None = None, ahead: int = 2) -> Iterator[Path]:
    """Yield the copies of several files, in order, while the next ones are fetched by other threads.

    Args:
        urls: addresses of the files.
        remote_roots: as for `local_copy`.
        ahead: files that are fetched while one is read; at least 1.

    Raises:
        ManifestError, RemoteError, MissingDependencyError: as `local_copy`, when the turn of the file comes.
    """
    roots = resolved_remote_roots(remote_roots)
    return _fetched_ahead((partial(_found_and_fetched, url, roots) for url in urls), ahead)


def copies_of(files: Iterable[RemoteFile], ahead: int = 2) -> Iterator[Path]:
    """Yield the copies of several files that were looked at, as `local_copies`."""
    return _fetched_ahead((partial(fetched, file) for file in files), ahead)


def _fetched_ahead(jobs: Iterable[Callable[[], RemoteFile]], ahead: int) -> Iterator[Path]:
    waiting: list[Future[RemoteFile]] = []
    with ThreadPoolExecutor(ahead, "fetch") as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(job))
                if len(waiting) > ahead:
                    yield copy_of(waiting.pop(0).result())
            while waiting:
                yield copy_of(waiting.pop(0).result())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _found_and_fetched(url: str | Path, roots: Sequence[str]) -> RemoteFile:
    return fetched(found(url, roots))


def found(url: str | Path, roots: Sequence[str]) -> RemoteFile:
    """Return a file elsewhere as it is now.

    Raises:
        ManifestError: as `local_copy`.
    """
    name = address(url)
    refuse_other_machines(name, roots)
    return look(name, tuple(roots))


def copy_of(file: RemoteFile) -> Path:
    """Return the copy of a file, fetched if it has to be, and keep it in use, see `local_copy`.

    Raises:
        RemoteError: it cannot be fetched, or is not what it was when it was looked at.
    """
    while True:
        path = fetched_path(file)
        if uses.take(path):
            return path
        fetched(file)


def fetched(file: RemoteFile) -> RemoteFile:
    """Fetch a file into the cache unless it is there, and return it; one process fetches it, and others wait.

    Raises:
        RemoteError: as `copy_of`.
    """
    path = fetched_path(file)
    if path.exists():
        return file
    since, known = _failures.get(path, (0.0, None))
    if known is not None and time.monotonic() < since + REMEMBERED:
        raise type(known)(str(known))
    try:
        with locked(path.with_name(path.name + PART), path) as part:
            if part is not None:
                make_room(file, path)
                started = time.perf_counter()
                download(file, part)
                Path(part.name).replace(path)
                log.info("%s: fetched %.1f MB in %.1f s", file, file.size / 1e6, time.perf_counter() - started)
    except RemoteError as error:
        _failures[path] = time.monotonic(), error
        raise
    except OSError as error:
        raise RemoteError(
            f"{file} cannot be kept in the cache {path.parent}: {error}. SLAP_REMOTE_CACHE names another folder, and "
            "SLAP_REMOTE_CACHE_GB limits its size, in GB"
        ) from error
    return file


def fetched_path(file: RemoteFile) -> Path:
    """Return the place of a file's copy, whether it is there or not."""
    name = blake2b(f"{file.url}\0{file.size}\0{file.version}".encode(), digest_size=12).hexdigest()
    return cache_folder() / f"{name}-{file.size}-{file.name[-100:]}"
