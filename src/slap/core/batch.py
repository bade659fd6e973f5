"""What a data module hands to the training step.

B clips, C captions of these clips, K pairs of a clip and a caption, N audio samples, M text tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

import torch
from torch import Tensor

from slap.core.bad_clip import BadClip
from slap.core.packed import Packed, PickledAsBytes


def fingerprint(texts: Sequence[str]) -> Tensor:
    """(len(texts),) int64: equal for equal texts, and on every process and machine, unlike Python's `hash`."""
    digests = (blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return torch.tensor([int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=torch.int64)


_TENSORS = ("audio", "text", "clip", "clip_key", "caption_key", "pairs", "source")


@dataclass(frozen=True, eq=False)
class Batch(PickledAsBytes):
    """Clips with their captions, packed.

    Args:
        audio: (N,) waveforms in [-1, 1], mono, at the audio encoder's sample rate; B items.
        text: (M,) token ids of the captions; C items. Captions of one clip need not stand together.
        clip: (C,) int64, for each caption the clip that it describes, counted within this batch.
        clip_key: (B,) int64, fingerprints of the clips' ids: equal for the same clip on any process.
        caption_key: (C,) int64, fingerprints of the captions: equal for equal text on any process. Of a caption whose
            text training changed at random, that of the caption as it was: it still describes the same clips.
        pairs: (K, 2) int64, fingerprints of clip and caption for everything that is known to describe a clip of the
            batch, drawn for it or not: where clips share captions, none of theirs may be taken for a negative.
            Default: what the batch itself holds.
        ids: the clips' ids, B of them.
        captions: the captions as text, C of them.
        labels: per zero-shot task the B clips' labels, None where a clip has no label for the task.
        tags: per task where a clip may have several labels, for each of the B clips its labels, each with its share:
            1, or less where clips were mixed (then labels of one name go here too, see `shares`). None where a clip is
            not of the task.
        spans: in an evaluation, for each of the B items which samples of its clip it is, from one up to the other.
            Items of equal id are windows of one clip; the first of them has the captions (see `slap.core.windows`).
            Empty:
            items are whole clips.
        bad: clips that were to be in the batch and could not be used.
        source: (B,) int64, the number of the source that each clip is from, where the data module names several.
            Default: 0.
        read: clips that were read for the batch, those that transforms joined included. Default: B.
        clip_index: the numbers of `clip` on the host, where it is known without waiting for a GPU. Default: read.
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
    spans: tuple[tuple[int, int], ...] = ()
    bad: tuple[BadClip, ...] = ()
    source: Tensor = None  # type: ignore[assignment]  # never None once made
    read: int = None  # type: ignore[assignment]  # never None once made
    clip_index: tuple[int, ...] = None  # type: ignore[assignment]  # never None once made

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
        """A batch of which nothing could be used: B = C = 0."""
        nothing = Packed(torch.zeros(0), torch.zeros(0, dtype=torch.int32))
        none = torch.zeros(0, dtype=torch.int64)
        return cls(nothing, nothing.replace(none), none, none, none, bad=tuple(bad))

    def shares(self, task: str) -> list[Mapping[str, float] | None]:
        """For each of the B clips its labels of a task, from `tags` or `labels`, each with its share of the clip.

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
        """The same batch on another device. Nobody waits for copies to a GPU: what uses them there comes after them."""
        later = non_blocking or torch.device(device).type not in ("cpu", "mps")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=later) for name in _TENSORS})

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory."""
        return replace(self, **{name: getattr(self, name).pin_memory() for name in _TENSORS})
