"""The views of one batch that objectives read. Each view is computed once, when it is first used.

B clips, C captions, N audio patches, M text tokens, D an encoder's width, E the shared dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from slap.core.batch import Batch
from slap.core.errors import UserError
from slap.core.packed import Layout, Packed
from slap.model.ema import EMATeacher
from slap.model.masks import hidden_sizes, random_mask, shown


class ViewedModel(Protocol):
    """The parts of a model that make views; `slap.model.contracts.ModelParts` has their exact types.

    Attributes:
        mask_ratio: share of patches that the masked view hides.
        mask_block: time steps of a block that is hidden as a whole; 0 hides single patches.
    """

    mask_ratio: float
    mask_block: int

    @property
    def audio(self) -> Any:
        """The audio encoder."""

    @property
    def text(self) -> Any:
        """The text encoder."""

    @property
    def audio_pool(self) -> Any:
        """The pooling of audio, which gives (B, E)."""

    @property
    def text_pool(self) -> nn.Module:
        """The pooling of captions, which gives (C, E)."""

    @property
    def teacher(self) -> EMATeacher | None:
        """The EMA teacher, if an objective declares `uses_teacher`."""


class PerClip(Protocol):
    """The part of an objective's contract that views use, see `slap.model.contracts.Objective`."""

    def compute_per_clip(self, views: Views) -> Mapping[str, Tensor]:
        """Compute what depends on each clip alone."""


class View:
    """The output of an encoder for a batch.

    Attributes:
        tokens: (N, D) packed dense features, before pooling.
    """

    def __init__(self, tokens: Packed, pool: Callable[[Packed], Tensor]) -> None:
        self.tokens = tokens
        self._pool = pool

    @cached_property
    def embedding(self) -> Tensor:
        """(B, E) for audio, (C, E) for text: one embedding per item, pooled, projected, of length 1."""
        return self._pool(self.tokens)


