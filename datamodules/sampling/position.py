"""Position of training within an epoch, and the properties of the data that it depends on.

The batches of an epoch are a pure function of the clips, their lengths, the sampler's options and the number of
processes (`slap.datamodules.sampling.sampler`). So a position is two numbers, valid as long as none of these changes.

n clips.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from slap.core.errors import UserError
from slap.datamodules.sampling.mixed import MixedSampler
from slap.datamodules.sampling.sampler import TrainSampler

VERSION = 1

NAMES = {
    "clips": "the training clips, by their ids and order (a digest)",
    "lengths": "the lengths of the training clips (a digest; sample rate and max_clip count)",
    "count": "the number of training clips",
    "sources": "how often clips come (repeats, weights, temperature, balance, epoch_clips)",
    "num_buckets": "num_buckets",
    "max_samples": "the budget of a batch, max_duration, in samples",
    "max_clips": "max_clips",
    "min_clips": "min_clips",
    "seed": "seed",
    "world_size": "the number of processes",
    "stream": "the stream, with its columns",
    "stream_batches": "stream_batches",
    "workers": "num_workers (at least 1), by which a stream is divided",
    "unlabelled": "the clips of `unlabelled`, or their share (a digest)",
    "manifests": "the content of the manifests: captions, labels, times, or the sizes of shards (a digest)",
    "sizes": "the sizes of the audio files (a digest)",
    "audio": "the content of the audio files (a digest)",
}
"""Properties that the position, or what comes at it, depends on, in the words of a message."""

ASKED_FOR = ("audio",)
"""Properties that are known only where they were asked for, so they are compared where both sides know them."""


@dataclass(frozen=True)
class Position:
    """Position in the stream of batches.

    Args:
        epoch: counted from 0.
        batches: number of its batches that each process has trained on.
    """

    epoch: int = 0
    batches: int = 0


class Progress:
    """Progress of training through its data, and that of a checkpoint to go on from.

    Attributes:
        position: position up to which training has come, or continues behind.
        basis: the properties that the position depends on, see `basis`; empty before training.
        saved: state of the checkpoint that is continued, until `begin`.
    """

    def __init__(self) -> None:
        self.position, self.basis, self.saved = Position(), dict[str, Any](), dict[str, Any]()

    def reset(self) -> None:
        """Go back to the begin, without a checkpoint."""
        self.position, self.saved = Position(), {}

    def begin(self, known: dict[str, Any], restart_changed: bool) -> dict[str, Any]:
        """Go on from the checkpoint, if there is one, and return its state.

        Args:
            known: the properties that the position depends on.
            restart_changed: begin the interrupted epoch anew if the data have changed.

        Raises:
            ValueError: as `position_in`.
        """
        self.basis, saved = known, self.saved
        if saved:
            self.position = position_in(saved, known, restart_changed)
            self.saved = {}
        return saved

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps; nothing before training."""
        return state(self.position, self.basis) if self.basis else {}


def basis(keys: np.ndarray, sampler: TrainSampler | MixedSampler) -> dict[str, Any]:
    """Return the properties that the batches of an epoch depend on, as plain data.

    Args:
        keys: (n,) int64, fingerprints of the clips' lasting names.
        sampler: makes the batches.
    """
    if isinstance(sampler, MixedSampler):
        count = len(sampler.captioned.lengths)
        others = json.dumps(basis(keys[count:], sampler.others)).encode()
        return {**basis(keys[:count], sampler.captioned), "unlabelled": blake2b(others, digest_size=8).hexdigest()}
    lengths = np.asarray(sampler.lengths)
    parts = [(source.first, source.size, source.repeats, source.taken) for source in sampler.sources]
    arrays = [(source.parts, source.weights) for source in sampler.sources]
    stored = [[None if array is None else _digest(array) for array in pair] for pair in arrays]
    return {
        "clips": _digest(keys),
        "lengths": _digest(lengths),
        "count": len(lengths),
        "sources": str([*zip(parts, stored, strict=True)]),
        "num_buckets": sampler.num_buckets,
        "max_samples": sampler.max_samples,
        "max_clips": sampler.max_clips,
        "seed": sampler.seed,
        "world_size": sampler.world_size,
        **({"min_clips": sampler.min_clips} if sampler.min_clips > 1 else {}),
    }


def state(position: Position, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint keeps.

    Args:
        position: position to go on from.
        known: result of `basis`.
    """
    return {"version": VERSION, "basis": dict(known), **asdict(position)}


def position_in(saved: Mapping[str, Any], known: Mapping[str, Any], restart_changed: bool = False) -> Position:
    """Return the position to go on from.

    Args:
        saved: result of `state`, from a checkpoint.
        known: result of `basis` now.
        restart_changed: begin the interrupted epoch anew if the data have changed.

    Raises:
        ValueError: the data have changed, or the state is of another version.
    """
    if saved.get("version") != VERSION:
        raise UserError(
            f"the checkpoint's place in the data has version {saved.get('version')!r}, and this version of slap-audio "
            f"reads {VERSION}; continue with the version that wrote it"
        )
    place = Position(int(saved["epoch"]), int(saved["batches"]))
    changed = changes(saved["basis"], known)
    if not changed:
        return place
    if restart_changed:
        return Position(place.epoch, 0)
    raise UserError(
        f"the run was interrupted in epoch {place.epoch} after {place.batches} batches, and would not continue with "
        f"the same clips, for the data have changed: {'; '.join(changed)}. Continue with the data as they were, or "
        "with `changed_data` of the trainer set to `restart_epoch`: then weights, optimizer, schedules and the count "
        f"of steps go on, and epoch {place.epoch} begins anew with the data as they are, so that clips which it had "
        "already come again"
    )


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe the properties that differ.

    Example:
        >>> changes({"seed": 0, "world_size": 2}, {"seed": 0, "world_size": 4})
        ['the number of processes was 2 and is 4']
    """
    return [
        f"{NAMES.get(name, name)} was {before.get(name)} and is {now.get(name)}"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name) and (name not in ASKED_FOR or (name in before and name in now))
    ]


def _digest(values: np.ndarray) -> str:
    return blake2b(np.ascontiguousarray(values).data, digest_size=8).hexdigest()
