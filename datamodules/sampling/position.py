"""Position of training within an epoch, and the properties of the data that it depends on.

The clips of a section of an epoch are a pure function of the clips, their lengths and the sampler's options. The
batches of a section depend on the numbers of processes that have trained on it, too (`slap.datamodules.sampling.deal`).
So a position is a few numbers, which are valid as long as the data and the options are the same, on any number of
processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from slap.core.errors import UserError

VERSION = 2
"""Version of the state; since version 2 it does not depend on the number of processes."""

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
    "world_size": "the number of processes, by which a stream is divided",
    "sections": "the number of sections of an epoch (shuffle_clips)",
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
        section: number of its section, see `slap.datamodules.sampling.epoch.Section`.
        begun: batches of the epoch that each process had trained on when the section began.
        legs: numbers of batches per step with which the section was trained on, in order, each with its number of
            steps. Batches beyond `begun` and these were made by as many processes as there are now.
        others: position in the clips without captions, where they have a share of every batch.
    """

    epoch: int = 0
    batches: int = 0
    section: int = 0
    begun: int = 0
    legs: tuple[tuple[int, int], ...] = ()
    others: Position | None = None

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Position:
        """Read what `state` wrote."""
        known = {name: saved[name] for name in cls.__dataclass_fields__}
        legs = tuple((int(size), int(steps)) for size, steps in known["legs"])
        others = None if known["others"] is None else cls.of(known["others"])
        return cls(**known | {"legs": legs, "others": others})

    @property
    def within(self) -> int:
        """Steps of the section that its legs count."""
        return sum(steps for _, steps in self.legs)

    def on(self, steps: int, size: int) -> Position:
        """Return the position after some more steps of the section.

        Args:
            steps: number of steps.
            size: batches per step.

        Example:
            >>> Position(0, 5, legs=((4, 5),)).on(2, 4).on(3, 3)
            Position(epoch=0, batches=10, section=0, begun=0, legs=((4, 7), (3, 3)), others=None)
        """
        if not steps:
            return self
        legs = self.legs
        if legs and legs[-1][0] == size:
            legs, steps_before = legs[:-1], legs[-1][1]
        else:
            steps_before = 0
        others = None if self.others is None else self.others.on(steps, size)
        return replace(self, batches=self.batches + steps, legs=(*legs, (size, steps_before + steps)), others=others)


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
    place = Position.of(saved)
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
        >>> changes({"seed": 0, "count": 2}, {"seed": 0, "count": 4})
        ['the number of training clips was 2 and is 4']
    """
    return [
        f"{NAMES.get(name, name)} was {before.get(name)} and is {now.get(name)}"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name) and (name not in ASKED_FOR or (name in before and name in now))
    ]
