"""Writer of the clips of a manifest as a Shar folder, shard by shard, in several processes or in parts.

The bytes of a shard depend on its clips alone, so a folder is the same however its shards were shared out. (Streams of
Ogg have a random serial number, so those formats differ in it.)
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from slap.core.errors import UserError
from slap.core.files import atomic_write
from slap.core.parts import Part, Parts
from slap.core.units import Seconds
from slap.datamodules.manifests.columns import Columns
from slap.datamodules.manifests.read import read_manifest
from slap.datamodules.manifests.sequence import Clips, plan_of
from slap.datamodules.shar.read import JOURNAL, open_shar
from slap.datamodules.shar.shard import Shard, write_shards


@dataclass(frozen=True)
class PackReport:
    """The size of a Shar folder that was written.

    Args:
        clips: number of clips.
        seconds: seconds of audio.
        size: size of all files, bytes.
        shards: number of shards.
        bad: message about each clip that was left out.
    """

    clips: int
    seconds: Seconds
    size: int
    shards: int
    bad: tuple[str, ...]


@dataclass(frozen=True)
class PackOptions:
    """The way in which clips are packed.

    Args:
        shard_size: clips per shard.
        encoding: flac, wav, mp3, opus, or original, that of the source.
        skip_bad: leave out clips that cannot be read.
        workers: number of processes; 0 and 1 write in this one, None is one per core.

    Raises:
        ValueError: a shard would hold no clip.
    """

    shard_size: int = 1000
    encoding: str = "flac"
    skip_bad: bool = False
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.shard_size < 1:
            raise UserError(f"shard_size must be at least 1 clip per shard, got {self.shard_size}")

    @property
    def plan(self) -> dict[str, Any]:
        """The options that change what is written."""
        return {"shard size": self.shard_size, "format": self.encoding}

    def shards(self, clips: range, folder: Path) -> list[Shard]:
        """Return the shards of some clips, which begin at a multiple of the shard size."""
        size = self.shard_size
        return [
            Shard(start // size, start, min(start + size, clips.stop), folder, self.encoding, self.skip_bad)
            for start in clips[::size]
        ]


def pack(
    manifest: Path,
    out: Path,
    shard_size: int = 1000,
    encoding: str = "flac",
    workers: int | None = None,
    skip_bad: bool = False,
    columns: Columns | None = None,
) -> PackReport:
    """Write a manifest's clips and their audio as a Shar folder, which appears when it is complete.

    Complete shards of an interrupted call are kept in `OUT.part` and not written again.

    Args:
        manifest: path of a manifest of any kind.
        out: folder to write.
        shard_size: see `PackOptions`, as for the other options.
        encoding: likewise.
        workers: likewise.
        skip_bad: likewise.
        columns: columns of a table whose names are not the known ones, see `read_manifest`.

    Raises:
        ManifestError: the manifest has a fault, or an id cannot be the name of a file.
        DecodeError: a clip cannot be read, and `skip_bad` is not set.
        ValueError: `out` exists, the unfinished folder has other settings, or no clip can be read.
    """
    options = PackOptions(shard_size, encoding, skip_bad, workers)
    _refuse_existing(out)
    clips = read_manifest(manifest, columns=columns)
    part = _unfinished(out, {**plan_of(manifest, clips), **options.plan})
    shards = options.shards(range(len(clips)), part)
    _write(clips, shards, options.workers)
    bad = [line for shard in shards for line in shard.left_out()]
    _refuse_all_bad(manifest, clips, bad)
    return _finish(shards, out, bad)


def pack_part(manifest: Path, out: Path, part: Part, options: PackOptions, columns: Columns | None = None) -> bool:
    """Write the shards of one part of a manifest's clips beside `out`, for `merge_packed`.

    Args:
        manifest: see `pack`.
        out: likewise.
        part: the part.
        options: see there.
        columns: see `pack`.

    Returns:
        False if the part was complete before.

    Raises:
        ManifestError: see `pack`.
        DecodeError: likewise.
        ValueError: likewise, or the parts have another plan, see `slap.core.parts`.
    """
    _refuse_existing(out)
    clips = read_manifest(manifest, columns=columns)
    parts = Parts(out, {**plan_of(manifest, clips), **options.plan})
    with parts.work(part) as folder:
        if folder is None:
            return False
        shards = options.shards(part.range_of(len(clips), options.shard_size), folder)
        _write(clips, shards, options.workers)
        parts.finish(part, {"bad": [line for shard in shards for line in shard.left_out()]})
    return True


def merge_packed(manifest: Path, out: Path, options: PackOptions, columns: Columns | None = None) -> PackReport:
    """Put the shards of all parts together, as `pack` writes them; interrupted, it can be called again.

    Raises:
        ValueError: `out` exists, a part is missing or has another plan, or no clip can be read.
    """
    _refuse_existing(out)
    clips = read_manifest(manifest, columns=columns)
    parts = Parts(out, {**plan_of(manifest, clips), **options.plan})
    done = parts.complete()
    bad = [line for part in done for line in part.result["bad"]]
    _refuse_all_bad(manifest, clips, bad)
    shards = [
        shard
        for part in done
        for shard in options.shards(part.part.range_of(len(clips), options.shard_size), part.folder)
    ]
    report = _finish(shards, out, bad)
    parts.remove()
    return report


def _refuse_existing(out: Path) -> None:
    if out.exists():
        raise UserError(f"{out} exists; name another folder, or remove it")


def _refuse_all_bad(manifest: Path, clips: Clips, bad: list[str]) -> None:
    if len(bad) == len(clips):
        raise UserError(f"no clip of {manifest} could be read; the first: {bad[0]}")


def _write(clips: Clips, shards: list[Shard], workers: int | None) -> None:
    """Write the shards that are not complete."""
    total = sum(shard.stop - shard.start for shard in shards)
    left = [shard for shard in shards if not shard.report.exists()]
    with tqdm(total=total, initial=total - sum(s.stop - s.start for s in left), unit="clip") as progress:
        for shard in write_shards(clips, left, os.cpu_count() or 1 if workers is None else workers):
            progress.update(shard.stop - shard.start)


def _unfinished(out: Path, plan: dict[str, Any]) -> Path:
    """Return the folder of an unfinished pack, made or found again.

    Raises:
        ValueError: the folder has shards of another manifest, or with other settings.
    """
    part = out.with_name(f"{out.name}.part")
    if not part.exists():
        part.mkdir(parents=True)
        with atomic_write(part / JOURNAL, sync=False) as file:
            json.dump(plan, file)
    known = json.loads((part / JOURNAL).read_text()) if (part / JOURNAL).exists() else None
    if known != plan:
        raise UserError(
            f"{part} holds shards of another manifest, or with other settings; remove it to start again "
            f"(there: {known}, now: {plan})"
        )
    return part


def _finish(shards: list[Shard], out: Path, bad: list[str]) -> PackReport:
    """Move shards into one folder, which becomes `out`, and open it; interrupted, it can be called again.

    They are numbered without the gaps that shards without any readable clip leave.
    """
    made = out.with_name(f"{out.name}.part")
    made.mkdir(parents=True, exist_ok=True)
    place = 0
    for shard in shards:
        names = (("cuts", "jsonl.gz"), ("recording", "tar"))
        there = [
            _moved(shard.folder / f"{field}.{shard.number:06d}.{suffix}", made / f"{field}.{place:06d}.{suffix}")
            for field, suffix in names
        ]
        place += all(there)
    for path in (made / JOURNAL, *(shard.report for shard in shards if shard.folder == made)):
        path.unlink(missing_ok=True)
    made.rename(out)
    packed = open_shar(out)
    size = sum(path.stat().st_size for path in out.iterdir())
    assert packed.parts is not None
    return PackReport(len(packed), float(np.asarray(packed.durations).sum()), size, len(packed.parts) - 1, tuple(bad))


def _moved(source: Path, target: Path) -> bool:
    """Move a file, and return whether it is at its target, maybe since an earlier call."""
    if source.exists():
        source.replace(target)
    return target.exists()
