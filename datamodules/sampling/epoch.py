"""The clips of a training epoch, in order: which come, how often, and for which process.

n clips of all sources, R processes. A turn is one coming of a clip in an epoch; its number is `clip + n * repetition`.
All is a pure function of seed, epoch and R, and every process computes it for all, so they need not talk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np

WINDOW = 4096
"""Clips among which a clip from storage in parts is shuffled. Large against a batch; small against the page cache."""


@dataclass(frozen=True)
class Source:
    """What an epoch takes of a manifest.

    Args:
        first: the number of its first clip among the n.
        size: how many clips it has.
        repeats: how often each comes in an epoch.
        parts: where parts begin that lie together in storage, from 0, with `size` at the end; None if clips are in any
            order equally quick to read.
        taken: turns of an epoch, where its share decides and not `repeats`. Passes over all its clips, each in an order
            of its own, follow each other, and an epoch goes on where the last one stopped: over a training, no clip
            comes twice more often than another.
        weights: (size,) how often clips come in the `taken` turns of an epoch, in proportion; None is equally often.
            Each comes as often as its part of the turns says, rounded up or down at random.
    """

    first: int
    size: int
    repeats: int = 1
    parts: np.ndarray | None = None
    taken: int | None = None
    weights: np.ndarray | None = None

    def turns(self, n: int, name: str, seed: int, epoch: int) -> np.ndarray:
        """Its turns in an epoch, (size x repeats,) or (taken,) int64: shuffled, of storage in parts only the parts.

        Args:
            n: clips of all sources.
            name: tells sources apart.
            seed: of the order.
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
        """Clips drawn by their weights, at equal distances on a line of all weights in random order."""
        assert self.weights is not None
        order = rng.permutation(self.size)
        line = np.cumsum(self.weights[order])
        places = (np.arange(taken) + rng.random_sample()) / taken * line[-1]
        # A clip without weight ends where the one before it does, and is never met.
        place = np.minimum(np.searchsorted(line, places, side="right"), np.flatnonzero(np.diff(line, prepend=0.0))[-1])
        repetition = np.arange(taken) - np.searchsorted(place, place)
        turns = order[place] + self.first + n * repetition
        if self.parts is None:
            return rng.permutation(turns)
        part = np.searchsorted(self.parts, order[place], side="right") - 1
        return turns[np.argsort(rng.permutation(len(self.parts))[part], kind="stable")]

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
    """The turns of an epoch in one stream for all processes, or, where storage is in parts, in one for each.

    With storage in parts each process gets a stretch of the line of shuffled parts, as much audio as every other, and
    shuffles it within a window. So processes read different parts, but for those at which two stretches meet.

    Args:
        sources: of the clips.
        samples: (n,) int64, the clips' lengths.
        seed: of the order.
        epoch: counted from 0; each has an order of its own.
        world_size: R.

    Returns:
        One stream or R, of turns.
    """
    n = len(samples)
    lines = [source.turns(n, f"turns {number}", seed, epoch) for number, source in enumerate(sources)]
    if all(source.parts is None for source in sources):
        return [generator("order", seed, epoch).permutation(np.concatenate(lines)) if len(lines) > 1 else lines[0]]
    ranks = []
    cuts = [_stretches(samples[line % n], world_size) for line in lines]
    for rank in range(world_size):
        rng = generator(f"window {rank}", seed, epoch)
        pieces = [line[cut[rank] : cut[rank + 1]] for line, cut in zip(lines, cuts, strict=True)]
        shuffled = [
            piece[np.argsort(np.arange(len(piece)) + WINDOW * rng.random_sample(len(piece)))] for piece in pieces
        ]
        # All sources advance alike: each clip's place is its share of the way through its own.
        places = np.concatenate([np.arange(len(piece)) / max(len(piece), 1) for piece in shuffled])
        ranks.append(np.concatenate(shuffled)[np.argsort(places, kind="stable")])
    return ranks


def generator(name: str, seed: int, epoch: int) -> np.random.RandomState:
    """Random numbers for one purpose; NumPy promises that RandomState gives the same ones in all its versions."""
    digest = blake2b(f"{name} {seed} {epoch}".encode(), digest_size=32).digest()
    return np.random.RandomState(np.frombuffer(digest, dtype="<u4"))


def _within_window(count: int, rng: np.random.RandomState) -> np.ndarray:
    """A random order in which nothing moves by more than the window."""
    return np.argsort(np.arange(count) + WINDOW * rng.random_sample(count))


def _stretches(samples: np.ndarray, count: int) -> np.ndarray:
    """Where a line of clips is cut into stretches of equally much audio: (count + 1,) int64, from 0 to its end."""
    total = np.cumsum(samples)
    cuts = np.searchsorted(total, total[-1] * np.arange(1, count) / count)
    return np.concatenate([[0], cuts, [len(samples)]])
