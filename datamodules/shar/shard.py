"""A shard of a Shar folder: its clips, with their audio encoded, in one or several processes."""

from __future__ import annotations

import gzip
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

from slap.core.files import atomic_write
from slap.datamodules.audio.load import DecodeError, load
from slap.datamodules.audio.tar_member import refuse_outside
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.safe_cuts import files_of
from slap.datamodules.manifests.sequence import Clips


@dataclass(frozen=True)
class Shard:
    """A shard to write: the clips `start` to `stop` of a manifest, as shard `number` of a folder."""

    number: int
    start: int
    stop: int
    folder: Path
    encoding: str
    skip_bad: bool

    @property
    def report(self) -> Path:
        """The file that appears when the shard is complete, with messages about the clips that are left out."""
        return self.folder / f"done.{self.number}.json"

    def left_out(self) -> list[str]:
        """Read the messages about the clips that are left out."""
        found: list[str] = json.loads(self.report.read_text(encoding="utf-8"))
        return found


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
        if path.suffix == ".gz":  # Lhotse's has the time and the path in its header
            path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), mtime=0))
        path.replace(shard.folder / path.name)
    work.rmdir()
    _write_report(shard, bad)
    return shard


def write_shards(clips: Clips, shards: list[Shard], workers: int) -> Iterator[Shard]:
    """Write shards in a number of processes; yield each when it is complete."""
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


def _write_report(shard: Shard, bad: list[str]) -> None:
    with atomic_write(shard.report, sync=False) as file:
        json.dump(bad, file)
