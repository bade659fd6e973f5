"""Fingerprints of what training clips hold, by which a run that continues notices that they have changed.

n clips.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b, sha256
from pathlib import Path

import numpy as np

from slap.core.files import sha256_of
from slap.datamodules.manifests.data_root import RemoteRoots
from slap.datamodules.manifests.hashes import hashed
from slap.datamodules.manifests.safe_cuts import tracks_of
from slap.datamodules.manifests.sequence import Clips

LOOKED_AT = 4096
"""Clips, of each manifest, whose files' sizes are compared; of a larger manifest a sample, the same each time."""

TOGETHER = 16
"""Clips of the sample that are neighbors in the manifest, since a manifest of cuts is read in blocks."""


def content_of(
    paths: Sequence[Path], parts: Iterable[Clips], hash_audio: bool, remote_roots: RemoteRoots | None = None
) -> dict[str, str]:
    """Return fingerprints of training clips, as plain data.

    Args:
        paths: the manifests. Of a file the bytes count, of shards and tar files names and sizes.
        parts: their clips.
        hash_audio: hash the audio too, for which every file is read.
        remote_roots: addresses below which shards may be looked at.

    Returns:
        `manifests`, and of the audio in files of its own `sizes` and, if asked for, `audio`.
    """
    known = "".join(entry["sha256"] for entry in hashed(paths, remote_roots))
    parts = [part for part in parts if part.parts is None]  # the others lie in shards
    found = {"manifests": blake2b(known.encode(), digest_size=8).hexdigest()}
    sizes = blake2b(digest_size=8)
    for part in parts:
        for path in files_of(part, looked_at(len(part))):
            sizes.update(f"{size_of(path)} ".encode())
    found["sizes"] = sizes.hexdigest()
    if hash_audio:
        found["audio"] = _hash_of(files_of(part, range(len(part))) for part in parts)
    return found


def looked_at(count: int) -> list[int]:
    """Return the numbers of the clips, of n, whose files are looked at.

    Example:
        >>> looked_at(3), len(looked_at(10**6)), looked_at(10**6)[14:18]
        ([0, 1, 2], 4096, [14, 15, 3921, 3922])
    """
    if count <= LOOKED_AT:
        return list(range(count))
    firsts = np.linspace(0, count - TOGETHER, LOOKED_AT // TOGETHER).astype(np.int64)
    return (firsts[:, None] + np.arange(TOGETHER)).ravel().tolist()


def files_of(clips: Clips, numbers: Iterable[int]) -> Iterator[str]:
    """Yield the paths of the files of some clips; of audio that lies elsewhere, or in memory, none."""
    for number in numbers:
        for cut in tracks_of(clips.cut(number)):
            if cut.recording is not None:
                yield from (str(source.source) for source in cut.recording.sources if source.type == "file")


def size_of(path: str) -> int:
    """Return the size of a file in bytes; -1 if it cannot be looked at."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - ten times as fast
    except OSError:
        return -1


def _hash_of(parts: Iterable[Iterable[str]]) -> str:
    """Hash the content of files, each of which is read once."""
    total, known = sha256(), dict[str, str]()
    for paths in parts:
        for path in paths:
            if path not in known:
                known[path] = sha256_of(Path(path)) if size_of(path) >= 0 else ""
            total.update(known[path].encode())
    return total.hexdigest()[:16]
