"""Gradient caching: views of a batch that is too large to be computed at once, made part by part.

B clips, N audio patches, D an encoder's width, E the shared dimension.

The gradient is that of the whole batch (arXiv 2101.06983): the first pass keeps embeddings but no activations,
objectives see the embeddings of all clips, and the backward pass computes each part again, with the same random
numbers. So the memory is that of one part, plus what grows with the batch: waveforms, patches, and the rows that
objectives read, which are embeddings for `contrastive`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from slap.core.batch import Batch
from slap.core.batch_ops import concat, concat_packed, even_sizes, sort_captions, split
from slap.core.packed import Packed
from slap.core.segments import phrases_of
from slap.model.captioned import SeenBy, some_phrases
from slap.model.contracts import ModelParts, Objective
from slap.model.masks import random_mask, shown
from slap.model.views import PerClip, View, Views, nothing_of

Tensors = Mapping[str, Tensor]


def views_of(model: ModelParts, batches: Sequence[Batch], most: int | None) -> Views:
    """Make the views of the batches of one step, as of one batch.

    Args:
        model: the model whose encoders make the views.
        batches: at least one.
        most: maximal number of clips per part; None makes each batch one part.
    """
    if len(batches) == 1 and (most is None or len(batches[0]) <= most):
        return Views(model, batches[0])
    sizes = [size for batch in batches for size in even_sizes(len(batch), most or max(len(batch), 1))]
    return CachedViews(model, concat(batches), sizes)


class CachedViews(Views):
    """One batch as the objectives see it, computed in parts.

    An objective with a method `per_clip` shares the passes of the encoders with other objectives, and only the results
    of this method are kept for the whole batch. Any other objective works too: the `embedding` or `tokens` that it
    reads of a view are computed part by part for it and concatenated, (B, E) or (N, D).

    Args:
        model: the model whose encoders make the views.
        batch: B clips.
        sizes: number of clips of each part.

    Attributes:
        parts: the views of each part.
    """

    def __init__(self, model: ModelParts, batch: Batch, sizes: Sequence[int]) -> None:
        super().__init__(model, sort_captions(batch))
        self._objectives: dict[str, Objective] = dict(model.objectives.items())  # type: ignore[arg-type]
        self._parts = _Parts(model, self.batch, sizes)
        self.parts = self._parts.views
        self.chunks = len(self.parts)
        self._per_clip: dict[str, dict[str, Tensor]] | None = None

    @property
    def outline(self) -> Packed:
        """The layout and the positions of all patches, without their values, (N, 0)."""
        return self._parts.outline

    @cached_property
    def patches(self) -> Packed:
        """The audio encoder's patches of all clips, packed (N)."""
        return concat_packed([part.patches for part in self.parts])

    @property
    def patch_count(self) -> int:
        """The number of patches that the audio encoder has made for this batch so far."""
        return sum(part.patch_count for part in self.parts)

    @cached_property
    def hidden(self) -> Tensor:
        """(N,) bool: the patches that the masked view hides, the same as for a batch in one part."""
        return self._parts.hidden

    @cached_property
    def full(self) -> View:
        """The audio encoder on all patches."""
        return _CachedView(self._parts, "full")

    @cached_property
    def masked(self) -> View:
        """The audio encoder on the patches that are not `hidden`."""
        return _CachedView(self._parts, "masked")

    @cached_property
    def visible(self) -> View:
        """The audio encoder on the patches that are not `hidden`, without the others."""
        return _CachedView(self._parts, "visible")

    @cached_property
    def teacher(self) -> View:
        """The EMA teacher on all patches, without gradient."""
        return _CachedView(self._parts, "teacher")

    @cached_property
    def text(self) -> View:
        """The text encoder on all captions."""
        return _CachedView(self._parts, "text")

    @cached_property
    def phrases(self) -> View:
        """The text encoder on the different phrases of the batch's segments."""
        names = [text for part in self.parts for text in phrases_of(part.batch.segments)]
        return some_phrases(_CachedView(self._parts, "phrases"), names, self.batch)

    def per_clip_of(self, objective: PerClip, seen: Views) -> Tensors:
        """Return what an objective computes of each clip that it sees alone, concatenated over the parts."""
        del seen  # each part finds the clips that the objective sees by itself
        if self._per_clip is None:
            self._per_clip = self._all_per_clip()
        return next(self._per_clip[name] for name, own in self._objectives.items() if own is objective)

    def _all_per_clip(self) -> dict[str, dict[str, Tensor]]:
        def no_grad(part: Views) -> Tensors:
            seen = SeenBy(part)
            return _flat({name: own.per_clip_no_grad(seen.of(own)) for name, own in self._objectives.items()})

        def with_grad(part: Views) -> Tensors:
            seen = SeenBy(part)
            return _flat({name: own.per_clip(seen.of(own)) for name, own in self._objectives.items()})

        _ = self.hidden  # random numbers are drawn in the order of a batch in one part
        found = {**self._parts.each(no_grad, recompute=False), **self._parts.each(with_grad)}
        own: dict[str, dict[str, Tensor]] = {name: {} for name in self._objectives}
        for key, value in found.items():
            objective, name = key.rsplit(" ", 1)
            own[objective][name] = value
        return own


