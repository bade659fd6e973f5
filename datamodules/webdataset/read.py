"""Tar files in the WebDataset format as a manifest: indexed once, and their audio read where it lies.

A folder of tar files, one of them, or several by a pattern, `shards/{000..099}.tar`. Each is read once from its
beginning to its end, which takes as long as the disk takes; what is found is kept beside it, as `000.tar.index` and
`000.tar.blocks`, see `slap.datamodules.manifests.cut_index`. A tar file whose size or time has changed is read again.

A clip is called `FOLDER/TAR/KEY`. Reading stays within few tar files at a time, and processes read different ones
(`slap.datamodules.sampling.epoch`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from glob import glob
from pathlib import Path

import numpy as np

from slap.core.bad_clip import BadClip
from slap.datamodules.audio.tar_member import TarMember
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.cuts import CutManifest, open_indexed, refuse_repeated
from slap.datamodules.manifests.data_root import refuse_elsewhere
from slap.datamodules.manifests.sequence import Clips, ConcatClips, without_uncaptioned
from slap.datamodules.webdataset.index import decoder_of, index_samples
from slap.datamodules.webdataset.samples import TARS, expanded, natural, tars_in

NO_CAPTION = "no caption: the sample has neither text in a .json, nor a .txt, nor a .cls that names a class"

log = logging.getLogger(__name__)


class TarClips(ConcatClips):
    """The clips of several tar files, each of which is a part that lies together."""

    def __init__(self, tars: Sequence[CutManifest]) -> None:
        super().__init__(tars)
        self.tars = tars
        self.parts = np.unique(self.firsts)


def is_tars(path: Path) -> bool:
    """Return True if a path names tar files: by its suffix, or as a folder that holds some."""
    return bool(tars_in(path)) if path.is_dir() else path.name.endswith(TARS)


def open_tars(path: Path, bad: list[BadClip], captioned: bool = True, roots: Sequence[str] = ()) -> Clips:
    """Open the clips of tar files, in the order of the files and of the audio in them.

    Args:
        path: a tar file, a folder of them, or a pattern with braces or asterisks.
        bad: a list to which the bad clips are appended.
        captioned: clips without captions are bad.
        roots: folders that the tar files must lie in, links resolved, if any.

    Raises:
        ManifestError: there is no such file, one lies elsewhere, or one is compressed, damaged or cut off.
    """
    paths = named_tars(path)
    for tar in paths:
        refuse_elsewhere(str(tar), roots, str(path))
    tars = []
    for number, tar in enumerate(paths, start=1):
        tars.append(_opened(tar))
        log.info("%s: %d clips (tar file %d of %d)", tar, len(tars[-1]), number, len(paths))
    return usable(TarClips(tars), bad, captioned)


def usable(clips: TarClips, bad: list[BadClip], captioned: bool) -> Clips:
    """Return the clips of tar files that can be used.

    Args:
        clips: all clips.
        bad: a list to which the bad clips are appended.
        captioned: clips without captions are bad.

    Raises:
        ManifestError: two clips have the same id, as in `{a/x,b/x}/000.tar`.
    """
    for tar in clips.tars:
        bad += tar.cut_index.bad
    refuse_repeated(clips)
    return without_uncaptioned(clips, bad, NO_CAPTION) if captioned else clips


def _opened(tar: Path) -> CutManifest:
    member, name = TarMember("memory", [], str(tar)), f"{tar.resolve().parent.name}/{tar.stem}"
    return open_indexed(tar, decoder_of(member), lambda: index_samples(tar, tar, member, name), keep=True)


def named_tars(path: Path) -> list[Path]:
    """Return the tar files that a path or a pattern names.

    Raises:
        ManifestError: there are none, or one is compressed.
    """
    if path.is_dir():
        found = tars_in(path)
    else:
        found = []
        for name in [str(path)] if path.exists() else expanded(str(path)):
            matching = [Path(name)] if Path(name).exists() else sorted(map(Path, glob(name)), key=natural)  # noqa: PTH207
            if not matching:
                raise ManifestError(f"{path}: there is no tar file {name}")
            found += matching
    refuse_compressed(found)
    return found


def refuse_compressed(names: Iterable[str | Path]) -> None:
    """Refuse tar files that are compressed, by their names.

    Raises:
        ManifestError: there are such files; names the first.
    """
    for name in map(str, names):
        if not name.endswith(".tar"):
            raise ManifestError(
                f"{name} is compressed, so its members cannot be read in place; decompress it (gunzip), or unpack the "
                "corpus with `slap prepare webdataset`"
            )
