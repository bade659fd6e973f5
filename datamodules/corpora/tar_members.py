"""Reads tar files from anywhere without doing what they say: nothing is written but to the place that the caller names.

A member is refused when it is no plain file, when its name leads out of its folder, or when it is larger than allowed.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from slap.datamodules.shar.tar import BoundedInfo

CHUNK = 2**20


class RefusedError(ValueError):
    """A member that is not touched; the message says why."""


def members(path: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """The members of a tar file, plain or compressed, in their order; those that are plain files with their content.

    Raises:
        tarfile.ReadError: the file is no tar file, or is cut off.
    """
    with tarfile.open(path, "r:*", tarinfo=BoundedInfo) as file:
        for member in file:
            yield member, file.extractfile(member) if member.isreg() else None
            file.members = []  # type: ignore[attr-defined]  # or it remembers every one


def check(member: tarfile.TarInfo, most_bytes: int) -> None:
    """Refuse what must not be unpacked.

    Raises:
        RefusedError: see the head of this file.
    """
    if not member.isreg() or member.issparse():  # a sparse one is as large as it says, and holds next to nothing
        raise RefusedError("a link" if member.issym() or member.islnk() else "no plain file")
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name or "\0" in member.name or not name.name:
        raise RefusedError("its name leads out of its folder")
    if member.size > most_bytes:
        raise RefusedError(f"more than {most_bytes} bytes")


def unpack(content: IO[bytes], size: int, target: Path) -> None:
    """Write a member's content to a file, which appears whole or not at all; one of that size is taken as it is.

    Raises:
        tarfile.ReadError: the archive ends before the member does.
    """
    if target.is_file() and target.stat().st_size == size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            while chunk := content.read(CHUNK):
                file.write(chunk)
        if part.stat().st_size != size:
            raise tarfile.ReadError(f"ends after {part.stat().st_size} of {size} bytes")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
