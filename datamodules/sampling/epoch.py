"""Order of the clips in a training epoch, for every process.

n clips of all sources, m occurrences in a section, R processes. A clip may occur several times per epoch; the number of
an occurrence is `clip + n * repetition`. All is a pure function of seed, epoch, section and R, and every process
computes it for all processes, so they need not communicate.

An epoch that is small enough is one section, whose order is an exact shuffle of all its clips, or of its shards. A
larger one is shuffled in two levels: the shards (or runs of neighboring clips, where there are no shards) in random
order, and then the clips of each section, which is the next so many clips of that order. Only one section is ever in
memory. Which clips are in a section does not depend on R.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np

WINDOW = 4096
"""Number of clips among which a clip from storage in parts is shuffled: many batches, but little of the page cache."""

RUN = 1024
"""Number of neighboring clips that stay in one section where storage has no parts: whole blocks of a manifest."""


@dataclass(frozen=True)
class Section:
    """Part of an epoch whose batches are made at once.

    Args:
        number: counted from 0.
        count: sections of the epoch.
    """

    number: int = 0
    count: int = 1

    def of(self, total: int) -> tuple[int, int]:
        """Return the first of `total` occurrences that the section has, and the one after its last."""
        return total * self.number // self.count, total * (self.number + 1) // self.count

    def generator(self, name: str, seed: int, epoch: int) -> np.random.RandomState:
        """Return random numbers for one purpose within the section."""
        return generator(f"{name} of {self.number}" if self.count > 1 else name, seed, epoch)


@dataclass(frozen=True)
class Source:
    """Part of a manifest in an epoch.

    Args:
        first: number of its first clip among the n.
        size: number of its clips.
        repeats: occurrences of each clip per epoch.
        parts: first clips of the parts that lie together in storage, from 0, with `size` at the end; None if clips are
            equally quick to read in any order.
        taken: occurrences per epoch, where the share of the source decides and not `repeats`. Passes over all its
            clips, each in an order of its own, follow each other, and an epoch goes on where the last one stopped: over
            a training, no clip comes two times more often than another.
        weights: (size,) weights in proportion to which clips come in the `taken` occurrences; None is equally often.
            Each comes as often as its share of the occurrences says, rounded up or down at random.
    """

    first: int
    size: int
    repeats: int = 1
    parts: np.ndarray | None = None
    taken: int | None = None
    weights: np.ndarray | None = None

    @property
    def total(self) -> int:
        """Occurrences per epoch."""
        return self.size * self.repeats if self.taken is None else self.taken

    def occurrences(self, n: int, name: str, seed: int, epoch: int, section: Section = Section()) -> np.ndarray:
        """Return the occurrences in an epoch, (size x repeats,) or (taken,) int64, shuffled; or those of a section.

        Of storage in parts, only the order of the parts is shuffled, as of a section of several.

        Args:
            n: clips of all sources.
            name: a different one per source; part of the seed.
            seed: seed of the order.
            epoch: counted from 0.
            section: the section.
        """
        if section.count > 1:
            return self._in_section(n, f"{name} pass", seed, epoch, section)
        if self.taken is None:
            return self._shuffled(n, generator(name, seed, epoch))
        if self.weights is not None:
            return self._weighted(n, self.taken, generator(f"{name} weighted", seed, epoch))
        first, after = epoch * self.taken, (epoch + 1) * self.taken
        passes = range(first // self.size, -(-after // self.size))
        whole = replace(self, repeats=1)
        lines = [
            whole._shuffled(n, generator(f"{name} pass", seed, number)) + n * (number - passes[0]) for number in passes
        ]
        return np.concatenate(lines)[first - passes[0] * self.size : after - passes[0] * self.size]

    def _in_section(self, n: int, name: str, seed: int, epoch: int, section: Section) -> np.ndarray:
        """Return the occurrences of a section: those parts of passes over the source that it covers."""
        assert self.weights is None, "sources with weights have one section"
        before = epoch * self.total
        start, stop = (before + place for place in section.of(self.total))
        lines = [np.empty(0, np.int64)]
        for number in range(start // self.size, -(-stop // self.size)):
            first = number * self.size
            begin, end = max(start - first, 0), min(stop - first, self.size)
            if begin < end:
                clips = self._between(begin, end, generator(name, seed, number))
                lines.append(clips + self.first + n * (number - before // self.size))
        return np.concatenate(lines)

    def _between(self, begin: int, end: int, rng: np.random.RandomState) -> np.ndarray:
        """Return the clips of the source from one place to another in a line of its parts in random order."""
        parts = np.append(np.arange(0, self.size, RUN), self.size) if self.parts is None else self.parts
        starts, sizes = parts[:-1], np.diff(parts)
        order = rng.permutation(len(starts))
        ends = np.cumsum(sizes[order])
        low, high = np.searchsorted(ends, begin, side="right"), np.searchsorted(ends, end, side="left") + 1
        chosen = order[low:high]
        before = int(ends[low] - sizes[chosen[0]])
        return _ranges(starts[chosen], sizes[chosen])[begin - before : end - before]

    def _weighted(self, n: int, taken: int, rng: np.random.RandomState) -> np.ndarray:
        """Draw clips by their weights, at equal distances on a line of all weights in random order."""
        assert self.weights is not None
        order = rng.permutation(self.size)
        line = np.cumsum(self.weights[order])
        places = (np.arange(taken) + rng.random_sample()) / taken * line[-1]
        # A clip without weight ends where the one before it does, and is never met.
        place = np.minimum(np.searchsorted(line, places, side="right"), np.flatnonzero(np.diff(line, prepend=0.0))[-1])
        repetition = np.arange(taken) - np.searchsorted(place, place)
        occurrences = order[place] + self.first + n * repetition
        if self.parts is None:
            return rng.permutation(occurrences)
        part = np.searchsorted(self.parts, order[place], side="right") - 1
        return occurrences[np.argsort(rng.permutation(len(self.parts))[part], kind="stable")]

    def _shuffled(self, n: int, rng: np.random.RandomState) -> np.ndarray:
        clips = np.arange(self.first, self.first + self.size)
        if self.parts is None:
            return rng.permutation((np.arange(self.repeats)[:, None] * n + clips).ravel())
        starts, sizes = self.parts[:-1], np.diff(self.parts)
        rounds = []
        for repetition in range(self.repeats):
            order = rng.permutation(len(starts))
            rounds.append(_ranges(starts[order], sizes[order]) + self.first + repetition * n)
        return np.concatenate(rounds)


def sections_of(sources: Sequence[Source], shuffle_clips: int) -> int:
    """Return the number of sections of an epoch.

    Args:
        sources: parts of the manifests in the epoch.
        shuffle_clips: largest number of clips per section. Weights need all clips at once, in one section.
    """
    if any(source.weights is not None for source in sources):
        return 1
    return max(-(-sum(source.total for source in sources) // shuffle_clips), 1)


def streams(
    lines: Sequence[np.ndarray],
    samples: np.ndarray,
    in_parts: bool,
    seed: int,
    epoch: int,
    world_size: int,
    section: Section = Section(),
) -> list[np.ndarray]:
    """Return the order of the occurrences of a section in one stream, or in one per process for storage in parts.

    With storage in parts each process gets a segment of the line of shuffled parts, with as much audio as every other,
    and shuffles it within a window. So processes read different parts, but for those at which two segments meet.

    Args:
        lines: occurrences of each source in the section.
        samples: (m,) int64, their lengths.
        in_parts: storage of some source is in parts.
        seed: seed of the order.
        epoch: counted from 0; each has an order of its own.
        world_size: R.
        section: the section.

    Returns:
        One stream or R, of places among the m occurrences.
    """
    if not in_parts:
        shuffled = len(lines) == 1 and section.count == 1
        whole = np.arange(len(samples))
        return [whole if shuffled else section.generator("order", seed, epoch).permutation(whole)]
    ends = np.cumsum([len(line) for line in lines])
    numbered = [np.arange(end - len(line), end) for end, line in zip(ends, lines, strict=True)]
    cuts = [equal_parts(samples[line], world_size) for line in numbered]
    ranks = []
    for rank in range(world_size):
        rng = section.generator(f"window {rank}", seed, epoch)
        pieces = [line[cut[rank] : cut[rank + 1]] for line, cut in zip(numbered, cuts, strict=True)]
        shuffled_pieces = [piece[_within_window(len(piece), rng)] for piece in pieces]
        # All sources advance alike: each clip's place is its share of the way through its own.
        places = np.concatenate([np.arange(len(piece)) / max(len(piece), 1) for piece in shuffled_pieces])
        ranks.append(np.concatenate(shuffled_pieces)[np.argsort(places, kind="stable")])
    return ranks


def generator(name: str, seed: int, epoch: int) -> np.random.RandomState:
    """Return random numbers for one purpose; NumPy promises that RandomState gives the same in all its versions."""
    digest = blake2b(f"{name} {seed} {epoch}".encode(), digest_size=32).digest()
    return np.random.RandomState(np.frombuffer(digest, dtype="<u4"))


def equal_parts(samples: np.ndarray, count: int) -> np.ndarray:
    """Cut a line of clips into parts of equally much audio; return the bounds, (count + 1,) int64 from 0 to its end."""
    total = np.cumsum(samples)
    cuts = np.searchsorted(total, (total[-1] if len(total) else 0) * np.arange(1, count) / count)
    return np.concatenate([[0], cuts, [len(samples)]])


def _within_window(count: int, rng: np.random.RandomState) -> np.ndarray:
    """Return a random order in which nothing moves by more than the window."""
    return np.argsort(np.arange(count) + WINDOW * rng.random_sample(count))


def _ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the numbers of several ranges, one after the other, given their first numbers and sizes."""
    ends = np.cumsum(sizes)
    return np.repeat(starts - (ends - sizes), sizes) + np.arange(int(ends[-1]) if len(ends) else 0)