class NoItems(View):
    """The view of a batch without clips, or without captions: no rows, but the same modules make it as any other view.

    A process whose clips are all bad still takes part in what the processes do together, e.g. in adding up gradients.
    So the encoder runs on a stand-in, whose rows are then dropped: gradients are 0, not absent.
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
        batch: the batch from the data module.
        chunks: number of parts in which the batch is computed, see `slap.model.grad_cache`. An objective that needs
            much memory per row should compute its rows in as many chunks, see `slap.nn.chunking.checkpointed_chunks`.
    """

    chunks = 1

    def __init__(self, model: ViewedModel, batch: Batch) -> None:
        self.batch = batch
        self._model = model
        self._note: Tensor | None = None
        self._view = View if len(batch) else NoItems

    def note(self, losses: Tensor) -> None:
        """Report the loss of each clip, from which the logs compute a loss per source of clips; this is optional.

        Args:
            losses: (B,) of this process's clips, NaN where a clip has none. No gradient flows through it.
        """
        self._note = losses.detach()

    def noted(self) -> Tensor | None:
        """Return what the last objective noted, or None, and forget it."""
        note, self._note = self._note, None
        return note

    def per_clip(self, objective: PerClip) -> Mapping[str, Tensor]:
        """Return what an objective computes of each clip alone, in its `per_clip_no_grad` and its `per_clip`."""
        return self.per_clip_of(objective, self)

    def per_clip_of(self, objective: PerClip, seen: Views) -> Mapping[str, Tensor]:
        """Return the same for an objective that sees only some clips of the batch, those of `seen`."""
        return objective.compute_per_clip(seen)

    @cached_property
    def patches(self) -> Packed:
        """The audio encoder's patches of all clips, packed (N)."""
        return self._patches if len(self.batch) else nothing_of(self._patches)

    @property
    def outline(self) -> Packed:
        """The layout of `patches`, (N, ...); the values may be missing."""
        return self.patches

    @cached_property
    def _patches(self) -> Packed:
        """The patches to compute: those of the batch, or of a stand-in where it has no clip."""
        with torch.no_grad():
            return self._model.audio.patchify(self._waveforms)

    @property
    def _waveforms(self) -> Packed:
        """The waveforms to compute: those of the batch, or of a stand-in where it has no clip."""
        return self.batch.audio if len(self.batch) else silence(self.batch.audio)

    @property
    def patch_count(self) -> int:
        """The number of patches that the audio encoder has made for this batch so far."""
        return self._patches.layout.total if "_patches" in vars(self) else 0

    @cached_property
    def hidden(self) -> Tensor:
        """(N,) bool: the patches that the masked view hides, a random share `model.mask_ratio` of each clip."""
        return random_mask(self.patches, self._model.mask_ratio, self._model.mask_block)

    @cached_property
    def hidden_rows(self) -> Tensor:
        """(n,) int64: the rows where `hidden` is True, in order.

        Their number is known on the host, so the host does not wait for a GPU.
        """
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
    def visible(self) -> View:
        """The audio encoder on the patches that are not `hidden`, without the others: fewer tokens, in less time.

        Its `tokens` are those patches alone, with their positions. Rows that `hidden_rows` lists are not among them.

        Raises:
            ValueError: the audio encoder does not take a part of a clip's patches.
        """
        if not self._model.audio.any_patches:
            raise UserError(
                f"the audio encoder {type(self._model.audio).__name__} does not take a part of a clip's patches "
                "(its attribute `any_patches`), so hidden ones cannot be dropped: replace them (the view `masked`)"
            )
        if not len(self.batch):
            return self.full
        tokens = self._model.audio(shown(self._patches, self.hidden, self._model.mask_ratio))
        return self._view(tokens, partial(self._model.audio_pool, lengths=self._patches.lengths))

    def of_audio(self, change: Callable[[Packed], Packed]) -> View:
        """Encode changed waveforms of the clips: a view of an objective's own, e.g. of random crops.

        Each call is a pass of the audio encoder. Within `per_clip` it runs for one part of a large batch after the
        other, as the other views do.

        Args:
            change: gives waveforms, (N',), from those of the clips, (N,): one for each, at least one sample long, see
                `slap.core.packed.random_crops`.
        """
        with torch.no_grad():
            patches = self._model.audio.patchify(change(self._waveforms))
        return self._view(self._model.audio(patches), self._model.audio_pool)

    @cached_property
    def teacher(self) -> View:
        """The EMA teacher on all patches, without SpecAugment and without gradient.

        Raises:
            RuntimeError: no objective of the model declares `uses_teacher`.
        """
        teacher = self._model.teacher
        if teacher is None:
            raise RuntimeError(
                "views.teacher was read, but the model keeps no teacher: "
                "set `uses_teacher = True` on the objective that reads it"
            )
        audio: Any = teacher.copy_of(self._model.audio)
        pool: Any = teacher.copy_of(self._model.audio_pool)
        with torch.no_grad(), _precision_of(self._model.audio):
            # The student's patches are augmented in training, so the teacher makes its own.
            patches = audio.patchify(self._waveforms) if self._model.audio.training else self._patches
            tokens = audio(patches)
        # Its heads are in full precision.
        return self._view(tokens.replace(tokens.values.to(pool.dtype)), torch.no_grad()(pool))

    def teacher_of(self, module: nn.Module) -> nn.Module:
        """Return the EMA copy of a head that an objective gave to `model.teacher.track` in its `setup`."""
        if self._model.teacher is None:
            raise RuntimeError("the model keeps no teacher: set `uses_teacher = True` on the objective that reads it")
        return self._model.teacher.copy_of(module)

    @cached_property
    def text(self) -> View:
        """The text encoder on all captions."""
        return self._of_text(self.batch.text)

    @cached_property
    def phrases(self) -> View:
        """The text encoder on the different phrases of the batch's segments, see `Batch.phrases`."""
        return self._of_text(nothing_of(self.batch.text) if self.batch.phrases is None else self.batch.phrases)

    def _of_text(self, text: Packed) -> View:
        encoder = self._model.text
        tokens = encoder(text if len(text) else wordless(text, encoder.bos, encoder.eos))
        return (View if len(text) else NoItems)(tokens, self._model.text_pool)


def _precision_of(module: nn.Module) -> AbstractContextManager[Any]:
    """Return a context in which full-precision weights compute in the precision of a module that is cast to a lower."""
    parameter = next(module.parameters())
    if parameter.dtype in (torch.bfloat16, torch.float16):
        return torch.autocast(parameter.device.type, parameter.dtype)
    return nullcontext()


def nothing_of(items: Packed) -> Packed:
    """Return a packed batch like this one, but without items."""
    positions = None if items.positions is None else items.positions[:0]
    return Packed(items.values[:0], items.lengths[:0], positions, Layout(items.lengths[:0], ()))


def silence(like: Packed) -> Packed:
    """Return one clip of one silent sample, on the device of a batch."""
    return _single(like.values.new_zeros(1))


def wordless(like: Packed, bos: int, eos: int) -> Packed:
    """Return one caption without words, on the device of a batch."""
    return _single(torch.tensor([bos, eos], device=like.values.device))


def _single(values: Tensor) -> Packed:
    lengths = torch.full((1,), len(values), dtype=torch.int32, device=values.device)
    return Packed(values, lengths, layout=Layout(lengths, (len(values),)))


def by_clip(losses: Tensor, clip: Tensor, clips: int) -> Tensor:
    """Compute the mean of each clip's losses, for `Views.note`.

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


STUDENT_VIEWS = ("full", "masked", "visible")


def student_view(name: str) -> str:
    """Check the argument `view` of an objective: the name of a view of the audio that has a gradient.

    Raises:
        ValueError: there is no such view.
    """
    if name not in STUDENT_VIEWS:
        raise UserError(f"view must be one of {', '.join(STUDENT_VIEWS)}; got {name!r}")
    return name
