"""The views of a batch that is too large to be computed at once: part by part, with the gradient of the whole.

B clips, N audio patches, D an encoder's width, E the shared dimension.

That is gradient caching (arXiv 2101.06983): the first pass keeps embeddings but no activations, objectives see the
embeddings of all clips, and the backward pass computes each part again, with the same random numbers. So the memory is
that of one part, plus what grows with the batch: waveforms, patches, and what objectives ask for, which is embeddings
for `contrastive`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from slap.core.batch import Batch
from slap.core.batch_ops import concat, even_sizes, join_packed, sort_captions, split
from slap.core.packed import Layout, Packed
from slap.model.views import View, Views, random_mask

if TYPE_CHECKING:
    from slap.model.contracts import Objective
    from slap.model.network import Network

Found = Mapping[str, Tensor]


def views_of(model: Network, batches: Sequence[Batch], most: int | None) -> Views:
    """The views of the batches of one step, as of one batch.

    Args:
        model: whose encoders make the views.
        batches: at least one.
        most: clips to compute at once; None is a batch.
    """
    if len(batches) == 1 and (most is None or len(batches[0]) <= most):
        return Views(model, batches[0])
    sizes = [size for batch in batches for size in even_sizes(len(batch), most or max(len(batch), 1))]
    return CachedViews(model, concat(batches), sizes)


class CachedViews(Views):
    """One batch as the objectives see it, computed in parts.

    What an objective does with each clip alone it does in its `per_clip`; then nothing of it is kept for the whole
    batch
    but the result, and it shares the passes of the encoders with other objectives. Any other objective works too: what
    it reads of a view, `embedding` or `tokens`, is computed part by part for it and joined, (B, E) or (N, D).

    Args:
        model: whose encoders make the views.
        batch: B clips.
        sizes: clips of each part.
    """

    def __init__(self, model: Network, batch: Batch, sizes: Sequence[int]) -> None:
        super().__init__(model, sort_captions(batch))
        self._parts = _Parts(model, self.batch, sizes)
        self.parts = self._parts.views
        self.pieces = len(self.parts)
        self._local: dict[str, dict[str, Tensor]] | None = None

    @property
    def outline(self) -> Packed:
        """The layout of all patches, without their values, (N, 0)."""
        return self._parts.outline

    @cached_property
    def patches(self) -> Packed:
        """The audio encoder's patches of all clips, packed (N)."""
        return join_packed([part.patches for part in self.parts])

    @cached_property
    def hidden(self) -> Tensor:
        """(N,) bool: the patches that the masked view hides, the same as of the batch in one part."""
        return self._parts.hidden

    @cached_property
    def full(self) -> View:
        """The audio encoder on all patches."""
        return _JoinedView(self._parts, "full")

    @cached_property
    def masked(self) -> View:
        """The audio encoder on the patches that are not `hidden`."""
        return _JoinedView(self._parts, "masked")

    @cached_property
    def teacher(self) -> View:
        """The EMA teacher on all patches, without gradient."""
        return _JoinedView(self._parts, "teacher")

    @cached_property
    def text(self) -> View:
        """The text encoder on all captions."""
        return _JoinedView(self._parts, "text")

    def per_clip(self, objective: Objective) -> Found:
        """What an objective makes of each clip alone, joined over the parts."""
        if self._local is None:
            self._local = self._compute_local()
        return next(self._local[name] for name, own in self._model.objectives.items() if own is objective)

    def _compute_local(self) -> dict[str, dict[str, Tensor]]:
        objectives: dict[str, Objective] = dict(self._model.objectives.items())  # type: ignore[arg-type]

        def fixed(part: Views) -> Found:
            return {
                f"{o} {name}": value for o in objectives for name, value in objectives[o].per_clip_no_grad(part).items()
            }

        def local(part: Views) -> Found:
            return {f"{o} {name}": value for o in objectives for name, value in objectives[o].per_clip(part).items()}

        _ = self.hidden  # random numbers are drawn in the order of a batch in one part
        found = {**self._parts.each(fixed, again=False), **self._parts.each(local)}
        own: dict[str, dict[str, Tensor]] = {name: {} for name in objectives}
        for key, value in found.items():
            objective, name = key.rsplit(" ", 1)
            own[objective][name] = value
        return own


