"""Clips to evaluate a model on, with captions or labels, and the data set that they are from.

n clips, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from slap.audio.recordings import Audio
from slap.core.errors import UserError
from slap.core.segments import Segment

Part = Literal["train", "val", "test"]


@dataclass(frozen=True)
class EvalClip:
    """A clip, not decoded yet.

    Attributes:
        id: unique within its set.
        audio: anything that `slap.Model` reads.
        captions: the captions that it is evaluated with.
        labels: one of the set's classes, or, in a multi-label set, any number of them.
        fold: of the set's folds, where it has folds.
        part: its use; tasks that learn nothing use "test" alone.
        origin: what it was cut from, as one text; "" if that is not known. Intervals are over origins.
        choices: its questions, by kind the candidate captions, the right one first.
        segments: when phrases are heard in it; None if it was not annotated so, or no task asked for it.
    """

    id: str
    audio: Audio
    captions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    fold: int | None = None
    part: Part = "test"
    origin: str = ""
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    segments: tuple[Segment, ...] | None = None


@dataclass(frozen=True)
class EvalSet:
    """The clips of one data set that a task is run on.

    Attributes:
        name: of the data set, e.g. "esc50".
        split: the published split that the test clips are, e.g. "evaluation".
        clips: those that were found, in the order of the published list.
        classes: all K of the data set, also those that no clip here has; none where there are captions.
        multilabel: whether a clip may have several classes.
        folds: whether metrics are means over the clips' folds, as the data set's protocol says.
        official: the published number of test clips; None where none is published.
        lost: by reason, how many clips of the list are not among `clips`.
        warnings: what a reader of the metrics must know.
        about: which variant of a data set this is, in words.
        prompts: the data set whose prompts are used; "" is this one.
        own_captions_only: whether a caption's own clip alone is right for it, as the data set's protocol says, see
            `slap.metrics.retrieval_pairs`.
    """

    name: str
    split: str
    clips: Sequence[EvalClip]
    classes: tuple[str, ...] = ()
    multilabel: bool = False
    folds: bool = False
    official: int | None = None
    lost: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    about: str = ""
    prompts: str = ""
    own_captions_only: bool = False

    def part(self, name: Part) -> EvalSet:
        """Return the set with the clips of one part alone."""
        return replace(self, clips=[clip for clip in self.clips if clip.part == name])

    @property
    def worded_as(self) -> str:
        """Name of the data set whose prompts are used."""
        return self.prompts or self.name

    def ids(self, rows: Sequence[int]) -> list[str]:
        """Return the ids of some clips, by their numbers."""
        return [self.clips[row].id for row in rows]

    def origins(self, rows: Sequence[int]) -> list[str]:
        """Return the origins of some clips, by their numbers."""
        return [self.clips[row].origin for row in rows]

    def truth(self, rows: Sequence[int]) -> Tensor:
        """Return the classes that some clips have, (n, K) bool.

        Args:
            rows: numbers of clips.

        Raises:
            ValueError: a clip has a label that is no class.
        """
        place = {name: i for i, name in enumerate(self.classes)}
        truth = torch.zeros(len(rows), len(self.classes), dtype=torch.bool)
        for i, row in enumerate(rows):
            for label in self.clips[row].labels:
                if label not in place:
                    raise UserError(f"clip {self.clips[row].id!r} has the label {label!r}, no class of {self.name}")
                truth[i, place[label]] = True
        return truth


def hash_of_ids(ids: Iterable[str]) -> str:
    """Hash ids in any order by SHA-256, in hexadecimal: equal for equal sets of clips.

    The slash at the begin of a path does not count: in shards, names have none.

    Example:
        >>> hash_of_ids(["b", "a"]) == hash_of_ids(["a", "b"]) != hash_of_ids(["ab"])
        True
    """
    total = hashlib.sha256()
    for name in sorted(name.lstrip("/") for name in ids):
        raw = name.encode("utf-8", "surrogatepass")
        total.update(f"{len(raw)}:".encode() + raw)
    return total.hexdigest()
