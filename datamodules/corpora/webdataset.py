"""WebDataset: tar files of audio and JSON, as LAION publishes them."""

from __future__ import annotations

import json
import logging
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from slap.audio.scan import SUFFIXES
from slap.core.errors import UserError
from slap.core.registry import register
from slap.datamodules.corpora.base import Corpus
from slap.datamodules.manifests.clip import Clip, ManifestError
from slap.datamodules.shar.tar import MOST_TEXT, TarMemberError, check, members, unpack
from slap.datamodules.webdataset.samples import captions_of, described, split_name, tars_in

log = logging.getLogger(__name__)


@register("webdataset")
class WebDataset(Corpus):
    """Tar files of `N.flac` and `N.json`, in one folder per split, as LAION publishes audio.

    `ROOT/train/*.tar`, `ROOT/test/*.tar`; tar files in ROOT itself are the split "all". The JSON holds `text`, a list
    of captions, and `tag`, a list of tags, of which a caption is made if there is no text. `sizes.json` beside the tar
    files holds the number of samples of each. The format is described at github.com/LAION-AI/audio-dataset; licenses
    are those of the contents.

    Audio is unpacked to OUT/audio, once; links, names that lead out of their folder, and members that are too large are
    refused, counted and named in the report.

    LAION's tar files of Clotho call its evaluation `valid` and its validation `test`: give
    `--rename '{valid: evaluation, test: validation}'`.

    Args:
        root: folder of the corpus, with one folder per split.
        rename: new names of splits by the names of their folders.
        most_bytes: largest audio file to unpack, bytes.
        name: name of the corpus, for ids and reports; None is that of ROOT.
    """

    unpacks = True

    def __init__(
        self,
        root: Path,
        rename: Mapping[str, str] | None = None,
        most_bytes: int = 2**30,
        name: str | None = None,
    ) -> None:
        super().__init__(root)
        self.rename, self.most_bytes, self.name = dict(rename or {}), most_bytes, name or self.root.name
        folders = [path for path in sorted(self.root.iterdir()) if path.is_dir() and tars_in(path)]
        if unknown := self.rename.keys() - {folder.name for folder in folders}:
            there = ", ".join(folder.name for folder in folders) or "none"
            raise UserError(f"rename names the split {', '.join(sorted(unknown))}, but there are {there}")
        self.folders = {self.rename.get(folder.name, folder.name): folder for folder in folders}
        if tars_in(self.root):
            self.folders["all"] = self.root
        if not self.folders:
            raise FileNotFoundError(f"there is no tar file in {self.root}, nor in folders in it")
        if "clotho" in self.root.name.lower() and not self.rename and "valid" in self.folders:
            log.warning(
                "LAION's tar files of Clotho call its evaluation `valid` and its validation `test`; if these are "
                "LAION's, give --rename '{valid: evaluation, test: validation}'"
            )

    def splits(self) -> Sequence[str]:
        """Return the names of the folders that hold tar files."""
        return list(self.folders)

    def official(self, split: str) -> int | None:
        """Return the number of samples in `sizes.json`, if there is one."""
        path = self.folders[split] / "sizes.json"
        if not path.is_file():
            return None
        try:
            return sum(int(size) for size in json.loads(path.read_text(encoding="utf-8")).values())
        except (ValueError, AttributeError, TypeError) as error:
            raise ManifestError(f"{path}: this is not {{tar file: samples}}: {error}") from error

    def clips(self, split: str) -> Iterator[Clip]:
        """Yield the samples of the tar files, in order; the audio of each is unpacked before it is yielded.

        Raises:
            ValueError: `out`, the folder to unpack to, is not set.
        """
        if self.out is None:
            raise UserError("a WebDataset has to be unpacked: set `out`, the folder to unpack to")
        for tar in tars_in(self.folders[split]):
            folder = self.out / "audio" / split / tar.name.partition(".")[0]
            try:
                yield from self._clips(tar, split, folder)
            except (tarfile.TarError, OSError, EOFError) as error:
                self.leave_out("the rest of a damaged tar file", f"{tar}: {error}")

    def _clips(self, tar: Path, split: str, folder: Path) -> Iterator[Clip]:
        audio: dict[str, Path] = {}  # of samples whose JSON has not come yet
        texts: dict[str, dict[str, Any]] = {}  # of samples whose audio has not come yet
        seen: set[str] = set()
        for member, content in members(tar):
            key, suffix = split_name(member.name)
            if member.isdir() or (suffix not in SUFFIXES and suffix != "json"):
                continue
            where = f"{tar.name}: {member.name}"
            if member.name in seen:
                self.leave_out("a name that its tar file has twice", where)
                continue
            seen.add(member.name)
            try:
                check(member, MOST_TEXT if suffix == "json" else self.most_bytes)
                assert content is not None
                if suffix == "json":
                    texts[key] = described(content.read())
                elif key not in audio:
                    audio[key] = folder / f"{key}.{suffix}"
                    unpack(content, member.size, audio[key])
            except (TarMemberError, ManifestError) as error:
                self.leave_out(f"refused: {error}", where)
                continue
            if key in audio and key in texts:
                yield from self._clip(f"{split}/{folder.name}/{key}", audio.pop(key), texts.pop(key), split)
        for key in audio:
            self.leave_out("audio without JSON", f"{tar.name}: {key}")
        for key in texts:
            self.leave_out("JSON without audio", f"{tar.name}: {key}")

    def _clip(self, name: str, path: Path, about: dict[str, Any], split: str) -> Iterator[Clip]:
        captions, fields = captions_of(about)
        if captions:
            yield Clip(f"{self.name}/{name}", path, captions, fields=fields, corpus=self.name, split=split)
        else:
            self.leave_out("neither text nor tags", name)
