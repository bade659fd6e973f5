"""The batch of clips and captions that a data module gives to the training step.

B clips, C captions of these clips, K pairs of a clip and a caption, N audio samples, M text tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from slap.core.bad_clip import BadClip
from slap.core.packed import Packed, PickledAsBytes
from slap.core.segments import Segment


def fingerprint(texts: Sequence[str]) -> Tensor:
    """Hash texts to (len(texts),) int64: the same on every process and machine, unlike Python's `hash`."""
    digests = (blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return torch.tensor([int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=torch.int64)


_TENSORS = ("audio", "text", "clip", "clip_key", "caption_key", "pairs", "source", "phrases")


@dataclass(frozen=True, eq=False)
class Batch(PickledAsBytes):
    """Clips with their captions, packed.

    Args:
        audio: (N,) waveforms in [-1, 1], mono, at the audio encoder's sample rate; B items.
        text: (M,) token ids of the captions; C items. The captions of a clip need not be next to each other.
        clip: (C,) int64, the index within this batch of the clip that each caption describes.
        clip_key: (B,) int64, fingerprints of the clips' ids: equal for the same clip on any process.
        caption_key: (C,) int64, fingerprints of the captions: equal for equal text on any process. Augmentation of a
            caption keeps the fingerprint of the original text, since it still describes the same clips.
        pairs: (K, 2) int64, fingerprints of clip and caption for all captions of the clips of the batch, sampled or
            not: where clips share captions, a loss must not treat any of them as negatives. Default: the pairs of the
            batch itself.
        ids: the ids of the B clips.
        captions: the C captions as text.
        labels: by zero-shot task the labels of the B clips, None where a clip has no label for the task.
        tags: by task with several labels per clip, the labels of each of the B clips with their shares: 1, or less
            where clips were mixed (then single labels are here too, see `shares`). None where a clip has no label for
            the task.
        choices: in evaluation, by task the candidate captions of each of the B clips, the right one first; None where a
            clip has no question of the task.
        spans: in evaluation, the first sample and the end of each of the B items within its clip. Items of equal id
            are windows of one clip; the first of them has the captions (see `slap.core.windows`). Empty where items are
            whole clips.
        bad: clips of this batch that could not be used.
        source: (B,) int64, the index of each clip's source, where the data module names several. Default: 0.
        origins: what each of the B clips was cut from (a recording, a video, a speaker), "" where that is not known;
            clips of one origin are no independent observations. Empty: of none it is known.
        read: number of clips that were read for the batch, including those that transforms combined. Default: B.
        segments: of each of the B clips when phrases are heard in it, None for a clip that was not annotated so, see
            `slap.core.segments`. Empty where no clip of the batch was.
        phrases: token ids of the different phrases of `segments`, in the order in which they first come there, see
            `phrases_of`. None: there are no phrases.
        clip_index: the values of `clip` on the host, where they are known without waiting for a GPU. Default: copied
            from `clip`.
    """

    audio: Packed
    text: Packed
    clip: Tensor
    clip_key: Tensor
    caption_key: Tensor
    pairs: Tensor = None  # type: ignore[assignment]  # never None once made
    ids: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    labels: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    tags: Mapping[str, tuple[Mapping[str, float] | None, ...]] = field(default_factory=dict)
    choices: Mapping[str, tuple[Sequence[str] | None, ...]] = field(default_factory=dict)
    spans: tuple[tuple[int, int], ...] = ()
    bad: tuple[BadClip, ...] = ()
    source: Tensor = None  # type: ignore[assignment]  # never None once made
    origins: tuple[str, ...] = ()
    read: int = None  # type: ignore[assignment]  # never None once made
    clip_index: tuple[int, ...] = None  # type: ignore[assignment]  # never None once made
    segments: tuple[tuple[Segment, ...] | None, ...] = ()
    phrases: Packed | None = None

    def __post_init__(self) -> None:
        if self.read is None:
            object.__setattr__(self, "read", len(self.audio))
        if self.clip_index is None:
            object.__setattr__(self, "clip_index", tuple(self.clip.tolist()))
        if self.source is None:
            object.__setattr__(self, "source", torch.zeros_like(self.clip_key))
        if self.pairs is None:
            object.__setattr__(self, "pairs", torch.stack([self.clip_key[self.clip], self.caption_key], 1))

    @classmethod
    def without_clips(cls, bad: Sequence[BadClip]) -> Batch:
        """Make a batch of which no clip could be used: B = C = 0."""
        nothing = Packed(torch.zeros(0), torch.zeros(0, dtype=torch.int32))
        none = torch.zeros(0, dtype=torch.int64)
        return cls(nothing, nothing.replace(none), none, none, none, bad=tuple(bad))

    def shares(self, task: str) -> list[Mapping[str, float] | None]:
        """Return for each of the B clips its labels of a task, from `tags` or `labels`, with their shares of the clip.

        Example:
            >>> silence = Packed.pack([torch.zeros(1)] * 3)
            >>> labels, tags = {"animal": ("dog", None, None)}, {"animal": (None, {"dog": 0.7, "cat": 0.3}, None)}
            >>> none = torch.zeros(0, dtype=torch.int64)
            >>> batch = Batch(silence, silence, none, torch.arange(3), none, labels=labels, tags=tags)
            >>> batch.shares("animal")
            [{'dog': 1.0}, {'dog': 0.7, 'cat': 0.3}, None]
        """
        nothing = (None,) * len(self)
        single = ({name: 1.0} if name is not None else None for name in self.labels.get(task, nothing))
        several = self.tags.get(task, nothing)
        return [label if tags is None else tags for label, tags in zip(single, several, strict=True)]

    def __len__(self) -> int:
        """B, the number of clips."""
        return len(self.audio)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Move the batch to another device. The host does not wait for copies to a GPU, which orders its own work."""
        later = non_blocking or torch.device(device).type not in ("cpu", "mps")
        return replace(self, **{name: part.to(device, non_blocking=later) for name, part in self._tensors()})

    def pin_memory(self) -> Batch:
        """Copy the batch to page-locked memory."""
        return replace(self, **{name: part.pin_memory() for name, part in self._tensors()})

    def _tensors(self) -> Iterator[tuple[str, Any]]:
        found = ((name, getattr(self, name)) for name in _TENSORS)
        return ((name, part) for name, part in found if part is not None)
