"""The clips of a batch that have captions, as objectives that need text see them.

Objectives that learn from audio alone see all clips of a batch; the others see a batch of its captioned clips only, so
a clip without a caption is no negative, counts in no mean, and gets no gradient from them.

B clips, of which b have captions; N audio patches, D an encoder's width, E the shared dimension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from slap.core.batch import Batch
from slap.core.batch_ops import take_clips
from slap.core.packed import Packed
from slap.core.segments import phrases_of
from slap.model.views import PerClip, View, Views


class Learner(PerClip, Protocol):
    """The part of an objective's contract that decides which clips it sees."""

    uses_text: bool


class SeenBy:
    """The views that each objective of a model sees of one batch.

    Args:
        views: views of all clips.
    """

    def __init__(self, views: Views) -> None:
        self.views = views

    def of(self, objective: Learner) -> Views:
        """Return the views of all clips, or of the captioned clips for an objective that needs text."""
        return self._captioned if objective.uses_text else self.views

    @cached_property
    def _captioned(self) -> Views:
        clips = sorted(set(self.views.batch.clip_index))
        return self.views if len(clips) == len(self.views.batch) else CaptionedViews(self.views, clips)


class CaptionedViews(Views):
    """Views of some clips of a batch, which share the passes of the encoders with the views of all clips.

    Args:
        views: views of the B clips.
        clips: numbers of the b clips, ascending; all captions of the batch belong to them.
    """

    def __init__(self, views: Views, clips: Sequence[int]) -> None:
        super().__init__(views._model, take_clips(views.batch, clips))
        self._views, self._clips = views, clips
        self.chunks = views.chunks

    @cached_property
    def _rows(self) -> Tensor:
        device = self._views.batch.clip_key.device
        return torch.tensor(self._clips, dtype=torch.int64).to(device, non_blocking=True)

    def note(self, losses: Tensor) -> None:
        """Report the loss of each of the b clips; the others have none."""
        every = losses.detach().new_full((len(self._views.batch),), torch.nan)
        self._views.note(every.index_copy(0, self._rows, losses.detach()))

    def noted(self) -> Tensor | None:
        """Return the losses of all B clips that were noted last, and forget them."""
        return self._views.noted()

    def per_clip(self, objective: PerClip) -> Mapping[str, Tensor]:
        """Return what an objective computes of each of the b clips alone."""
        return self._views.per_clip_of(objective, self)

    @cached_property
    def patches(self) -> Packed:
        """The audio encoder's patches of the b clips, packed (N)."""
        return self._views.patches.take(self._clips)

    @cached_property
    def outline(self) -> Packed:
        """The layout of `patches`; the values may be missing."""
        return self._views.outline.take(self._clips)

    @property
    def patch_count(self) -> int:
        """The number of patches that the audio encoder has made for all clips so far."""
        return self._views.patch_count

    @cached_property
    def hidden(self) -> Tensor:
        """(N,) bool: the patches of the b clips that the masked view hides."""
        hidden: Tensor = self._views.outline.replace(self._views.hidden).take(self._clips).values
        return hidden

    @cached_property
    def full(self) -> View:
        """The audio encoder on all patches."""
        return _SomeItems(self._views.full, self._clips, self._rows)

    @cached_property
    def masked(self) -> View:
        """The audio encoder on the patches that are not `hidden`."""
        return _SomeItems(self._views.masked, self._clips, self._rows)

    @cached_property
    def visible(self) -> View:
        """The audio encoder on the patches that are not `hidden`, without the others."""
        return _SomeItems(self._views.visible, self._clips, self._rows)

    @cached_property
    def teacher(self) -> View:
        """The EMA teacher on all patches, without gradient."""
        return _SomeItems(self._views.teacher, self._clips, self._rows)

    def teacher_of(self, module: nn.Module) -> nn.Module:
        """Return the EMA copy of a head that the teacher tracks."""
        return self._views.teacher_of(module)

    @cached_property
    def text(self) -> View:
        """The text encoder on all captions."""
        return self._views.text

    @cached_property
    def phrases(self) -> View:
        """The text encoder on the different phrases of the b clips' segments."""
        return some_phrases(self._views.phrases, phrases_of(self._views.batch.segments), self.batch)


def some_phrases(view: View, names: Sequence[str], batch: Batch) -> View:
    """Return the view of the different phrases of a batch, from a view of phrases among which they are.

    Args:
        view: the view of all phrases; of equal ones the first is taken.
        names: these phrases.
        batch: the batch.
    """
    place = {text: number for number, text in reversed(list(enumerate(names)))}
    chosen = [place[text] for text in phrases_of(batch.segments)]
    return _SomeItems(
        view, chosen, torch.tensor(chosen, dtype=torch.int64).to(batch.clip_key.device, non_blocking=True)
    )


class _SomeItems(View):
    """Some items of a view; what is not read is not computed."""

    def __init__(self, view: View, items: Sequence[int], rows: Tensor) -> None:
        self._view, self._items, self._rows = view, items, rows

    @cached_property
    def tokens(self) -> Packed:  # type: ignore[override]
        return self._view.tokens.take(self._items)

    @cached_property
    def embedding(self) -> Tensor:
        return self._view.embedding[self._rows]