def _flat(results: Mapping[str, Tensors]) -> dict[str, Tensor]:
    """Return the tensors of several objectives under the keys "objective name"."""
    return {f"{objective} {name}": value for objective, own in results.items() for name, value in own.items()}


class _Parts:
    """The parts of a batch.

    All views of the batch hold this object, and it holds none of them: a cycle of references would keep waveforms and
    patches after the step until the garbage collector runs.

    Args:
        model: the model whose encoders make the views.
        batch: B clips, with the captions in the order of the clips.
        sizes: number of clips of each part.

    Attributes:
        views: the views of each part; only their patches are computed.
        text: the captions of the batch.
    """

    def __init__(self, model: ModelParts, batch: Batch, sizes: Sequence[int]) -> None:
        self.model, self.text = model, batch.text
        self.views = [Views(model, part) for part in split(batch, sizes)]

    @cached_property
    def outline(self) -> Packed:
        """The layout and the positions of all patches, without their values, (N, 0)."""
        return concat_packed([part.patches.replace(part.patches.values.flatten(1)[:, :0]) for part in self.views])

    @cached_property
    def hidden(self) -> Tensor:
        """(N,) bool: the patches that the masked view hides, the same as for a batch in one part."""
        return random_mask(self.outline, self.model.mask_ratio, self.model.mask_block)

    def hidden_in(self, index: int) -> Tensor:
        """Return `hidden` of one part."""
        return self.hidden.split([view.patches.layout.total for view in self.views])[index]

    def each(self, function: Callable[[Views], Tensors], recompute: bool = True) -> dict[str, Tensor]:
        """Compute a function of each part and concatenate the results.

        Args:
            function: gives tensors, (n, ...) each, under the same names for each part.
            recompute: keep no activations, but compute them again in the backward pass; otherwise without gradient.
        """
        found = [self._compute(index, function, recompute) for index in range(len(self.views))]
        return {name: torch.cat([part[name] for part in found]) for name in found[0]}

    def _compute(self, index: int, function: Callable[[Views], Tensors], recompute: bool) -> dict[str, Tensor]:
        part = self.views[index]
        names: list[str] = []

        def run(patches: Tensor) -> tuple[Tensor, ...]:
            del patches  # tells `checkpoint` the device whose random numbers it has to repeat
            found = function(_PartViews(self, index))
            names[:] = found
            return tuple(found.values())

        if recompute:
            values = checkpoint(run, part.patches.values, use_reentrant=False)
        else:
            with torch.no_grad():
                values = run(part.patches.values)
        return dict(zip(names, values, strict=True))


class _PartViews(Views):
    """The views of one part. Only the patches are computed at first; all passes share them."""

    def __init__(self, parts: _Parts, index: int) -> None:
        part = parts.views[index]
        super().__init__(parts.model, part.batch)
        self._parts, self._index = parts, index
        self.__dict__["_patches"] = part._patches

    @cached_property
    def hidden(self) -> Tensor:
        return self._parts.hidden_in(self._index)


class _CachedView(View):
    """The output of an encoder for all parts; `tokens` and `embedding` take separate passes."""

    def __init__(self, parts: _Parts, name: str) -> None:
        self._parts, self._name = parts, name

    @cached_property
    def tokens(self) -> Packed:  # type: ignore[override]
        def values(part: Views) -> Tensors:
            return {"tokens": getattr(part, self._name).tokens.values}

        found = self._parts.each(values, recompute=self._name != "teacher")["tokens"]
        if self._name == "text":
            return self._parts.text.replace(found)
        if self._name == "phrases":
            own = [part.batch.phrases or nothing_of(part.batch.text) for part in self._parts.views]
            return concat_packed(own).replace(found)
        outline = self._parts.outline
        if self._name == "visible":
            outline = shown(outline, self._parts.hidden, self._parts.model.mask_ratio)
        return outline.replace(found)

    @cached_property
    def embedding(self) -> Tensor:
        def values(part: Views) -> Tensors:
            return {"embedding": getattr(part, self._name).embedding}

        return self._parts.each(values, recompute=self._name != "teacher")["embedding"]
