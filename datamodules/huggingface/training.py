"""Training on a streamed data set: the checks of its options, and its place in a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from lhotse import MonoCut

from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.datamodules.bad_clips import BadClipLog
from slap.datamodules.captions.sample import CaptionSampler
from slap.datamodules.dataset import Tokenize, TrainDataset, Transform
from slap.datamodules.huggingface.source import Source, is_huggingface
from slap.datamodules.huggingface.stream import StreamOptions, captions_in
from slap.datamodules.huggingface.stream_loader import Places, StreamLoader
from slap.datamodules.manifests.columns import Columns
from slap.datamodules.manifests.data_root import resolved_roots
from slap.datamodules.options import Batching, Limits, Mixture, Unlabelled
from slap.datamodules.sampling.position import Progress, changes
from slap.datamodules.sampling.replacement import Replacements

CAPTIONS = 100_000
"""Rows of a stream from whose captions a tokenizer learns."""


@dataclass(frozen=True)
class StreamedTraining:
    """Training clips that are streamed, with the options of the data module that apply to them.

    Attributes:
        source: name of the data set.
        columns: columns whose names are not the known ones.
        batching: sizes of batches and clips.
        limits: limits on bad clips and on reading.
        captions_drawn: sampler of the captions.
        transforms: transforms of training clips.
        captioned: clips without captions are bad.
        seed: seed of all that is random.
        batches: batches per epoch, per process.
        num_workers: loading processes per training process.
    """

    source: Source
    columns: Columns | None
    batching: Batching
    limits: Limits
    captions_drawn: CaptionSampler
    transforms: Sequence[Transform]
    captioned: bool
    seed: int
    batches: int
    num_workers: int

    @classmethod
    def among(
        cls,
        mixture: Mixture,
        others: Unlabelled,
        in_memory: bool,
        columns: Columns | None,
        batching: Batching,
        limits: Limits,
        captions_drawn: CaptionSampler,
        transforms: Sequence[Transform],
        seed: int,
        batches: int,
        num_workers: int,
    ) -> StreamedTraining | None:
        """Return the training on a stream; None if the training manifests have random access.

        Args:
            mixture: the training manifests.
            others: training clips without captions.
            in_memory: decode all audio once and keep it.
            columns: columns whose names are not the known ones.
            batching: sizes of batches and clips.
            limits: limits on bad clips and on reading.
            captions_drawn: sampler of the captions.
            transforms: transforms of training clips.
            seed: seed of all that is random.
            batches: batches per epoch, per process.
            num_workers: loading processes per training process.

        Raises:
            ValueError: a stream with options that need random access, or beside other manifests.
        """
        source = _stream_among(mixture, others, in_memory, batches)
        if source is None:
            return None
        own = columns, batching, limits, captions_drawn, transforms, not others.empty_captions, seed
        return cls(source, *own, batches, num_workers)

    def captions(self) -> Iterator[str]:
        """Yield the captions of the first rows, from which a tokenizer learns."""
        return captions_in(self.source, self.columns, CAPTIONS)

    def loader(
        self,
        connection: tuple[int, Tokenize],
        process: tuple[int, int],
        bad_clips: BadClipLog,
        pin_memory: bool,
        progress: Progress,
        restart_changed: bool,
    ) -> StreamLoader:
        """Return the batches of the stream, from its begin or the place of a checkpoint.

        Args:
            connection: the model's sample rate and tokenizer.
            process: rank and world size.
            bad_clips: log of bad clips.
            pin_memory: put batches into page-locked memory.
            progress: progress of training, which may go on from a checkpoint.
            restart_changed: begin the interrupted epoch anew if the data have changed.

        Raises:
            ValueError: the stream or the options have changed, and the epoch shall not begin anew.
        """
        sample_rate, tokenize = connection
        make = partial(
            _dataset, tokenize, self.transforms, self.batching.max_clip, self.limits.largest, self.captions_drawn
        )
        roots = resolved_roots(self.limits.data_root)
        options = StreamOptions(self.source, self.columns, roots, self.batching, self.captioned, self.seed, make)
        loader = StreamLoader(options, sample_rate, process, self.batches, bad_clips, self.num_workers, pin_memory)
        known = _basis(loader)
        saved = progress.begin(known, restart_changed)
        if saved:
            same = not changes(saved["basis"], known)
            places = Places.of(saved["streams"][process[0]]) if same else None
            loader.go_on((progress.position.epoch, progress.position.batches), places)
        return loader


def _stream_among(mixture: Mixture, others: Unlabelled, in_memory: bool, batches: int) -> Source | None:
    """Return the stream to train on; None if the training manifests have random access.

    Raises:
        ValueError: a stream with options that need random access, or beside other manifests.
    """
    if batches < 1:
        raise UserError(f"stream_batches must be at least 1, got {batches}")
    paths = mixture.manifests.paths
    streams = [path for path in (*paths, *others.manifests.paths) if is_huggingface(path) and Source.of(path).streaming]
    if not streams:
        return None
    needing = {
        "other manifests": len(paths) + len(others.manifests.paths) > 1 or bool(mixture.manifests.names),
        "unlabelled": bool(others.manifests.paths),
        "repeats": set(mixture.repeats_each) != {1},
        "weights or temperature": mixture.weights is not None or mixture.temperature is not None,
        "balance": mixture.balance is not None,
        "in_memory": in_memory,
    }
    given = [name for name, present in needing.items() if present]
    if given:
        raise UserError(
            f"{streams[0]} is a stream, which is read in the order of its files and alone; it cannot be combined with "
            f"{', '.join(given)}. Leave `streaming` out of its name to read it with random access"
        )
    return Source.of(streams[0])


def _dataset(
    tokenize: Tokenize,
    transforms: Sequence[Transform],
    max_clip: Seconds | None,
    largest: int,
    captions: CaptionSampler,
    cuts: Sequence[MonoCut],
    lengths: np.ndarray,
    seed: int,
    tasks: tuple[str, ...],
) -> TrainDataset:
    """Make the data set of the clips of a block, see `StreamOptions`."""
    replacements = Replacements(lengths, seed)
    cyclic = _Cyclic(cuts)
    return TrainDataset(cyclic, tokenize, tasks, transforms, max_clip, seed, replacements, largest, (0,), captions)


class _Cyclic(list[MonoCut]):
    """Clips by the numbers of their occurrences, see `slap.datamodules.sampling.epoch`."""

    def __getitem__(self, occurrence: Any) -> Any:
        return super().__getitem__(occurrence % len(self))


def _basis(loader: StreamLoader) -> dict[str, Any]:
    """Return the properties that the batches of a stream depend on, as plain data."""
    options = loader.options
    sizes = options.batching
    columns = {**(options.columns or {}), **options.source.columns}
    return {
        "stream": f"{options.source.text} {sorted(columns.items(), key=str)}",
        "stream_batches": loader.batches,
        "num_buckets": sizes.num_buckets,
        "max_samples": round(sizes.max_duration * loader.sample_rate),
        "max_clips": sizes.max_clips,
        "seed": options.seed,
        "world_size": loader.process[1],
        "workers": max(loader.num_workers, 1),
    }
