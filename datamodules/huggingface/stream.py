"""Batches of a streamed data set: read in the order of its files, mixed in blocks, split over processes and workers.

A stream has neither a length nor random access. Each loading process of each training process reads a part of its own:
some of the files, or where these are too few, every so many rows. It reads a block of rows, makes batches of similar
length of its clips, as `slap.datamodules.sampling.sampler` does of a whole corpus, and goes on with the next block. At
the end of its part it begins again, with the files in another order. A place in the stream is therefore the place of
the library at the begin of a block, and the number of batches of that block: continuing reads one block again.

B clips of a batch.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from itertools import islice
from typing import Any

import numpy as np
from lhotse import AudioSource, MonoCut, Recording
from torch.utils.data import IterableDataset, get_worker_info

import slap.datamodules.workers  # noqa: F401  # processes that load batches shall end when training does
from slap.audio.decoders import measure
from slap.audio.errors import AudioError
from slap.core.bad_clip import BadClip, Reason
from slap.core.batch import Batch
from slap.datamodules.audio.load import mono
from slap.datamodules.bad_clips import RowError
from slap.datamodules.dataset import TrainDataset
from slap.datamodules.huggingface.rows import RowReader, undecoded
from slap.datamodules.huggingface.source import Source
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.clip_cut import checked_cut
from slap.datamodules.manifests.columns import Columns
from slap.datamodules.manifests.data_root import refuse_elsewhere
from slap.datamodules.manifests.tables import CaptionError, check_text, clip_of
from slap.datamodules.options import Batching
from slap.datamodules.sampling.sampler import BatchRequest, TrainSampler

log = logging.getLogger(__name__)

BLOCK = 512
"""Rows that are mixed; their encoded audio is in memory, some 100 MB of clips of 10 s."""


@dataclass(frozen=True)
class Place:
    """Place in one part of a stream.

    Attributes:
        turn: number of times that the part was read to its end.
        block: number of the block in this turn.
        start: state of the library at the begin of the block; None at the begin of the part.
        done: batches of the block that were given.
    """

    turn: int = 0
    block: int = 0
    start: dict[str, Any] | None = None
    done: int = 0


@dataclass(frozen=True)
class StreamOptions:
    """Options of a stream and of the batches that are made of it.

    Attributes:
        source: name of the data set.
        columns: columns whose names are not the known ones.
        roots: folders below which audio files must lie, if any.
        batching: sizes of batches and clips.
        captioned: clips without captions are bad.
        seed: seed of the order.
        dataset: makes the data set that loads the batches of some clips, given their cuts, lengths and a seed.
    """

    source: Source
    columns: Columns | None
    roots: Sequence[str]
    batching: Batching
    captioned: bool
    seed: int
    dataset: Callable[[Sequence[MonoCut], np.ndarray, int, tuple[str, ...]], TrainDataset]


Item = tuple[Batch, int, str] | None
"""A batch with the number of its worker, and its place after it as JSON; None is dropped."""


@dataclass
class StreamBatches(IterableDataset[Item]):
    """Endless batches of the parts of one training process, one part per worker.

    Args:
        options: options of the stream.
        sample_rate: of the waveforms, Hz.
        rank: number of this training process.
        world_size: number of training processes.
        places: place of each worker at which to begin.
        following: number of the worker whose turn it is.
    """

    options: StreamOptions
    sample_rate: int
    rank: int
    world_size: int
    places: Sequence[Place]
    following: int = 0
    _turn: dict[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Item]:
        info = get_worker_info()
        worker = 0 if info is None else info.id
        if worker < self.following:
            yield None  # the loader asks the first worker first
        workers = len(self.places)
        part = self.rank * workers + worker
        for batch, place in self._batches(part, self.world_size * workers, self.places[worker]):
            yield batch, worker, json.dumps(asdict(place))

    def _batches(self, part: int, parts: int, place: Place) -> Iterator[tuple[Batch, Place]]:
        from datasets.distributed import split_dataset_by_node

        stream = self.options.source.open(self.options.roots)
        reader = RowReader(self.options.source, stream.features, self.options.columns)
        stream = split_dataset_by_node(undecoded(stream, reader.audio), rank=part, world_size=parts)
        while True:
            stream.set_epoch(1 + place.turn + 1_000_003 * self.options.seed)  # 0 would leave the files in order
            if place.start is not None:
                stream.load_state_dict(place.start)
            bad: list[BadClip] = []
            found = 0
            # Not `iter(stream)`, which would split it over workers once more.
            for columns in stream.iter(batch_size=BLOCK):
                for batch in self._block(columns, reader, f"{part} of {parts}", place, bad):
                    found += len(batch)
                    place = replace(place, done=place.done + 1)
                    yield batch, place
                place = replace(place, block=place.block + 1, start=stream.state_dict(), done=0)
            if not found and place.turn:
                first = f"; the first: {bad[0].where}: {bad[0].detail}" if bad else ""
                raise ManifestError(
                    f"{self.options.source.text}: part {part} of {parts} has no clip to train on{first}"
                )
            place = Place(place.turn + 1)

    def _block(
        self, columns: Mapping[str, Sequence[Any]], reader: RowReader, part: str, place: Place, bad: list[BadClip]
    ) -> Iterator[Batch]:
        """Yield the batches of a block, after those that were given already; bad rows come with the first."""
        sizes, rate, name = self.options.batching, self.sample_rate, f"{part}, turn {place.turn}, block {place.block}"
        found: list[BadClip] = []
        cuts = list(self._cuts(columns, reader, name, found))
        bad += found[:1]
        lengths = np.array([cut.num_samples for cut in cuts], dtype=np.int64)
        if sizes.max_clip is not None:
            lengths = np.minimum(lengths, round(sizes.max_clip * rate))
        if not len(cuts):
            if found and not place.done:
                yield Batch.without_clips(found)
            return
        digest = blake2b(f"{self.options.seed} {name}".encode(), digest_size=6).digest()
        seed = int.from_bytes(digest, "little")
        sampler = TrainSampler(lengths, round(sizes.max_duration * rate), sizes.max_clips, sizes.num_buckets, seed)
        loaded = self.options.dataset(cuts, lengths, seed, reader.tasks)
        for number, (step,) in enumerate(islice(sampler.steps(0), place.done, None), start=place.done):
            batch = loaded[BatchRequest(place.turn, tuple(step.tolist()))]
            yield batch if number else replace(batch, bad=(*found, *batch.bad))

    def _cuts(
        self, columns: Mapping[str, Sequence[Any]], reader: RowReader, name: str, bad: list[BadClip]
    ) -> Iterator[MonoCut]:
        """Yield the clips of the rows of a block that can be used."""
        options, sizes = self.options, self.options.batching
        for number in range(len(columns[reader.audio])):
            row = {column: values[number] for column, values in columns.items()}
            where = f"{options.source.text}, part {name}, row {number}"
            try:
                cut = mono(self._cut(row, reader, where), self.sample_rate)
            except RowError as error:
                bad.append(error.bad)
                continue
            except (AudioError, TypeError, ValueError, ArithmeticError) as error:
                reason: Reason = error.reason if isinstance(error, AudioError) else "caption"
                bad.append(BadClip(where, reason, str(error), where, where))
                continue
            longest = sizes.max_duration if sizes.max_clip is None else float("inf")
            if cut.duration > longest:
                detail = f"it lasts {cut.duration:.2f} s, more than max_duration={longest}; crop with max_clip"
                bad.append(BadClip(cut.id, "too_large", detail, where, where))
            elif cut.duration >= sizes.min_clip:
                yield cut

    def _cut(self, row: Mapping[str, Any], reader: RowReader, where: str) -> Any:
        """Return the cut of a row, with its encoded audio in memory."""
        content, path = reader.content(row)
        if not content:
            raise AudioError(f"{where} has no audio", "absent", where)
        if isinstance(content, str):
            refuse_elsewhere(content, self.options.roots, where)
        record = reader.record(row)
        check_text(record)
        # A stream may begin at any place, so its rows have no numbers: a clip is known by its bytes.
        stored = None if isinstance(content, str) else content.getvalue()
        name = path if stored is None else f"{path}-{blake2b(stored, digest_size=8).hexdigest()}"
        clip = clip_of(record, where, name, self.options.captioned)
        header = measure(content, where)
        channels = list(range(header.channels))
        source = AudioSource("file" if stored is None else "memory", channels, content if stored is None else stored)
        return checked_cut(clip, Recording(clip.id, [source], header.rate, header.frames, header.duration), where)


def captions_in(source: Source, columns: Columns | None, most: int) -> Iterator[str]:
    """Yield the captions of the first rows of a stream, without reading its audio; a tokenizer learns from them.

    Args:
        source: name of the data set.
        columns: columns whose names are not the known ones.
        most: number of rows.
    """
    stream = source.open()
    reader = RowReader(source, stream.features, columns)
    if not reader.names:
        return
    for row in islice(stream.select_columns(list(reader.names)), most):
        try:
            yield from clip_of(reader.record(row), source.text, source.text).captions
        except CaptionError as error:
            log.info("%s: a row of which no tokenizer learns: %s", source.text, error)
