"""Writer of the clips of a manifest as a Shar folder, shard by shard, in several processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import soundfile
from lhotse import AudioSource, MonoCut, Recording
from lhotse.audio import set_current_audio_backend
from lhotse.audio.backend import get_current_audio_backend
from lhotse.cut import Cut
from lhotse.shar import SharWriter
from lhotse.utils import fastcopy
from tqdm import tqdm

from slap.core.errors import UserError
from slap.core.files import atomic_write
from slap.core.units import Seconds
from slap.datamodules.audio.load import DecodeError, load
from slap.datamodules.audio.tar_member import refuse_outside
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.columns import Columns
from slap.datamodules.manifests.read import read_manifest
from slap.datamodules.manifests.safe_cuts import files_of
from slap.datamodules.manifests.sequence import Clips
from slap.datamodules.shar.read import JOURNAL, open_shar


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
class Shard:
    """A shard to write: the clips `start` to `stop` of a manifest, as shard `number` of a folder."""

    number: int
    start: int
    stop: int
    folder: Path
    encoding: str
    skip_bad: bool


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
        shard_size: clips per shard.
        encoding: flac, wav, mp3, opus, or original, that of the source.
        workers: number of processes; 0 and 1 write in this one, None is one per core.
        skip_bad: leave out clips that cannot be read.
        columns: columns of a table whose names are not the known ones, see `read_manifest`.

    Raises:
        ManifestError: the manifest has a fault, or an id cannot be the name of a file.
        DecodeError: a clip cannot be read, and `skip_bad` is not set.
        ValueError: `out` exists, the unfinished folder has other settings, or no clip can be read.
    """
    if shard_size < 1:
        raise UserError(f"shard_size must be at least 1 clip per shard, got {shard_size}")
    if out.exists():
        raise UserError(f"{out} exists; name another folder, or remove it")
    clips = read_manifest(manifest, columns=columns)
    part = _unfinished(out, manifest, len(clips), shard_size, encoding)
    shards = [
        Shard(number, start, min(start + shard_size, len(clips)), part, encoding, skip_bad)
        for number, start in enumerate(range(0, len(clips), shard_size))
    ]
    left = [shard for shard in shards if not _report(shard).exists()]
    with tqdm(total=len(clips), initial=len(clips) - sum(s.stop - s.start for s in left), unit="clip") as progress:
        for shard in _written(clips, left, os.cpu_count() or 1 if workers is None else workers):
            progress.update(shard.stop - shard.start)
    bad = [line for shard in shards for line in json.loads(_report(shard).read_text())]
    if len(bad) == len(clips):
        raise UserError(f"no clip of {manifest} could be read; the first: {bad[0]}")
    for path in [*map(_report, shards), part / JOURNAL]:
        path.unlink()
    _renumber(part)
    part.rename(out)
    packed = open_shar(out)
    size = sum(path.stat().st_size for path in out.iterdir())
    assert packed.parts is not None
    return PackReport(len(packed), float(np.asarray(packed.durations).sum()), size, len(packed.parts) - 1, tuple(bad))


def write_shard(clips: Clips, shard: Shard) -> Shard:
    """Write a shard: its files appear complete or not at all, and its report last."""
    work = shard.folder / f"work.{shard.number}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    bad = []
    before = get_current_audio_backend()
    set_current_audio_backend("LibsndfileBackend")  # it writes all formats that it reads
    try:
        with SharWriter(
            work, {"recording": shard.encoding}, shard_size=shard.stop - shard.start, shard_offset=shard.number
        ) as writer:
            for number in range(shard.start, shard.stop):
                cut = _named(clips.cut(number))
                try:
                    writer.write(_loaded(cut))
                except DecodeError as error:
                    if not shard.skip_bad:
                        raise
                    bad.append(str(error))
    finally:
        set_current_audio_backend(before)
    for path in work.iterdir():
        path.replace(shard.folder / path.name)
    work.rmdir()
    _write_json(_report(shard), bad)
    return shard


