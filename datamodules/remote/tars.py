"""Clips of WebDataset tar files elsewhere: each is fetched once to be indexed, and again when a clip in it is needed.

s3://bucket/train/{000000..000009}.tar          the names of the tar files, by braces; nothing is listed
https://host/train/*.tar                        those among the listed files of the folder
https://host/train                              all that the folder lists

The index of each tar file is kept, see `slap.datamodules.remote.indexes`. A clip is called `FOLDER/TAR/KEY`, as if the
tar file lay on this machine.
"""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from slap.core.bad_clip import BadClip
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.cut_index import CutIndex
from slap.datamodules.manifests.cuts import CutManifest, Decode, open_indexed
from slap.datamodules.manifests.sequence import Clips
from slap.datamodules.remote.address import WEB, address
from slap.datamodules.remote.cache import copies_of, copy_of
from slap.datamodules.remote.clips import neighbors
from slap.datamodules.remote.indexes import listing_of
from slap.datamodules.remote.listing import listed, looked_up, sized
from slap.datamodules.remote.member import RemoteMember
from slap.datamodules.remote.settings import GIGABYTE
from slap.datamodules.remote.store import RemoteFile
from slap.datamodules.webdataset.index import decoder_of, index_samples
from slap.datamodules.webdataset.read import TarClips, refuse_compressed, usable
from slap.datamodules.webdataset.samples import TARS, expanded, natural

AHEAD = 3
"""Tar files that are fetched while one is indexed."""

REPORT = 30.0
"""Seconds between the lines that show the progress of indexing; by default, Python shows warnings alone."""

log = logging.getLogger(__name__)


class RemoteTar(CutManifest):
    """The clips of a tar file elsewhere.

    Args:
        path: file with its address, beside which the index lies.
        index: index of its clips.
        decode: decoder of lines.
        file: the tar file.
    """

    remote = True

    def __init__(self, path: Path, index: CutIndex, decode: Decode, file: RemoteFile) -> None:
        super().__init__(path, index, decode)
        self.file = file

    def shard(self, number: int) -> RemoteFile:  # noqa: ARG002
        """Return the tar file."""
        return self.file


class RemoteTars(TarClips):
    """The clips of several tar files elsewhere."""

    def __init__(self, tars: Sequence[RemoteTar]) -> None:
        super().__init__(tars)
        self._firsts = sorted(set(self.firsts))

    def near(self, number: int) -> range:
        """Return the clips in the tar file of a clip and in the two beside it."""
        return neighbors(self._firsts, number)


def tars_listed(files: Iterable[RemoteFile], pattern: str = "*") -> list[RemoteFile]:
    """Return the tar files among those of a listing, 2.tar before 10.tar.

    Args:
        files: the files.
        pattern: pattern of their names, with asterisks.
    """
    tars = [file for file in files if file.name.endswith(TARS) and fnmatchcase(file.name, pattern)]
    return sized(sorted((file for file in tars if file.name[0] != "."), key=lambda file: natural(Path(file.name))))


def tars_named(url: str, roots: tuple[str, ...]) -> list[RemoteFile]:
    """Return the tar files that an address names, in its order.

    Args:
        url: an address, with braces, or with asterisks in its last part.
        roots: the remote roots.

    Raises:
        ManifestError: one of them does not exist, or may not be read.
    """
    known: dict[str, RemoteFile | None] = {}
    for name in map(address, expanded(url)):
        folder, _, last = name.rpartition("/")
        if "*" not in last:
            known[name] = None
            continue
        matching = tars_listed(listed(folder, roots).values(), last)
        if not matching:
            raise ManifestError(f"{folder} lists no tar file {last}")
        known |= {file.url: file for file in matching}
    asked = looked_up([name for name, file in known.items() if file is None], roots)
    known |= {file.url: file for file in asked}
    return [file for file in known.values() if file is not None]


def open_remote_tars(files: Sequence[RemoteFile], bad: list[BadClip], captioned: bool = True) -> Clips:
    """Open the clips of tar files elsewhere, in the order of the files and of the audio in them.

    Args:
        files: the tar files.
        bad: a list to which the bad clips are appended.
        captioned: clips without captions are bad.

    Raises:
        ManifestError: a tar file cannot be fetched, or is compressed, damaged or cut off.
    """
    refuse_compressed(file.url for file in files)
    new = dict.fromkeys(file for file in files if not _is_indexed(file))
    if new:
        size = sum(file.size for file in new) / GIGABYTE
        log.warning(
            "%d of %d tar files are fetched to be indexed, %.3g GB; the index is kept", len(new), len(files), size
        )
    copies = copies_of(new, AHEAD)
    tars, said = [], time.monotonic()
    for number, file in enumerate(files, start=1):
        if file in new:
            next(copies)
        tars.append(_opened(file))
        late = time.monotonic() > said + REPORT
        said = time.monotonic() if late else said
        level = logging.WARNING if late else logging.INFO
        log.log(level, "%s: %d clips (tar file %d of %d)", file, len(tars[-1]), number, len(files))
    return usable(RemoteTars(tars), bad, captioned)


def _is_indexed(file: RemoteFile) -> bool:
    listing = listing_of([file])
    return listing.with_name(f"{listing.name}.index").exists()


def _opened(file: RemoteFile) -> RemoteTar:
    listing, member = listing_of([file]), RemoteMember("memory", [], str(file), file=file)
    decode = decoder_of(member)
    with listing.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process of a machine indexes, and the others wait for it
        clips = open_indexed(listing, decode, lambda: _index(file, listing, member), keep=True)
    return RemoteTar(listing, clips.cut_index, decode, file)


def _index(file: RemoteFile, listing: Path, member: RemoteMember) -> CutIndex:
    path = copy_of(file)
    try:
        return index_samples(path, listing, member, _called(file))
    except ManifestError as error:
        raise ManifestError(str(error).replace(str(path), str(file))) from error


def _called(file: RemoteFile) -> str:
    """Return folder and name of a tar file, or bucket or host and name."""
    parts = urlsplit(file.url)
    steps = unquote(parts.path) if parts.scheme in WEB else parts.path
    path = PurePosixPath(f"{parts.netloc}{steps}")
    return f"{path.parent.name}/{path.stem}"
