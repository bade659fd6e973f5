"""Hashes of manifests, by which a record says what exactly was evaluated."""

from __future__ import annotations

from collections.abc import Iterable
from glob import glob
from hashlib import sha256
from pathlib import Path

from slap.core.files import sha256_of
from slap.datamodules.huggingface.source import Source, is_huggingface
from slap.datamodules.manifests.data_root import RemoteRoots, resolved_remote_roots
from slap.datamodules.manifests.filters import split_filter
from slap.datamodules.remote.address import address, is_remote
from slap.datamodules.remote.manifest import files_at
from slap.datamodules.webdataset.read import named_tars

MADE = (".tar.index", ".tar.blocks")
"""Ends of the names of files that reading writes beside tar files."""


def hashed(manifests: Iterable[str | Path], remote_roots: RemoteRoots | None = None) -> list[dict[str, str]]:
    """Return the path and the SHA-256 of each manifest, as plain data.

    The hash of a file is that of its bytes. That of a folder of shards, of several tar files and of a data set of
    Hugging Face covers the names and the sizes of the files, wherever they lie; that of a data set of the Hub covers
    its name alone. A filter behind the path is not hashed; the path holds it.

    Args:
        manifests: paths of the manifests.
        remote_roots: addresses below which files may be looked at, see `slap.datamodules.manifests.data_root`.
    """
    return [
        {"path": str(manifest), "sha256": _hash(split_filter(Path(manifest))[0], remote_roots)}
        for manifest in manifests
    ]


def _hash(path: Path, remote_roots: RemoteRoots | None) -> str:
    if path.is_file():
        return sha256_of(path)
    total = sha256()
    if is_huggingface(path):
        total.update(f"{Source.of(path).text}\n".encode())
    for name, size in sorted(_files(path, remote_roots)):
        total.update(f"{name} {size}\n".encode())
    return total.hexdigest()


def _files(path: Path, remote_roots: RemoteRoots | None) -> list[tuple[str, int]]:
    """Return names and sizes of the files of a manifest that is no file itself."""
    if is_remote(path):
        return [(file.name, file.size) for file in files_at(address(path), resolved_remote_roots(remote_roots))]
    if is_huggingface(path):
        name = Source.of(path).name
        found = [Path(file) for file in glob(name)]  # noqa: PTH207
        return [
            known for file in found for known in (_below(file) if file.is_dir() else [(file.name, file.stat().st_size)])
        ]
    if path.is_dir():
        return _below(path)
    return [(tar.name, tar.stat().st_size) for tar in named_tars(path)]


def _below(folder: Path) -> list[tuple[str, int]]:
    files = (file for file in folder.rglob("*") if file.is_file() and not file.name.endswith(MADE))
    return [(str(file.relative_to(folder)), file.stat().st_size) for file in files]
