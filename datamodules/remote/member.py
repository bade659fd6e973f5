"""Audio in a tar file elsewhere: the file is fetched into the cache when its first clip is read."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from slap.audio.reader import AudioError
from slap.datamodules.audio.tar_member import TarMember, tar_members
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.remote.cache import copy_of
from slap.datamodules.remote.errors import RemoteError
from slap.datamodules.remote.store import RemoteFile

REMEMBERED = 64
"""Tar files whose members each process remembers."""

Place = tuple[str, int, int]
"""Name of a member, first byte of its content, and bytes of it."""


@dataclass
class RemoteMember(TarMember):
    """A source that is a member of a tar file elsewhere; `source` is the address, for messages.

    Args:
        file: the tar file.
    """

    copied: bool = True
    file: RemoteFile | None = None

    def located(self) -> TarMember:
        """Return the member in the copy of its file on this machine, which is fetched if it has to be.

        Raises:
            AudioError: the file cannot be fetched.
        """
        return TarMember("memory", self.channels, str(self.fetched()), offset=self.offset, size=self.size, copied=True)

    def fetched(self) -> Path:
        """Return the copy of the tar file on this machine.

        Raises:
            AudioError: the file cannot be fetched.
        """
        assert self.file is not None
        try:
            return copy_of(self.file)
        except RemoteError as error:
            raise AudioError(str(error), error.reason, self.source) from error

    def read(self) -> bytes:
        """Read the member's content.

        Raises:
            AudioError: as `located`.
        """
        return self.located().read()


@dataclass
class RemoteSharMember(RemoteMember):
    """A source in a shard, whose place is known by the members of its tar file.

    Args:
        number: of the clip in it, from 0; each clip has two members, audio and description.
        clip: id of the clip, which is the name of its members without their suffixes.
    """

    number: int = 0
    clip: str = ""

    def located(self) -> TarMember:
        """Return the member in the copy of its file on this machine, which is fetched if it has to be.

        Raises:
            AudioError: the file cannot be fetched, is no tar file, or has other audio in the place of this clip's.
        """
        path = self.fetched()
        try:
            _, offset, size = self._place(path)
        except ManifestError as error:
            raise AudioError(str(error).replace(str(path), self.source), "truncated", self.source) from error
        return TarMember("memory", self.channels, str(path), offset=offset, size=size, copied=True)

    def _place(self, path: Path) -> Place:
        places = places_in(path)
        if 2 * self.number + 1 >= len(places):
            raise ManifestError(f"{path} was cut off: it lacks the audio of {self.clip!r} and after")
        place = places[2 * self.number]
        if place[0].rpartition(".")[0] != self.clip:
            raise ManifestError(f"{path} has the audio {place[0]!r} in the place of that of {self.clip!r}")
        return place


_known: OrderedDict[Path, list[Place] | ManifestError] = OrderedDict()


def places_in(path: Path) -> list[Place]:
    """Return the members of a tar file; only its headers are read, once per process.

    Raises:
        ManifestError: it is no tar file, was cut off, or has a member that is refused.
    """
    found = _known.pop(path, None)
    if found is None:
        try:
            found = [(member.name, member.offset_data, member.size) for member in tar_members(path, copied=True)]
        except ManifestError as error:
            found = error
    _known[path] = found
    while len(_known) > REMEMBERED:
        _known.popitem(last=False)
    if isinstance(found, ManifestError):
        raise ManifestError(str(found))
    return found
