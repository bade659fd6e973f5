"""Files in object stores, S3 and Google Cloud Storage, through fsspec's file systems.

Credentials, endpoints and options are those of the environment: AWS_PROFILE, AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL,
GOOGLE_APPLICATION_CREDENTIALS, ..., and fsspec's own, such as FSSPEC_S3_ANON=true for a public bucket.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from slap.core.errors import MissingDependencyError, UserError
from slap.datamodules.remote.address import joined
from slap.datamodules.remote.errors import RemoteChangedError, RemoteError, RemoteMissingError, TransientError
from slap.datamodules.remote.settings import timeout
from slap.datamodules.remote.store import RemoteFile, Store

RANGE = 1 << 24
"""Bytes that are asked for at a time: large enough for the rate of a connection, small enough for the memory."""

SETTINGS: dict[str, Callable[[], dict[str, Any]]] = {
    "s3": lambda: {"config_kwargs": {"connect_timeout": min(timeout(), 10.0), "read_timeout": timeout()}},
    "gs": lambda: {"requests_timeout": timeout()},
}
LACKING = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError", "HttpError")
"""Errors of the libraries that come of credentials; they are known by name, since only one library is loaded."""


class ObjectStore(Store):
    """An object store."""

    def look(self, url: str, roots: tuple[str, ...]) -> RemoteFile:
        """Return size and version of an object, see `Store.look`."""
        with _Faults(url):
            return _file(url, _system(url).info(_key(url)), roots)

    def read(self, file: RemoteFile, start: int) -> tuple[int, Iterator[bytes]]:
        """Read an object from a byte on, see `Store.read`."""
        return start, self._pieces(file, start)

    def files(self, folder: str, roots: tuple[str, ...]) -> list[RemoteFile]:
        """Return the objects directly below a prefix, see `Store.files`."""
        with _Faults(folder):
            found = _system(folder).ls(_key(folder), detail=True)
        named = [(known, known["name"].rpartition("/")[2]) for known in found if known["type"] == "file"]
        return [_file(joined(folder, name), known, roots) for known, name in named if name]

    def _pieces(self, file: RemoteFile, start: int) -> Iterator[bytes]:
        system = _system(file.url)
        while start < file.size:
            end = min(start + RANGE, file.size)
            with _Faults(file.url):
                piece = system.cat_file(_key(file.url), start=start, end=end)
            start += len(piece)
            if start != end:
                raise RemoteChangedError(f"{file.url} ends after {start} of the {file.size} bytes that it had before")
            yield piece
        # Ranges of two objects would not fit together, so the last question is whether it is still the same one.
        now = self.look(file.url, file.roots)
        if (now.size, now.version) != (file.size, file.version):
            raise RemoteChangedError(
                f"{file.url} has changed: it had {file.size} bytes, version {file.version or '-'}, and now has "
                f"{now.size}, version {now.version or '-'}"
            )


def _system(url: str) -> Any:
    """Return the file system of an address; fsspec keeps one per process and thread.

    Raises:
        MissingDependencyError: fsspec, or its part for this kind of store, is not installed.
    """
    scheme = urlsplit(url).scheme
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # gRPC, which survives no fork
    try:
        import fsspec

        return fsspec.filesystem(scheme, use_listings_cache=False, **SETTINGS[scheme]())
    except ImportError as error:
        raise MissingDependencyError(
            f"{scheme}:// needs {'s3fs' if scheme == 's3' else 'gcsfs'}: pip install 'slap-audio[remote]'"
        ) from error


def _key(url: str) -> str:
    """Return bucket and key, as fsspec names an object."""
    return url.partition("://")[2]


def _file(url: str, known: dict[str, Any], roots: tuple[str, ...]) -> RemoteFile:
    if known["type"] != "file":
        raise RemoteMissingError(f"{url}: there is no such object, though others lie below it")
    version = known.get("ETag") or known.get("etag") or known.get("md5Hash") or known.get("LastModified") or ""
    return RemoteFile(url, int(known["size"]), str(version), roots)


class _Faults:
    """The errors of the libraries, made errors of this package."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, UserError) or not isinstance(error, Exception):
            return
        raise _translated(self.url, error) from error


def _translated(url: str, error: Exception) -> RemoteError | TransientError:
    """Return the error that stands for one of a library."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, FileNotFoundError):
        bucket = urlsplit(url).netloc
        no_bucket = "bucket does not exist" in str(error)
        gone = f"there is no bucket {bucket!r}" if no_bucket else f"there is no such object in the bucket {bucket!r}"
        return RemoteMissingError(f"{url}: {gone} ({said}); check the address")
    if isinstance(error, PermissionError) or type(error).__name__ in LACKING:
        return RemoteError(
            f"{url} may not be read ({said}); give credentials in the environment (AWS_PROFILE, or AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY; GOOGLE_APPLICATION_CREDENTIALS for gs://), or FSSPEC_S3_ANON=true for a public "
            "bucket"
        )
    return TransientError(said)
