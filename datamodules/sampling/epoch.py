"""Order of the clips in a training epoch, for every process.

n clips of all sources, R processes. A clip may occur several times per epoch; the number of an occurrence is
`clip + n * repetition`. All is a pure function of seed, epoch and R, and every process computes it for all processes,
so they need not communicate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np

WINDOW = 4096
"""Number of clips among which a clip from storage in parts is shuffled: many batches, but little of the page cache."""


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

    def occurrences(self, n: int, name: str, seed: int, epoch: int) -> np.ndarray:
        """Return the occurrences in an epoch, (size x repeats,) or (taken,) int64, shuffled.

        Of storage in parts, only the order of the parts is shuffled.

        Args:
            n: clips of all sources.
            name: a different one per source; part of the seed.
            seed: seed of the order.
            epoch: counted from 0.
        """
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
            ends = np.cumsum(sizes[order])
            within = np.arange(self.size) - np.repeat(ends - sizes[order], sizes[order])
            rounds.append(np.repeat(starts[order], sizes[order]) + within + self.first + repetition * n)
        return np.concatenate(rounds)


def streams(sources: Sequence[Source], samples: np.ndarray, seed: int, epoch: int, world_size: int) -> list[np.ndarray]:
    """Return the occurrences of an epoch in one stream for all processes, or one per process for storage in parts.

    With storage in parts each process gets a segment of the line of shuffled parts, with as much audio as every other,
    and shuffles it within a window. So processes read different parts, but for those at which two segments meet.

    Args:
        sources: parts of the manifests in the epoch.
        samples: (n,) int64, the clips' lengths.
        seed: seed of the order.
        epoch: counted from 0; each has an order of its own.
        world_size: R.

    Returns:
        One stream or R, of occurrences.
    """
    n = len(samples)
    # "turns" is part of the seed: another word would give other batches.
    lines = [source.occurrences(n, f"turns {number}", seed, epoch) for number, source in enumerate(sources)]
    if all(source.parts is None for source in sources):
        return [generator("order", seed, epoch).permutation(np.concatenate(lines)) if len(lines) > 1 else lines[0]]
    ranks = []
    cuts = [_equal_parts(samples[line % n], world_size) for line in lines]
    for rank in range(world_size):
        rng = generator(f"window {rank}", seed, epoch)
        pieces = [line[cut[rank] : cut[rank + 1]] for line, cut in zip(lines, cuts, strict=True)]
        shuffled = [piece[_within_window(len(piece), rng)] for piece in pieces]
        # All sources advance alike: each clip's place is its share of the way through its own.
        places = np.concatenate([np.arange(len(piece)) / max(len(piece), 1) for piece in shuffled])
        ranks.append(np.concatenate(shuffled)[np.argsort(places, kind="stable")])
    return ranks


def generator(name: str, seed: int, epoch: int) -> np.random.RandomState:
    """Return random numbers for one purpose; NumPy promises that RandomState gives the same in all its versions."""
    digest = blake2b(f"{name} {seed} {epoch}".encode(), digest_size=32).digest()
    return np.random.RandomState(np.frombuffer(digest, dtype="<u4"))


def _within_window(count: int, rng: np.random.RandomState) -> np.ndarray:
    """Return a random order in which nothing moves by more than the window."""
    return np.argsort(np.arange(count) + WINDOW * rng.random_sample(count))


def _equal_parts(samples: np.ndarray, count: int) -> np.ndarray:
    """Cut a line of clips into parts of equally much audio; return the bounds, (count + 1,) int64 from 0 to its end."""
    total = np.cumsum(samples)
    cuts = np.searchsorted(total, total[-1] * np.arange(1, count) / count)
    return np.concatenate([[0], cuts, [len(samples)]])
