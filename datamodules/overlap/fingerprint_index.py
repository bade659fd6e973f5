"""Search in a set of fingerprints for those that share a segment of audio with another one.

The set is an inverted index: each frame of 32 bits points to the clips and places that have it. An offset at which two
clips have a frame in common is a candidate; it is a match if few enough bits differ over all frames that overlap. The
index takes 16 bytes per frame, 10 MB for 1,000 clips of 10 s; the clips that are looked up are not kept.

F frames of a clip, n of the whole set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slap.core.units import Seconds
from slap.datamodules.overlap.fingerprint import HOP_SECONDS, Fingerprint

BITS = 32
COMMON = 1000  # places; a more frequent frame makes no candidates
CANDIDATES = 64  # offsets to check, those with the most frames in common first
SHIFTS = (-2, -1, 0, 1, 2)  # frames around each candidate
FEWEST = 20  # frames, 0.32 s, which a clip of 0.7 s has
SECOND = 62  # frames


@dataclass(frozen=True)
class FingerprintMatch:
    """A segment that two clips share.

    Attributes:
        clip: number of the clip in the set.
        different: share of bits that differ, 0 to 1; one half for unrelated clips.
        seconds: duration of the frames that were compared.
        offset: begin of the other clip in the clip of the set, seconds; negative if it begins earlier.
    """

    clip: int
    different: float
    seconds: Seconds
    offset: Seconds


class FingerprintIndex:
    """An inverted index of fingerprints.

    Args:
        fingerprints: fingerprints of the clips of the set, in order.
    """

    def __init__(self, fingerprints: Sequence[Fingerprint]) -> None:
        self.fingerprints = list(fingerprints)
        places = [np.flatnonzero(one.sound) for one in self.fingerprints]
        sizes = [len(place) for place in places]
        keys = _joined([one.frames[place] for one, place in zip(self.fingerprints, places, strict=True)], np.uint32)
        order = np.argsort(keys, kind="stable")
        self.keys = keys[order]
        self.clips = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)[order]
        self.places = _joined(places, np.int32)[order]

    def matches(self, other: Fingerprint) -> list[FingerprintMatch]:
        """Return the clips of the set that share a segment with another clip, each once, best match first."""
        best: dict[int, FingerprintMatch] = {}
        for clip, offset in self._candidates(other):
            match = self._check(other, clip, offset)
            if match is not None and (clip not in best or match.different < best[clip].different):
                best[clip] = match
        return sorted(best.values(), key=lambda match: match.different)

    def _candidates(self, other: Fingerprint) -> list[tuple[int, int]]:
        """Return clips and offsets at which frames are equal, those with the most equal frames first."""
        mine = np.flatnonzero(other.sound)
        first, last = (np.searchsorted(self.keys, other.frames[mine], side=side) for side in ("left", "right"))
        counts = np.where(last - first > COMMON, 0, last - first)
        if not counts.sum():
            return []
        starts = np.repeat(first - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
        hits = starts + np.arange(counts.sum())
        offsets = self.places[hits].astype(np.int64) - np.repeat(mine, counts)
        pairs, votes = np.unique((self.clips[hits].astype(np.int64) << 32) + offsets + (1 << 31), return_counts=True)
        chosen = pairs[np.argsort(-votes, kind="stable")[:CANDIDATES]]
        return [(int(pair >> 32), int(pair & 0xFFFFFFFF) - (1 << 31)) for pair in chosen]

    def _check(self, other: Fingerprint, clip: int, offset: int) -> FingerprintMatch | None:
        """Return the match at an offset or beside it, if there is one."""
        known = self.fingerprints[clip]
        found = []
        for place in (offset + shift for shift in SHIFTS):
            a, b = max(place, 0), max(-place, 0)
            length = min(len(known.frames) - a, len(other.frames) - b)
            if length <= 0:
                continue
            sound = known.sound[a : a + length] & other.sound[b : b + length]
            frames = int(sound.sum())
            if frames < FEWEST:
                continue
            wrong = (known.frames[a : a + length] ^ other.frames[b : b + length])[sound]
            different = int(_ONES[wrong & 0xFFFF].sum() + _ONES[wrong >> 16].sum()) / (BITS * frames)
            if different <= tolerated(frames):
                found.append(FingerprintMatch(clip, different, frames * HOP_SECONDS, place * HOP_SECONDS))
        return min(found, key=lambda match: match.different, default=None)


def tolerated(frames: int) -> float:
    """Return the largest share of bits that may differ in a match over a number of frames, at least `FEWEST`.

    Between two recordings of different things, at least 0.43 of the bits differed over a second. Between two utterances
    of one word by one person, as few as 0.04 differed over 0.2 s, so fewer than `FEWEST` frames make no match. See
    docs/log.md, 2026-11-25.
    """
    return 0.35 if frames >= SECOND else 0.2


def _joined(parts: Sequence[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, kind), *parts]).astype(kind)


_ONES = np.array([bin(number).count("1") for number in range(1 << 16)], dtype=np.uint8)
