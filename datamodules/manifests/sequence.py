"""Sequences of clips: arrays hold the properties that the sampler needs, and a cut is made on access.

Of very many clips durations and fingerprints are read piece by piece, see `slap.datamodules.stored`.

n clips.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from lhotse.cut import Cut
from lhotse.utils import compute_num_samples, fastcopy

from slap.core.bad_clip import BadClip
from slap.datamodules.stored import Array, MappedArray, Stored, joined, pieces

if TYPE_CHECKING:
    from slap.datamodules.remote.store import RemoteFile


class Clips(Sequence[Cut]):
    """Clips that are made on access, and the properties of each that are known without that.

    Attributes:
        durations: (n,) float64, seconds.
        keys: (n,) int64, fingerprints of the ids, see `key_of`.
        lasting: (n,) int64, fingerprints of names that stay the same when manifest and audio move together: of the ids,
            or for clips without one, of the paths below the manifest's folder.
        tasks: the zero-shot tasks for which any clip has a label, in alphabetical order.
        parts: first clips of the parts that lie together in storage, ascending from 0, with n at the end. Reading is
            fast as long as it stays within few parts. None if the order of reading does not matter.
        uncaptioned: (m,) int64, ascending, the numbers of the clips without captions.
        remote: True if audio of some clips lies elsewhere, see `shard`.
    """

    durations: Array
    keys: Array
    lasting: Array
    tasks: tuple[str, ...]
    parts: np.ndarray | None = None
    uncaptioned: np.ndarray = np.empty(0, np.int64)
    remote: bool = False

    def __len__(self) -> int:
        """Return the number of clips, n."""
        return len(self.durations)

    @overload
    def __getitem__(self, index: int) -> Cut: ...

    @overload
    def __getitem__(self, index: slice) -> Clips: ...

    def __getitem__(self, index: int | slice) -> Cut | Clips:
        if isinstance(index, slice):
            return ClipSubset(self, np.arange(len(self))[index])
        number = int(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"there are {len(self)} clips, none has the index {number}")
        return self.cut(number % len(self))

    def __iter__(self) -> Iterator[Cut]:
        for number in range(len(self)):
            yield self.cut(number)

    @abstractmethod
    def cut(self, number: int) -> Cut:
        """Return the clip of a number from 0 to n - 1."""

    @abstractmethod
    def origins(self) -> np.ndarray:
        """Return (m, 2) int64, for each known origin of a clip its fingerprint and the number of the clip."""

    def shard(self, number: int) -> RemoteFile | None:  # noqa: ARG002
        """Return the file elsewhere that holds the audio of a clip; None if it lies on this machine."""
        return None

    def near(self, number: int) -> range | None:  # noqa: ARG002
        """Return the clips in the shard of a clip and in the two beside it; None if its audio is on this machine."""
        return None

    def customs(self) -> Iterator[Mapping[str, Any]]:
        """Yield the custom fields of each clip, in order; where possible without making the cuts."""
        for number in range(len(self)):
            yield self.cut(number).custom or {}

    def samples(self, rate: int, most: int | None = None) -> Array:
        """Return (n,) int64, the number of samples of each clip at a rate, as of `slap.datamodules.audio.load.mono`.

        Args:
            rate: sample rate, Hz.
            most: largest number, to which longer clips are cropped.
        """
        function = partial(_cropped_samples, rate=rate, most=most)
        if isinstance(self.durations, Stored):
            return MappedArray(self.durations, function, f"at {rate} Hz, at most {most}", np.int64)
        return function(self.durations)


class ClipNames:
    """The names of n clips whose audio nobody has looked for.

    Args:
        names: ids of the clips, each with its origins {site: id}.

    Attributes:
        keys: (n,) int64, fingerprints of the ids.
    """

    def __init__(self, names: Sequence[tuple[str, Mapping[str, str]]]) -> None:
        self.keys = np.array([key_of(name) for name, _ in names], dtype=np.int64)
        rows = [(origin_key(*pair), n) for n, (_, origins) in enumerate(names) for pair in origins.items()]
        self._origins = np.array(rows, dtype=np.int64).reshape(-1, 2)

    def __len__(self) -> int:
        """Return the number of clips, n."""
        return len(self.keys)

    def origins(self) -> np.ndarray:
        """Return (m, 2) int64, as `Clips.origins`."""
        return self._origins


class ClipSubset(Clips):
    """A subset of other clips, in any order.

    Args:
        clips: the other clips.
        numbers: (n,) int64, numbers of the clips in the subset.
    """

    def __init__(self, clips: Clips, numbers: np.ndarray) -> None:
        self.clips, self.numbers = clips, numbers
        self.durations, self.keys, self.tasks = clips.durations[numbers], clips.keys[numbers], clips.tasks
        self.lasting = self.keys if clips.lasting is clips.keys else clips.lasting[numbers]
        self.remote = clips.remote
        if clips.parts is not None:
            self.parts = np.unique([*np.searchsorted(numbers, clips.parts), len(numbers)])
        if len(clips.uncaptioned):
            self.uncaptioned = np.flatnonzero(np.isin(numbers, clips.uncaptioned))

    def cut(self, number: int) -> Cut:
        """Return the clip of a number."""
        return self.clips.cut(int(self.numbers[number]))

    def shard(self, number: int) -> RemoteFile | None:
        """Return the file elsewhere that holds the audio of a clip, if there is one."""
        return self.clips.shard(int(self.numbers[number]))

    def near(self, number: int) -> range | None:
        """Return the clips near a clip that are in the subset, for a subset in ascending order."""
        near = self.clips.near(int(self.numbers[number]))
        return None if near is None else range(*np.searchsorted(self.numbers, [near.start, near.stop]).tolist())

    def customs(self) -> Iterator[Mapping[str, Any]]:
        """Yield the custom fields of the clips, after one pass over all clips of the other sequence."""
        wanted = {int(number) for number in self.numbers}
        known = {number: custom for number, custom in enumerate(self.clips.customs()) if number in wanted}
        for number in self.numbers:
            yield known[int(number)]

    def origins(self) -> np.ndarray:
        """Return the origins of the clips."""
        known = self.clips.origins()
        places = np.full(len(self.clips), -1)
        places[self.numbers] = np.arange(len(self.numbers))
        moved = np.stack([known[:, 0], places[known[:, 1]]], axis=1)
        return moved[moved[:, 1] >= 0]


class UncaptionedClips(Clips):
    """Other clips without their captions.

    Args:
        clips: the other clips.
    """

    def __init__(self, clips: Clips) -> None:
        self.clips = clips
        self.durations, self.keys, self.tasks, self.parts = clips.durations, clips.keys, clips.tasks, clips.parts
        self.lasting, self.remote = clips.lasting, clips.remote
        self.uncaptioned = np.arange(len(clips))

    def cut(self, number: int) -> Cut:
        """Return the clip of a number."""
        return fastcopy(self.clips.cut(number), supervisions=[])

    def shard(self, number: int) -> RemoteFile | None:
        """Return the file elsewhere that holds the audio of a clip, if there is one."""
        return self.clips.shard(number)

    def near(self, number: int) -> range | None:
        """Return the clips near a clip."""
        return self.clips.near(number)

    def customs(self) -> Iterator[Mapping[str, Any]]:
        """Yield the custom fields of each clip."""
        return self.clips.customs()

    def origins(self) -> np.ndarray:
        """Return the origins of the clips."""
        return self.clips.origins()


class ConcatClips(Clips):
    """Clips of several sequences, one after the other.

    Args:
        sources: sequences to concatenate.
    """

    def __init__(self, sources: Sequence[Clips]) -> None:
        self.sources = tuple(sources)
        self.firsts = [0]
        for clips in sources:
            self.firsts.append(self.firsts[-1] + len(clips))
        self.durations = joined([clips.durations for clips in sources], np.float64)
        self.keys = joined([clips.keys for clips in sources], np.int64)
        same = all(clips.lasting is clips.keys for clips in sources)
        self.lasting = self.keys if same else joined([clips.lasting for clips in sources], np.int64)
        self.tasks = tuple(sorted({task for clips in sources for task in clips.tasks}))
        numbered = zip(sources, self.firsts, strict=False)
        self.uncaptioned = np.concatenate([np.empty(0, np.int64), *(c.uncaptioned + first for c, first in numbered)])
        self.remote = any(clips.remote for clips in sources)

    def cut(self, number: int) -> Cut:
        """Return the clip of a number."""
        source = bisect_right(self.firsts, number) - 1
        return self.sources[source].cut(number - self.firsts[source])

    def shard(self, number: int) -> RemoteFile | None:
        """Return the file elsewhere that holds the audio of a clip, if there is one."""
        source = bisect_right(self.firsts, number) - 1
        return self.sources[source].shard(number - self.firsts[source])

    def near(self, number: int) -> range | None:
        """Return the clips near a clip, which are in the same sequence."""
        source = bisect_right(self.firsts, number) - 1
        first = self.firsts[source]
        near = self.sources[source].near(number - first)
        return None if near is None else range(near.start + first, near.stop + first)

    def customs(self) -> Iterator[Mapping[str, Any]]:
        """Yield the custom fields of all sequences, one after the other."""
        for clips in self.sources:
            yield from clips.customs()

    def origins(self) -> np.ndarray:
        """Return the origins of the clips."""
        parts = [
            clips.origins() + np.array([0, first]) for clips, first in zip(self.sources, self.firsts, strict=False)
        ]
        return np.concatenate([np.empty((0, 2), np.int64), *parts])


def without_uncaptioned(clips: Clips, bad: list[BadClip], detail: str = "the clip has no caption") -> Clips:
    """Return the clips that have captions, and append the others to a list of bad clips.

    Args:
        clips: clips, each with its place as the custom field `where`.
        bad: the list.
        detail: message about a clip without captions.
    """
    if not len(clips.uncaptioned):
        return clips
    for number in clips.uncaptioned.tolist():
        cut = clips.cut(number)
        bad.append(BadClip(cut.id, "caption", detail, cut.custom["where"], cut.custom["where"]))
    return ClipSubset(clips, np.setdiff1d(np.arange(len(clips)), clips.uncaptioned))


def plan_of(path: Path, clips: Clips) -> dict[str, Any]:
    """Return what identifies a manifest and its clips, whatever the time and the machine, for the plan of parts."""
    content = blake2b(digest_size=16)
    for array in (clips.keys, clips.durations):
        for _, values in pieces(array):
            content.update(np.ascontiguousarray(values).data)
    size = {"bytes of manifest": path.stat().st_size} if path.is_file() else {}
    about = {"manifest": str(path.resolve()), "clips": len(clips), "ids and durations": content.hexdigest()}
    return {**about, **size}


def key_of(name: str) -> int:
    """Return the fingerprint of an id, as `slap.core.batch.fingerprint`.

    The slash at the begin of a path does not count: names in the tar files of shards cannot begin with one.
    """
    return int.from_bytes(blake2b(name.lstrip("/").encode(), digest_size=8).digest(), "little", signed=True)


def origin_keys(cut: Cut) -> list[int]:
    """Return the fingerprints of the origins of a clip, from its custom field `origin` {site: id}."""
    return [origin_key(site, name) for site, name in ((cut.custom or {}).get("origin") or {}).items()]


def origin_key(site: str, name: str) -> int:
    """Return the fingerprint of an origin."""
    return key_of(f"{site}\0{name}")


def samples_of(durations: np.ndarray, rate: int) -> np.ndarray:
    """Return the number of samples of clips at a rate: Lhotse's `compute_num_samples`, and at least one.

    Args:
        durations: (n,) float64, seconds.
        rate: sample rate, Hz.

    Returns:
        (n,) int64.
    """
    exact = durations * rate
    samples = np.floor(exact + 0.5).astype(np.int64)
    # Lhotse rounds to 8 digits first, in decimals; that matters near a half alone.
    for i in np.flatnonzero(np.abs(exact - np.floor(exact) - 0.5) < 1e-6):
        samples[i] = compute_num_samples(float(durations[i]), rate)
    return np.maximum(samples, 1)


def _cropped_samples(durations: np.ndarray, rate: int, most: int | None) -> np.ndarray:
    samples = samples_of(durations, rate)
    return samples if most is None else np.minimum(samples, most)


def repeated(keys: Array) -> Iterator[tuple[int, int]]:
    """Yield pairs of numbers of clips whose fingerprints are equal, the smaller number first."""
    keys = np.asarray(keys)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    for i in np.flatnonzero(ordered[1:] == ordered[:-1]):
        yield int(order[i]), int(order[i + 1])
