"""Comparison of a training manifest with evaluation manifests: by names, by samples and by fingerprints of the audio.

The fingerprints of the evaluation clips are kept in memory, about 2.7 kB per 10 s of audio; each training clip is read
once and forgotten, so 10^6 training clips cost time but no memory.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from lhotse.cut import Cut
from tqdm import tqdm

from slap.core.bad_clip import BadClip
from slap.datamodules.audio.load import DecodeError
from slap.datamodules.manifests.columns import Columns
from slap.datamodules.manifests.read import read_manifest
from slap.datamodules.manifests.sequence import Clips, ConcatClips, origin_key
from slap.datamodules.overlap.fingerprint import Fingerprint, fingerprint
from slap.datamodules.overlap.fingerprint_index import FingerprintIndex, FingerprintMatch
from slap.datamodules.overlap.ids import by_name, guessed_origins, pairs, stated_origins

BATCH = 16  # clips per task of a process
FEW = 500  # clips; below this, starting processes takes longer than decoding


@dataclass
class Pair:
    """A training clip and an evaluation clip that are the same.

    Attributes:
        by: ways in which they are the same: "id", the sites of shared origins, "content", "fingerprint".
        match: the segment that they share, for "fingerprint".
    """

    by: list[str] = field(default_factory=list)
    match: FingerprintMatch | None = None


@dataclass
class Overlap:
    """The clips that a training manifest shares with evaluation manifests.

    Attributes:
        train: clips of the training manifest.
        evaluation: clips of all evaluation manifests, in order.
        paths: paths of the training manifest and the evaluation manifests.
        pairs: pairs by the numbers of a training clip and an evaluation clip.
        unread: messages about clips whose audio is missing or cannot be read.
    """

    train: Clips
    evaluation: ConcatClips
    paths: list[Path]
    pairs: dict[tuple[int, int], Pair] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    def add(self, train: int, evaluation: int, way: str, match: FingerprintMatch | None = None) -> None:
        """Add a way in which two clips are the same."""
        pair = self.pairs.setdefault((train, evaluation), Pair())
        if way not in pair.by:
            pair.by.append(way)
        pair.match = match or pair.match


def search(
    train: Path,
    evaluation: Sequence[Path],
    ways: set[str],
    workers: int = 0,
    show: bool = False,
    columns: Columns | None = None,
) -> Overlap:
    """Compare a training manifest with evaluation manifests.

    Args:
        train: path of the training manifest.
        evaluation: paths of the evaluation manifests.
        ways: ways to compare, of `slap.datamodules.overlap.WAYS`.
        workers: number of processes that decode audio; 0 decodes in this one.
        show: show a progress bar.
        columns: columns of tables whose names are not the known ones, see `read_manifest`.

    Raises:
        ManifestError: a manifest cannot be used.
    """
    bad: list[BadClip] = []
    parts = [read_manifest(path, max_bad=1.0, bad=bad, columns=columns) for path in (train, *evaluation)]
    found = Overlap(parts[0], ConcatClips(parts[1:]), [train, *evaluation])
    found.unread += [f"clip {clip.id!r} ({clip.where}): {clip.reason}: {clip.detail}" for clip in bad]
    if "id" in ways:
        for pair in pairs(_ids(found.train), _ids(found.evaluation)):
            found.add(*pair, "id")
    if "origin" in ways:
        _by_origin(found)
    if ways & {"content", "fingerprint"}:
        _by_audio(found, ways, workers, show)
    return found


def _ids(clips: Clips) -> np.ndarray:
    return by_name(np.stack([clips.keys, np.arange(len(clips))], axis=1))


def _by_origin(found: Overlap) -> None:
    """Add pairs with the same origin, if at least one of the two manifests states it."""
    (stated, guessed), (other_stated, other_guessed) = _origins(found.train), _origins(found.evaluation)
    for ours, theirs in ((stated, other_stated), (guessed, other_stated), (stated, other_guessed)):
        for site in ours.keys() & theirs.keys():
            for pair in pairs(by_name(ours[site]), by_name(theirs[site])):
                found.add(*pair, site)


Rows = dict[str, list[tuple[int, int]]]


def _origins(clips: Clips) -> tuple[Rows, Rows]:
    """Return the fingerprints of origins with the numbers of their clips, by site: stated ones, and guessed ones."""
    stated: Rows = {}
    guessed: Rows = {}
    for number, cut in enumerate(clips):
        for rows, origins in ((stated, stated_origins(cut)), (guessed, guessed_origins(cut))):
            for site, name in origins.items():
                rows.setdefault(site, []).append((origin_key(site, name), number))
    return stated, guessed


def _by_audio(found: Overlap, ways: set[str], workers: int, show: bool) -> None:
    known: list[Fingerprint] = []
    contents: dict[bytes, list[int]] = {}
    for number, one in _fingerprints(found.evaluation, workers, show, "evaluation"):
        if isinstance(one, str):
            found.unread.append(one)
            one = NOTHING
        known.append(one)
        if one.content:
            contents.setdefault(one.content, []).append(number)
    index = FingerprintIndex(known if "fingerprint" in ways else [])
    for number, one in _fingerprints(found.train, workers, show, "training"):
        if isinstance(one, str):
            found.unread.append(one)
            continue
        for other in contents.get(one.content, ()) if "content" in ways else ():
            found.add(number, other, "content")
        for match in index.matches(one):
            found.add(number, match.clip, "fingerprint", match)


NOTHING = Fingerprint(np.zeros(0, np.uint32), np.zeros(0, bool), b"")


def _fingerprints(clips: Clips, workers: int, show: bool, what: str) -> Iterator[tuple[int, Fingerprint | str]]:
    """Yield numbers and fingerprints of clips, in order; for a clip that cannot be read, a message."""
    numbers = iter(tqdm(range(len(clips)), desc=what, unit=" clips", disable=not show, dynamic_ncols=True))
    if workers < 2 or len(clips) < FEW:
        for number in numbers:
            yield number, _fingerprint(clips[number])
        return
    # Spawned, since this process has threads; each opens the manifest for itself.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_open, initargs=(clips,))
    waiting: deque[Future[list[Fingerprint | str]]] = deque()
    batches = iter(range(0, len(clips), BATCH))
    try:
        while True:
            for first in islice(batches, 2 * workers + 2 - len(waiting)):
                waiting.append(pool.submit(_batch, first, min(first + BATCH, len(clips))))
            if not waiting:
                return
            for one in waiting.popleft().result():
                yield next(numbers), one
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_clips: Clips | None = None  # of a decoding process


def _open(clips: Clips) -> None:
    global _clips
    _clips = clips
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends the pool


def _batch(first: int, end: int) -> list[Fingerprint | str]:
    assert _clips is not None
    return [_fingerprint(_clips[number]) for number in range(first, end)]


def _fingerprint(cut: Cut) -> Fingerprint | str:
    try:
        return fingerprint(cut)
    except DecodeError as error:
        return str(error)