class _Parts:
    """The parts of a batch.

    All views of it hold this, and this holds none of them: what refers to itself is not gone when the step is, but when
    the garbage collector comes by, and here that would be waveforms and patches.

    Args:
        model: whose encoders make the views.
        batch: B clips, its captions in their order.
        sizes: clips of each part.

    Attributes:
        views: of each part, of which nothing but the patches is computed.
        text: the captions of the batch.
    """

    def __init__(self, model: Network, batch: Batch, sizes: Sequence[int]) -> None:
        self.model, self.text = model, batch.text
        self.views = [Views(model, part) for part in split(batch, sizes)]

    @cached_property
    def outline(self) -> Packed:
        """The layout of all patches, without their values, (N, 0)."""
        layouts = [part.patches.layout for part in self.views]
        lengths = torch.cat([layout.lengths for layout in layouts])
        layout = Layout(lengths, tuple(size for layout in layouts for size in layout.sizes))
        return Packed(torch.empty(layout.total, 0, device=lengths.device), lengths, layout=layout)

    @cached_property
    def hidden(self) -> Tensor:
        """(N,) bool: the patches that the masked view hides, the same as of the batch in one part."""
        return random_mask(self.outline, self.model.mask_ratio)

    def hidden_in(self, index: int) -> Tensor:
        """Those of one part."""
        return self.hidden.split([view.patches.layout.total for view in self.views])[index]

    def each(self, function: Callable[[Views], Found], again: bool = True) -> dict[str, Tensor]:
        """What a function gives of each part, joined.

        Args:
            function: gives tensors, (n, ...) each, under the same names for each part.
            again: do not keep what its gradient needs, but compute it again; otherwise there is no gradient.
        """
        found = [self._part(index, function, again) for index in range(len(self.views))]
        return {name: torch.cat([part[name] for part in found]) for name in found[0]}

    def _part(self, index: int, function: Callable[[Views], Found], again: bool) -> dict[str, Tensor]:
        part = self.views[index]
        names: list[str] = []

        def run(patches: Tensor) -> tuple[Tensor, ...]:
            del patches  # tells `checkpoint` the device whose random numbers it has to repeat
            found = function(_Part(self, index))
            names[:] = found
            return tuple(found.values())

        if again:
            values = checkpoint(run, part.patches.values, use_reentrant=False)
        else:
            with torch.no_grad():
                values = run(part.patches.values)
        return dict(zip(names, values, strict=True))


class _Part(Views):
    """The views of one part with nothing computed but its patches, which all passes share."""

    def __init__(self, parts: _Parts, index: int) -> None:
        part = parts.views[index]
        super().__init__(parts.model, part.batch)
        self._parts, self._index = parts, index
        self.__dict__["_patches"] = part._patches

    @cached_property
    def hidden(self) -> Tensor:
        return self._parts.hidden_in(self._index)


class _JoinedView(View):
    """What an encoder made of the parts; each of both results takes passes of its own."""

    def __init__(self, parts: _Parts, name: str) -> None:
        self._parts, self._name = parts, name

    @cached_property
    def tokens(self) -> Packed:  # type: ignore[override]
        def values(part: Views) -> Found:
            return {"tokens": getattr(part, self._name).tokens.values}

        found = self._parts.each(values, again=self._name != "teacher")["tokens"]
        if self._name == "text":
            return self._parts.text.replace(found)
        patches = self._parts.outline
        positions = [part.patches.positions for part in self._parts.views]
        known = [value for value in positions if value is not None]
        joined = torch.cat(known) if len(known) == len(positions) else None
        return Packed(found, patches.lengths, joined, patches.layout)

    @cached_property
    def embedding(self) -> Tensor:
        def values(part: Views) -> Found:
            return {"embedding": getattr(part, self._name).embedding}

        return self._parts.each(values, again=self._name != "teacher")["embedding"]
