"""Hashes of manifests, by which a record says what exactly was evaluated."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from slap.core.files import sha256_of
from slap.datamodules.manifests.filters import split_filter


def hashed(manifests: Iterable[str | Path]) -> list[dict[str, str]]:
    """Return the path and the SHA-256 of each manifest, as plain data.

    The hash of a file is that of its bytes. That of a folder of shards covers the names and the sizes of its files. A
    filter behind the path is not hashed; the path holds it.
    """
    return [{"path": str(manifest), "sha256": _hash(split_filter(Path(manifest))[0])} for manifest in manifests]


def _hash(path: Path) -> str:
    if path.is_file():
        return sha256_of(path)
    total = sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            total.update(f"{file.relative_to(path)} {file.stat().st_size}\n".encode())
    return total.hexdigest()