def _written(clips: Clips, shards: list[Shard], workers: int) -> Iterator[Shard]:
    if min(workers, len(shards)) <= 1:
        for shard in shards:
            yield write_shard(clips, shard)
        return
    # Forked, a process could wait for ever for a thread of this one that it does not have.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(shards)), context, _begin, (clips,)) as pool:
        futures = [pool.submit(_work, shard) for shard in shards]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_clips: Clips  # of a worker


def _begin(clips: Clips) -> None:
    global _clips
    import torch

    torch.set_num_threads(1)
    _clips = clips


def _work(shard: Shard) -> Shard:
    return write_shard(_clips, shard)


@dataclass
class Loaded(AudioSource):
    """A source with samples in memory, (C, T), and the format of the file that they were read from."""

    encoding: str = "flac"

    def load_audio(self, offset: float = 0.0, duration: float | None = None, **_: Any) -> np.ndarray:
        """Return all samples; Lhotse requests the whole recording."""
        assert not offset
        assert duration is None
        samples: np.ndarray = self.source
        return samples

    def _get_format(self) -> str:
        return self.encoding


def _loaded(cut: Cut) -> Cut:
    """Return the cut with its samples loaded, and without `where`, which names a line of the manifest.

    Raises:
        DecodeError: the samples cannot be read.
    """
    sources = cut.recording.sources
    single = [cut] if isinstance(cut, MonoCut) else cut.to_mono()
    samples = np.stack([load(part).numpy() for part in single])
    suffix = Path(sources[0].source).suffix[1:].lower() if sources[0].type == "file" else ""
    encoding = suffix if suffix.upper() in soundfile.available_formats() or suffix == "opus" else "flac"
    channels = [part.channel for part in single]
    source = Loaded("memory", channels, samples, encoding=encoding)
    recording = Recording(
        cut.recording_id, [source], cut.sampling_rate, samples.shape[1], cut.duration, channel_ids=channels
    )
    custom = {name: value for name, value in (cut.custom or {}).items() if name != "where"}
    return fastcopy(cut, start=0.0, recording=recording, custom=custom)


def _named(cut: Cut) -> Cut:
    """Return a cut whose id can name a file in a tar, without the slash that an absolute path begins with.

    Raises:
        ManifestError: Lhotse, or a tar program, would change the id.
    """
    if any(cut.id.startswith(os.path.realpath(file)) for file in files_of(cut)):  # a clip that its file names
        cut = fastcopy(cut, id=cut.id.lstrip("/"))
    refuse_outside(cut.id, f"{cut.where}: the id")
    if str(PurePosixPath(cut.id)) != cut.id or cut.id.endswith("."):
        raise ManifestError(f"{cut.where}: the id {cut.id!r} cannot name a file in a tar; give the clip another `id`")
    return cut


def _unfinished(out: Path, manifest: Path, clips: int, shard_size: int, encoding: str) -> Path:
    """Return the folder of an unfinished pack, made or found again.

    Raises:
        ValueError: the folder has shards of another manifest, or with other settings.
    """
    part = out.with_name(f"{out.name}.part")
    plan: dict[str, Any] = {"manifest": str(manifest.resolve()), "clips": clips}
    plan |= {"shard size": shard_size, "format": encoding}
    if manifest.is_file():
        plan |= {"size": manifest.stat().st_size, "time": manifest.stat().st_mtime_ns}
    if not part.exists():
        part.mkdir(parents=True)
        _write_json(part / JOURNAL, plan)
    known = json.loads((part / JOURNAL).read_text()) if (part / JOURNAL).exists() else None
    if known != plan:
        raise UserError(
            f"{part} holds shards of another manifest, or with other settings; remove it to start again "
            f"(there: {known}, now: {plan})"
        )
    return part


def _report(shard: Shard) -> Path:
    return shard.folder / f"done.{shard.number}.json"


def _write_json(path: Path, value: Any) -> None:
    with atomic_write(path, sync=False) as file:
        json.dump(value, file)


def _renumber(folder: Path) -> None:
    """Number the shards without gaps, which shards without any readable clip leave."""
    for field, suffix in (("cuts", "jsonl.gz"), ("recording", "tar")):
        for number, path in enumerate(sorted(folder.glob(f"{field}.*.{suffix}"))):
            path.rename(folder / f"{field}.{number:06d}.{suffix}")
