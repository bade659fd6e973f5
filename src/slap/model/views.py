"""The views of one batch that objectives read, each computed on first use, once.

B clips, C captions, N audio patches, M text tokens, D an encoder's width, E the shared dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from slap.core.batch import Batch
from slap.core.packed import Layout, Packed
from slap.model.contracts import Objective, TextEncoder

if TYPE_CHECKING:
    from slap.model.network import Network


class View:
    """What an encoder made of a batch.

    Attributes:
        tokens: (N, D) packed dense features, before pooling.
    """

    def __init__(self, tokens: Packed, pool: Callable[[Packed], Tensor]) -> None:
        self.tokens = tokens
        self._pool = pool

    @cached_property
    def embedding(self) -> Tensor:
        """(B, E) for audio, (C, E) for text: one embedding an item, pooled, projected, of length 1."""
        return self._pool(self.tokens)


class NoItems(View):
    """The view of a batch without clips: no rows, but made by the same modules as any other.

    A process whose clips are all bad still takes part in what the processes do together, e.g. in adding up gradients.
    So the encoder runs on a stand-in, of which nothing is kept but that it was there: gradients are 0, not absent.
    """

    def __init__(self, tokens: Packed, pool: Callable[[Packed], Tensor]) -> None:
        super().__init__(nothing_of(tokens), pool)
        self._stand_in = tokens

    @cached_property
    def embedding(self) -> Tensor:
        """(0, E)."""
        return self._pool(self._stand_in)[:0]


class Views:
    """One batch as the objectives see it.

    Attributes:
        batch: what the data module gave.
        pieces: in how many parts it is computed, see `slap.model.grad_cache`; what is made of rows should be made in as
            many pieces, see `slap.nn.chunking.checkpointed_chunks`.
    """

    pieces = 1

    def __init__(self, model: Network, batch: Batch) -> None:
        self.batch = batch
        self._model = model
        self._note: Tensor | None = None
        self._view = View if len(batch) else NoItems

    def note(self, losses: Tensor) -> None:
        """Tell the loss of each clip, for logs that tell sources of clips apart; an objective may, and need not.

        Args:
            losses: (B,) of this process's clips, NaN where a clip has none. No gradient is taken.
        """
        self._note = losses.detach()

    def noted(self) -> Tensor | None:
        """What the last objective noted, if it did; asking forgets it."""
        note, self._note = self._note, None
        return note

    def per_clip(self, objective: Objective) -> Mapping[str, Tensor]:
        """What an objective makes of each clip alone, by its `per_clip_no_grad` and its `per_clip`."""
        return per_clip_of(objective, self)

    @cached_property
    def patches(self) -> Packed:
        """The audio encoder's patches of all clips, packed (N)."""
        return self._patches if len(self.batch) else nothing_of(self._patches)

    @property
    def outline(self) -> Packed:
        """Something with the layout of `patches`, (N, ...); its values may be missing."""
        return self.patches

    @cached_property
    def _patches(self) -> Packed:
        """The patches to compute: those of the batch, or of a stand-in where it has no clip."""
        with torch.no_grad():
            return self._model.audio.patchify(self.batch.audio if len(self.batch) else silence(self.batch.audio))

    @cached_property
    def hidden(self) -> Tensor:
        """(N,) bool: the patches that the masked view hides, a random share `model.mask_ratio` of each clip."""
        return random_mask(self.patches, self._model.mask_ratio)

    @cached_property
    def hidden_rows(self) -> Tensor:
        """(n,) int64: where `hidden` is True, in order. Their number is known on the host, so no GPU is waited for."""
        count = sum(hidden_sizes(self.outline.sizes, self._model.mask_ratio).tolist())
        return torch.nonzero_static(self.hidden, size=count).squeeze(1)

    @cached_property
    def full(self) -> View:
        """The audio encoder on all patches."""
        return self._view(self._model.audio(self._patches), self._model.audio_pool)

    @cached_property
    def masked(self) -> View:
        """The audio encoder on the patches that are not `hidden`."""
        hidden = self.hidden if len(self.batch) else self._patches.item.bool()  # of a single item: all False
        return self._view(self._model.audio(self._patches, hidden), self._model.audio_pool)

    @cached_property
    def teacher(self) -> View:
        """The EMA teacher on all patches, without gradient.

        Raises:
            RuntimeError: no objective of the model declares `uses_teacher`.
        """
        teacher = self._model.teacher
        if teacher is None:
            raise RuntimeError(
                "views.teacher was read, but the model keeps no teacher: "
                "set `uses_teacher = True` on the objective that reads it"
            )
        with torch.no_grad():
            pool = teacher.copy_of(self._model.audio_pool)
            return self._view(teacher.copy_of(self._model.audio)(self._patches), torch.no_grad()(pool))

    def teacher_of(self, module: nn.Module) -> nn.Module:
        """The EMA copy of a head that an objective gave to `model.teacher.track` in its `setup`."""
        if self._model.teacher is None:
            raise RuntimeError("the model keeps no teacher: set `uses_teacher = True` on the objective that reads it")
        return self._model.teacher.copy_of(module)

    @cached_property
    def text(self) -> View:
        """The text encoder on all captions."""
        text, encoder = self.batch.text, self._model.text
        tokens = encoder(text if len(self.batch) else wordless(text, encoder))
        return self._view(tokens, self._model.text_pool)


