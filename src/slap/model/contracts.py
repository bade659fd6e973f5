"""The contracts of plug-ins: the base classes of audio encoders, text encoders and objectives.

B clips, C captions, N packed rows (samples, patches or tokens), D the encoder's width, E the shared dimension, K
classes, P coordinates of a row. `slap.testing` checks that a plug-in keeps its contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from slap.core.batch import Batch
from slap.core.calibration import Calibration
from slap.core.decoding import GREEDY, Decoding
from slap.core.packed import Packed
from slap.core.registry import add_kind
from slap.model.views import View, ViewedModel, Views
from slap.nn.pooling import AttentionPooling, Pooling


class Encoder(nn.Module, ABC):
    """Base of audio and text encoders.

    Attributes:
        width: D, the width of the dense output.
        sources: names of its arguments that say where files or hubs are; saved models may not hold any, see `portable`.
        older: arguments that a saved model may lack, since they or their defaults are newer, with the values that it
            then has. `portable` must give them from now on, and `adopt` take them.
    """

    width: int
    sources: ClassVar[tuple[str, ...]] = ()
    older: ClassVar[Mapping[str, Any]] = {}

    def lr_scale(self, name: str) -> float:
        """Return the factor on the learning rate of one parameter, e.g. below 1 for pretrained layers.

        Args:
            name: the parameter's name as `self.named_parameters()` gives it.
        """
        del name
        return 1.0

    def pooling(self, embedding_dim: int, duration: bool = False) -> Pooling:
        """Make the head that pools its dense features into the shared space: by attention, unless it brings its own.

        Args:
            embedding_dim: E.
            duration: let the embedding depend on the number of rows of an item.
        """
        return AttentionPooling(self.width, embedding_dim, duration=duration)

    def graph(self) -> nn.Module:
        """Return this encoder for one item, for torch.export and ONNX: (T,) samples, or (N,) token ids, to (N, D).

        It shares the weights. Its result is that of `forward` (for audio, of `patchify` and `forward`) for a batch of
        one, by operations whose shapes can be traced at any length.

        Raises:
            NotImplementedError: this encoder has no such form.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `graph`, so it cannot be exported as one")

    def portable(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments that rebuild this encoder from a checkpoint, where files and hubs may be out of reach.

        Args:
            options: the arguments of its constructor.
        """
        return dict(options)

    def adopt(self, values: Mapping[str, Any]) -> None:
        """Change arguments to those of an older model whose weights are about to be loaded.

        Args:
            values: some of `older`.
        """
        raise NotImplementedError(f"{type(self).__name__} has `older` arguments, but no `adopt`: {dict(values)}")


class AudioEncoder(Encoder):
    """Base of encoders that turn waveforms of any duration into dense features.

    Attributes:
        width: D, the width of the dense output.
        sample_rate: of its waveforms, in Hz; the data module resamples to it.
        step: seconds from one time coordinate of its patches (`positions[:, 0]`) to the next; None if patches have no
            time. Similarity over time needs it, see `slap.inference.frames`.
        any_patches: whether `forward` takes any subset of a clip's patches, by their positions, see
            `slap.model.views.Views.visible`.
    """

    sample_rate: int
    step: float | None = None
    any_patches: bool = False

    @abstractmethod
    def patchify(self, audio: Packed) -> Packed:
        """Turn waveforms, (N,) in [-1, 1], into patches, (N', ...), at least one per clip.

        It uses no trainable parameters, so that several views share its result. The `positions` of the result hold each
        patch's coordinates. When `self.training` is set, it augments the features (SpecAugment).
        """

    @abstractmethod
    def forward(self, patches: Packed, hidden: Tensor | None = None) -> Packed:
        """Encode patches as dense features, (N, D), with the lengths and positions of the patches.

        Args:
            patches: from `patchify`.
            hidden: (N,) bool, the patches whose content must not be used; their outputs are predictions of it.
        """


class TextEncoder(Encoder):
    """Base of encoders that turn captions into dense features. The caption decoder writes their tokens.

    Attributes:
        width: D, the width of the dense output.
        vocab_size: token ids are below it.
        bos: the token that begins every caption.
        eos: the token that ends every caption.
    """

    vocab_size: int
    bos: int
    eos: int

    def prepare(self, captions: Iterable[str]) -> None:
        """Learn from the training captions before the first step, e.g. a tokenizer.

        Every process calls this at the start of training, with the same captions in the same order, and it must have
        the same result on each. `captions` is lazy: an encoder with nothing to learn should not read it.
        """

    @abstractmethod
    def tokenize(self, captions: Sequence[str]) -> Packed:
        """Turn captions into token ids, (N,) int64 on the CPU, each `bos ... eos`; the loader's workers call it."""

    @abstractmethod
    def detokenize(self, tokens: Packed) -> list[str]:
        """Turn token ids back into captions, without the special tokens."""

    @abstractmethod
    def forward(self, tokens: Packed) -> Packed:
        """Encode token ids, (N,), as dense features, (N, D), with the same lengths."""


class ModelParts(ViewedModel, Protocol):
    """The parts of a model that objectives may build their heads for: `slap.model.network.Network` has them.

    Attributes:
        embedding_dim: E.
    """

    embedding_dim: int

    @property
    def audio(self) -> AudioEncoder:
        """The audio encoder."""

    @property
    def text(self) -> TextEncoder:
        """The text encoder."""

    @property
    def objectives(self) -> nn.ModuleDict:
        """The objectives by name."""


class TrainingClips(Protocol):
    """The training clips of a data module, as objectives see them before training."""

    def labels(self, task: str) -> Sequence[tuple[str, ...]]:
        """Return for each training clip its labels of a task: none, one or several."""


class Objective(nn.Module, ABC):
    """Base of objectives: one term of the loss. It never applies its own weight and never calls the trainer.

    It chooses the views of a batch that it needs by reading them. This choice may not depend on the data: in
    distributed training the processes would wait for each other. Its loss is a mean over the *global* batch, see
    `slap.core.distributed.global_mean`.

    Attributes:
        uses_teacher: set it to have the model keep an EMA teacher; reading `views.teacher` is an error otherwise.
        uses_text: set it to False for an objective that learns from audio alone. It then sees all clips of a batch;
            others see those with captions only, which may be none (`slap.model.captioned`).
    """

    uses_teacher: bool = False
    uses_text: bool = True

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_post_hook(_constrain)

    def setup(self, model: ModelParts) -> None:
        """Build heads that depend on the model. Runs once, before the optimizer and the strategy see the model."""

    def prepare(self, clips: TrainingClips) -> None:
        """Learn from the training clips before the first step, e.g. the names of the classes.

        Every process calls this at the start of training, before the optimizer is made, and it must have the same
        result on each. An objective with nothing to learn should not read the clips.
        """

    def portable(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments that rebuild this objective from a checkpoint, with what `prepare` learned.

        Args:
            options: the arguments of its constructor, and its weight.
        """
        return dict(options)

    def lr_scale(self, name: str) -> float:
        """Return the factor on the learning rate of one parameter, e.g. above 1 for a head that begins at random.

        Args:
            name: the parameter's name as `self.named_parameters()` gives it.
        """
        del name
        return 1.0

    def constrain(self) -> None:
        """Move parameters that have a limited range back into it, in place, e.g. a temperature.

        It runs after each optimizer step and after weights were loaded. A limit in `forward` would not do: beyond it
        the gradient is 0, so that a parameter that has passed it once never comes back.
        """

    @abstractmethod
    def forward(self, views: Views) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss, a scalar, alone or with named scalars to log.

        It may report the loss of each clip by `views.note`, from which the logs compute a loss per source of clips.
        """

    def per_clip(self, views: Views) -> Mapping[str, Tensor]:
        """Compute the part of the loss that depends on each clip alone and takes memory; optional.

        `forward` reads the results for all clips as `views.per_clip(self)`. Where a batch is too large to be computed
        at once (`micro_clips`, `accumulate_grad_batches`), this runs for one part of the batch after the other, and
        twice for each: activations are not kept.

        Returns:
            Tensors by name, (n, ...) each: one row for each clip, caption or token of `views`, in their order. No
            process may wait for another here.
        """
        del views
        return {}

    def per_clip_no_grad(self, views: Views) -> Mapping[str, Tensor]:
        """Compute the same for tensors without gradient, e.g. of the teacher; runs once for each part of a batch."""
        del views
        return {}

    def compute_per_clip(self, views: Views) -> dict[str, Tensor]:
        """Compute `per_clip_no_grad` and `per_clip` of a whole batch at once."""
        with torch.no_grad():
            no_grad = self.per_clip_no_grad(views)
        return {**no_grad, **self.per_clip(views)}

    def health_check(self, logged: Mapping[str, float]) -> str | None:
        """Describe what has gone wrong with the training, as the logged scalars show it; None if nothing has.

        A fault that lasts becomes a warning, and may end the run, see `slap.training.callbacks.collapse_monitor`.

        Args:
            logged: the scalars of `forward` by name, finite; not empty.
        """
        del logged
        return None


def _constrain(objective: nn.Module, incompatible: Any) -> None:
    del incompatible
    assert isinstance(objective, Objective)
    with torch.no_grad():
        objective.constrain()


class Classifier:
    """Mix-in beside `Objective` for objectives whose head classifies clips, so that training can evaluate the head.

    A model with no other objectives is evaluated by these heads alone: its text encoder learns nothing.

    Attributes:
        task: the task whose labels it learns.
        classes: names of the K classes.
        multi_label: whether a clip may have several labels.
    """

    task: str
    classes: tuple[str, ...]
    multi_label: bool

    @abstractmethod
    def scores(self, view: View) -> Tensor:
        """Compute scores of the classes, (B, K), from a view of the audio; the highest is the most probable."""

    @abstractmethod
    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the share of each class in each clip, (B, K), and which clips have labels of the task, (B,) bool."""


@runtime_checkable
class Calibrated(Protocol):
    """An objective that learns how cosines become probabilities."""

    def calibration(self) -> Calibration:
        """Return the rule that it learned."""


@runtime_checkable
class Nests(Protocol):
    """An objective that may train leading dimensions of embeddings as embeddings of their own.

    Attributes:
        leading_dims: their numbers, the largest first, which is E; none if only whole embeddings are trained.
    """

    leading_dims: tuple[int, ...]


@runtime_checkable
class Writes(Protocol):
    """An objective that learns to write captions."""

    def generate(self, audio: Packed, decoding: Decoding = GREEDY, draws: Tensor | None = None) -> Packed:
        """Write the tokens of a caption for each clip, from dense features; for `draws` see `slap.core.decoding`."""


@runtime_checkable
class RatesCaptions(Protocol):
    """An objective that computes how probable it is that a caption is the one of a clip."""

    def log_likelihood(self, audio: Packed, tokens: Packed) -> Tensor:
        """Compute the mean log-likelihood of the tokens of each clip's caption, (B,), in nats.

        Args:
            audio: dense features of B clips.
            tokens: captions, one per clip.
        """


class AlignsFrames:
    """Mix-in beside `Objective` for objectives that learn when in a clip a text is heard.

    Similarity over time is theirs, see `slap.inference.frames`; its texts are embedded as captions are.
    """

    @abstractmethod
    def frames(self, tokens: Packed) -> tuple[Tensor, Tensor, Tensor]:
        """Embed the time steps of clips, from dense features, (N, D).

        Returns:
            For each of F time steps its embedding, (F, E), of length 1; the item, and the number of the step within it,
            (F,) int64 each, in ascending order.
        """

    @abstractmethod
    def frame_calibration(self) -> Calibration:
        """Return the probability that a text is heard in a frame."""


add_kind("audio encoder", AudioEncoder, reserved={"name"})
add_kind("text encoder", TextEncoder, reserved={"name"})
add_kind("objective", Objective, reserved={"weight", "objective"})
