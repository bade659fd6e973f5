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

AUDIO = {"content", "fingerprint"}
"""Ways that decode audio."""

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
    found = opened(train, evaluation, columns)
    every = range(len(found.train))
    add_names(found, ways, every)
    if ways & AUDIO:
        known = evaluated(found, workers, show)
        found.unread += [one for one in known if isinstance(one, str)]
        audio = KnownAudio(known, ways)
        for number, one in fingerprints(found.train, every, workers, show, "training"):
            audio.compare(found, number, one)
    return found


def opened(train: Path, evaluation: Sequence[Path], columns: Columns | None = None) -> Overlap:
    """Open the manifests that are compared, see `search`; rows that cannot be used are noted as unread."""
    bad: list[BadClip] = []
    parts = [read_manifest(path, max_bad=1.0, bad=bad, columns=columns) for path in (train, *evaluation)]
    found = Overlap(parts[0], ConcatClips(parts[1:]), [train, *evaluation])
    found.unread += [f"clip {clip.id!r} ({clip.where}): {clip.reason}: {clip.detail}" for clip in bad]
    return found


def add_names(found: Overlap, ways: set[str], span: range) -> None:
    """Add the pairs of some training clips that share an id or an origin."""
    if "id" in ways:
        for pair in pairs(_ids(found.train, span), _ids(found.evaluation, range(len(found.evaluation)))):
            found.add(*pair, "id")
    if "origin" in ways:
        _by_origin(found, span)


def _ids(clips: Clips, span: range) -> np.ndarray:
    numbers = np.arange(span.start, span.stop)
    return by_name(np.stack([clips.keys[span.start : span.stop], numbers], axis=1))


def _by_origin(found: Overlap, span: range) -> None:
    """Add pairs with the same origin, if at least one of the two manifests states it."""
    stated, guessed = _origins(found.train, span)
    other_stated, other_guessed = _origins(found.evaluation, range(len(found.evaluation)))
    for ours, theirs in ((stated, other_stated), (guessed, other_stated), (stated, other_guessed)):
        for site in sorted(ours.keys() & theirs.keys()):
            for pair in pairs(by_name(ours[site]), by_name(theirs[site])):
                found.add(*pair, site)


Rows = dict[str, list[tuple[int, int]]]


def _origins(clips: Clips, span: range) -> tuple[Rows, Rows]:
    """Return the fingerprints of origins with the numbers of their clips, by site: stated ones, and guessed ones."""
    stated: Rows = {}
    guessed: Rows = {}
    for number in span:
        cut = clips[number]
        for rows, origins in ((stated, stated_origins(cut)), (guessed, guessed_origins(cut))):
            for site, name in origins.items():
                rows.setdefault(site, []).append((origin_key(site, name), number))
    return stated, guessed


def evaluated(found: Overlap, workers: int, show: bool) -> list[Fingerprint | str]:
    """Compute the fingerprints of the evaluation clips; for one that cannot be read, write a message."""
    clips = found.evaluation
    return [one for _, one in fingerprints(clips, range(len(clips)), workers, show, "evaluation")]


class KnownAudio:
    """The audio of the evaluation clips, in which that of training clips is looked up.

    Args:
        known: fingerprints of the evaluation clips; a message for one that cannot be read.
        ways: ways to compare.
    """

    def __init__(self, known: Sequence[Fingerprint | str], ways: set[str]) -> None:
        readable = [NOTHING if isinstance(one, str) else one for one in known]
        self.contents: dict[bytes, list[int]] = {}
        for number, one in enumerate(readable if "content" in ways else ()):
            if one.content:
                self.contents.setdefault(one.content, []).append(number)
        self.index = FingerprintIndex(readable if "fingerprint" in ways else [])

    def compare(self, found: Overlap, number: int, one: Fingerprint | str) -> None:
        """Add the pairs of a training clip; one that cannot be read is noted as unread."""
        if isinstance(one, str):
            found.unread.append(one)
            return
        for other in self.contents.get(one.content, ()):
            found.add(number, other, "content")
        for match in self.index.matches(one):
            found.add(number, match.clip, "fingerprint", match)


NOTHING = Fingerprint(np.zeros(0, np.uint32), np.zeros(0, bool), b"")


def fingerprints(
    clips: Clips, span: range, workers: int, show: bool, what: str
) -> Iterator[tuple[int, Fingerprint | str]]:
    """Yield numbers and fingerprints of some clips, in order; for a clip that cannot be read, a message."""
    numbers = iter(tqdm(span, desc=what, unit=" clips", disable=not show, dynamic_ncols=True))
    if workers < 2 or len(span) < FEW:
        for number in numbers:
            yield number, _fingerprint(clips[number])
        return
    # Spawned, since this process has threads; each opens the manifest for itself.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_open, initargs=(clips,))
    waiting: deque[Future[list[Fingerprint | str]]] = deque()
    batches = iter(span[::BATCH])
    try:
        while True:
            for first in islice(batches, 2 * workers + 2 - len(waiting)):
                waiting.append(pool.submit(_batch, first, min(first + BATCH, span.stop)))
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