def per_clip_of(objective: Objective, views: Views) -> dict[str, Tensor]:
    """What an objective makes of each clip alone, computed at once."""
    with torch.no_grad():
        fixed = objective.per_clip_no_grad(views)
    return {**fixed, **objective.per_clip(views)}


def nothing_of(items: Packed) -> Packed:
    """The same rows, but none of them."""
    positions = None if items.positions is None else items.positions[:0]
    return Packed(items.values[:0], items.lengths[:0], positions, Layout(items.lengths[:0], ()))


def silence(like: Packed) -> Packed:
    """One clip of one silent sample, as a batch's are."""
    return _single(like.values.new_zeros(1))


def wordless(like: Packed, encoder: TextEncoder) -> Packed:
    """One caption without words, on the device of a batch."""
    return _single(torch.tensor([encoder.bos, encoder.eos], device=like.values.device))


def _single(values: Tensor) -> Packed:
    lengths = torch.full((1,), len(values), dtype=torch.int32, device=values.device)
    return Packed(values, lengths, layout=Layout(lengths, (len(values),)))


def by_clip(losses: Tensor, clip: Tensor, clips: int) -> Tensor:
    """The mean of each clip's losses, for `Views.note`.

    Args:
        losses: (n,) of captions, tokens or patches.
        clip: (n,) int64, the clip of each.
        clips: B.

    Returns:
        (B,) without gradient, NaN where a clip has none.

    Example:
        >>> by_clip(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 2]), 3).tolist()
        [2.0, nan, 5.0]
    """
    losses = losses.detach()
    sums = losses.new_zeros(clips).index_add_(0, clip, losses)
    return sums / losses.new_zeros(clips).index_add_(0, clip, torch.ones_like(losses))


STUDENT_VIEWS = ("full", "masked")


def student_view(name: str) -> str:
    """The name of a view of the audio that trains, for objectives that let it be chosen: `getattr(views, name)`.

    Raises:
        ValueError: there is no such view.
    """
    if name not in STUDENT_VIEWS:
        raise ValueError(f"view must be one of {', '.join(STUDENT_VIEWS)}; got {name!r}")
    return name


def random_mask(patches: Packed, ratio: float) -> Tensor:
    """Hide a random share of each clip's patches.

    The paper hides "a random half" without saying how; we draw single patches, without replacement.

    Args:
        patches: packed, N rows.
        ratio: share to hide, 0 to 1. Of each clip round(ratio x patches) are hidden, but never all of them.

    Returns:
        (N,) bool, True where hidden.
    """
    noise = torch.rand(len(patches.values), device=patches.values.device)
    # Sorted by clip, then by noise: a row's place in its clip is then a random rank.
    order = torch.argsort(patches.item + noise.double())
    rank = torch.empty_like(order)
    rank[order] = patches.index  # the sort moves rows only within their clip, so places line up
    return rank < hidden_sizes(patches.lengths, ratio)[patches.item]


def hidden_sizes(lengths: Tensor | Sequence[int], ratio: float) -> Tensor:
    """(B,) int64: of each clip the patches that `random_mask` hides, from the clips' patches."""
    lengths = torch.as_tensor(lengths, dtype=torch.int32)
    return torch.minimum((lengths * ratio).round().long(), lengths.long() - 1)
