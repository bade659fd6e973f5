"""Read tar files from anywhere with bounds: on the names in headers, on the kinds of members, and on where to unpack.

A member is refused when it is no plain file, when its name leads out of its folder, or when it is larger than allowed.
"""

# Corpora read tar files too, and are registered wherever plug-ins are: nothing heavy may be imported here.

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from slap.core.data_root import open_audio
from slap.core.errors import UserError
from slap.core.files import atomic_write

METADATA = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
"""Types of members that hold only a name or properties of the next one; tarfile reads them as a whole."""

LONGEST_NAME = 1 << 20  # bytes of such a member
MOST_TEXT = 1 << 24  # bytes of JSON that describe a recording
CHUNK = 1 << 20  # bytes that are copied at a time


class TarMemberError(UserError):
    """A member that is not unpacked; the message says why."""


class BoundedInfo(tarfile.TarInfo):
    """A header of a tar file with a limit on the size of its name: a few kB of gzip can hold gigabytes of one."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:  # the hook that tarfile offers to subclasses
        if self.type in METADATA and self.size > LONGEST_NAME:
            raise tarfile.ReadError(
                f"a name or properties of {self.size} bytes, which are refused; at most {LONGEST_NAME} are read"
            )
        return super()._proc_member(tar)  # type: ignore[misc]


def members(path: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Yield the members of a tar file, plain or compressed, in order; plain files with their content.

    Raises:
        tarfile.ReadError: the file is no tar file, or is cut off.
        ElsewhereError: it lies outside of the folders that audio may lie in.
    """
    with open_audio(path) as opened, tarfile.open(fileobj=opened, mode="r:*", tarinfo=BoundedInfo) as file:
        for member in file:
            yield member, file.extractfile(member) if member.isreg() else None
            file.members = []  # type: ignore[attr-defined]  # or it remembers every one


def check(member: tarfile.TarInfo, most_bytes: int) -> None:
    """Refuse a member that must not be unpacked.

    Raises:
        TarMemberError: it is no plain file, its name leads out of its folder, or it is larger than `most_bytes`.
    """
    if not member.isreg() or member.issparse():  # a sparse one is as large as it says, and holds next to nothing
        raise TarMemberError("a link" if member.issym() or member.islnk() else "no plain file")
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name or "\0" in member.name or not name.name:
        raise TarMemberError("its name leads out of its folder")
    if member.size > most_bytes:
        raise TarMemberError(f"more than {most_bytes} bytes")


def unpack(content: IO[bytes], size: int, target: Path) -> None:
    """Write a member's content to a file, which appears complete or not at all; a file of that size is kept as it is.

    Raises:
        tarfile.ReadError: the archive ends before the member does.
    """
    if target.is_file() and target.stat().st_size == size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target, "wb", sync=False) as file:
        while chunk := content.read(CHUNK):
            file.write(chunk)
        if file.tell() != size:
            raise tarfile.ReadError(f"ends after {file.tell()} of {size} bytes")
