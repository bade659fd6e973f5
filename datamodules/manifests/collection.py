"""The clips of several manifests together, and checks between them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from lhotse import MonoCut
from lhotse.cut import Cut

from slap.core.bad_clip import BadClip
from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.datamodules.audio.decode import LARGEST
from slap.datamodules.audio.load import decoded_if_good, files_read, mono
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.columns import Columns
from slap.datamodules.manifests.data_root import Folders, RemoteRoots
from slap.datamodules.manifests.read import read_manifest
from slap.datamodules.manifests.safe_cuts import tracks_of
from slap.datamodules.manifests.sequence import Clips, ClipSubset, ConcatClips, repeated
from slap.datamodules.sampling.epoch import Source
from slap.datamodules.stored import places_where

log = logging.getLogger(__name__)


class MonoCuts(Sequence[MonoCut]):
    """Mono clips at the model's sample rate, made one by one on access.

    Args:
        clips: n clips.
        rate: the model's sample rate, Hz.
        in_memory: decode and resample all good clips now, and keep them in memory.
        largest: bytes of a clip that may be decoded at once.
    """

    def __init__(self, clips: Clips, rate: int, in_memory: bool = False, largest: int = LARGEST) -> None:
        self.clips, self.rate = clips, rate
        self.decoded = [decoded_if_good(mono(cut, rate), largest) for cut in clips] if in_memory else None

    def __len__(self) -> int:
        """Return the number of clips, n."""
        return len(self.clips)

    def __getitem__(self, occurrence: int) -> MonoCut:  # type: ignore[override]  # no slices
        """Return the clip of an occurrence, any number from 0 on: clip `occurrence % n`."""
        number = occurrence % len(self.clips)
        return mono(self.clips.cut(number), self.rate) if self.decoded is None else self.decoded[number]

    def __iter__(self) -> Iterator[MonoCut]:
        return (self[number] for number in range(len(self)))


def read_manifests(
    paths: Sequence[Path],
    max_bad: float,
    bad: list[BadClip],
    data_root: Folders | None = None,
    columns: Columns | None = None,
    captioned: bool = True,
    remote_roots: RemoteRoots | None = None,
) -> list[Clips]:
    """Return the clips of each manifest.

    Args:
        paths: paths of the manifests.
        max_bad: largest share of bad clips in each manifest, 0 to 1.
        bad: a list to which the bad clips are appended; they are left out.
        data_root: folders below which audio must lie; see `slap.datamodules.manifests.data_root`.
        columns: columns of tables whose names are not the known ones, see `read_manifest`.
        captioned: every clip needs a caption.
        remote_roots: addresses below which shards may be read from other machines; see there.

    Raises:
        ManifestError: a manifest cannot be used, or an id names different audio in two of them: clips of equal id
            count as the same clip in the losses and the metrics.
    """
    parts = [read_manifest(path, max_bad, bad, data_root, columns, captioned, remote_roots) for path in paths]
    if len({path.resolve() for path in paths}) > 1:
        refuse_other_audio(parts)
    return parts


def refuse_other_audio(parts: Sequence[Clips]) -> None:
    """Refuse clips of one id and different audio.

    Raises:
        ManifestError: there are such clips; names both.
    """
    joined = ConcatClips(parts)
    for first, second in repeated(joined.keys):
        known, cut = joined.cut(first), joined.cut(second)
        if known.id == cut.id and _place(known) != _place(cut):
            raise ManifestError(
                f"{cut.where}: the id {cut.id!r} names other audio in {known.where}; give them different ids"
            )


def check_lengths(clips: Clips, max_duration: Seconds, remedy: str) -> None:
    """Refuse clips that are longer than a batch.

    Args:
        clips: clips to check.
        max_duration: seconds of audio per batch.
        remedy: advice for the message.

    Raises:
        ValueError: a clip is longer; names the first one.
    """
    long = places_where(clips.durations, lambda durations: durations > max_duration)
    if len(long):
        cut = clips.cut(int(long[0]))
        raise UserError(
            f"{cut.where}: clip {cut.id!r} lasts {cut.duration:.2f} s, but a batch holds "
            f"max_duration={max_duration} s of audio; {remedy}"
        )


def long_enough(clips: Clips, min_clip: Seconds) -> Clips:
    """Return the clips that last at least `min_clip` seconds, and log the number of others."""
    if min_clip <= 0:
        return clips
    short = places_where(clips.durations, lambda durations: durations < min_clip)
    if not len(short):
        return clips
    first = clips.cut(int(short[0]))
    log.warning(
        "%d of %d clips are shorter than min_clip=%s s and left out; the first is %r (%s)",
        len(short),
        len(clips),
        min_clip,
        first.id,
        first.where,
    )
    return ClipSubset(clips, places_where(clips.durations, lambda durations: durations >= min_clip))


def sources_of(parts: Sequence[Clips], repeats: Sequence[int]) -> list[Source]:
    """Return the source of each manifest that has clips.

    Args:
        parts: clips of each manifest.
        repeats: occurrences of each clip per epoch, for each manifest.
    """
    return [replace(s, repeats=times) for s, times in zip(every_source(parts), repeats, strict=True) if s.size]


def every_source(parts: Sequence[Clips]) -> list[Source]:
    """Return the source of each manifest, with one occurrence per epoch, those without clips included."""
    firsts = accumulate((len(clips) for clips in parts), initial=0)
    return [Source(first, len(clips), 1, clips.parts) for first, clips in zip(firsts, parts, strict=False)]


def _place(cut: Cut) -> tuple[list[str], list[Seconds], Seconds]:
    return files_read(cut), [track.start for track in tracks_of(cut)], cut.duration
