"""What a plug-in promises: the base classes of audio encoders, text encoders and objectives.

B clips, C captions, N packed rows (samples, patches or tokens), D the encoder's width, P coordinates of a row.
`slap.testing` checks these promises for any plug-in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from torch import Tensor, nn

from slap.core.packed import Packed
from slap.core.registry import add_kind

if TYPE_CHECKING:
    from slap.model.network import Network
    from slap.model.views import Views


class Encoder(nn.Module, ABC):
    """What audio and text encoders share.

    Attributes:
        width: D, the width of the dense output.
        sources: its arguments that name files or hubs; saved models may not hold any, see `portable`.
    """

    width: int
    sources: ClassVar[tuple[str, ...]] = ()

    def lr_scale(self, name: str) -> float:
        """The factor on the learning rate of one parameter, e.g. below 1 for pretrained layers.

        Args:
            name: the parameter's name as `self.named_parameters()` gives it.
        """
        del name
        return 1.0

    def graph(self) -> nn.Module:
        """This encoder on one item, for torch.export and ONNX: (T,) samples, or (N,) token ids, to features, (N, D).

        It shares the weights, and gives what `forward` gives (for audio, what `patchify` and `forward` give) to a batch
        of one, by operations whose shapes can be traced at any length.

        Raises:
            NotImplementedError: it has no such form.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `graph`, so it cannot be exported as one")

    def portable(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that rebuild this encoder from a checkpoint, where files and hubs may be out of reach.

        Args:
            options: the arguments that it was made with.
        """
        return dict(options)


class AudioEncoder(Encoder):
    """Turns waveforms of any duration into dense features.

    Attributes:
        width: D, the width of the dense output.
        sample_rate: of the waveforms it wants, in Hz; the data module resamples to it.
        step: seconds from one time coordinate of its patches (`positions[:, 0]`) to the next; None if they have none.
            Needed for similarity over time, see `slap.inference.frames`.
    """

    sample_rate: int
    step: float | None = None

    @abstractmethod
    def patchify(self, audio: Packed) -> Packed:
        """Waveforms, (N,) in [-1, 1], to patches, (N', ...), at least one a clip.

        Holds no trainable parameters, so that several views share its result. `positions` of the result hold each
        patch's coordinates. Augments the features (SpecAugment) when `self.training`.
        """

    @abstractmethod
    def forward(self, patches: Packed, hidden: Tensor | None = None) -> Packed:
        """Patches to dense features, (N, D), with the lengths and positions of the patches.

        Args:
            patches: what `patchify` gave.
            hidden: (N,) bool, the patches whose content must not be seen; their outputs are predictions of it.
        """


class TextEncoder(Encoder):
    """Turns captions into dense features, and owns the tokens that a caption decoder speaks.

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
        """Learn what is learnt from the training captions before the first step, e.g. a tokenizer.

        Called on every process at the start of training, with the same captions in the same order, and must do the
        same everywhere. `captions` is lazy: what is already known should not read it.
        """

    @abstractmethod
    def tokenize(self, captions: Sequence[str]) -> Packed:
        """Captions to token ids, (N,) int64 on the CPU, each `bos ... eos`. Runs in the data loader's workers."""

    @abstractmethod
    def detokenize(self, tokens: Packed) -> list[str]:
        """Token ids back to captions, without the special tokens."""

    @abstractmethod
    def forward(self, tokens: Packed) -> Packed:
        """Token ids, (N,), to dense features, (N, D), with the same lengths."""


class TrainingClips(Protocol):
    """What a data module tells of the training clips before training."""

    def labels(self, task: str) -> Sequence[tuple[str, ...]]:
        """For each training clip the labels that it has of a task: none, one or several."""


class Objective(nn.Module, ABC):
    """One term of the loss. It never weighs itself and never calls the trainer.

    It says which views of a batch it needs by reading them. Which views it reads may not depend on the data: in
    distributed training the processes would wait for each other. Its loss is a mean over the *global* batch, see
    `slap.core.distributed.global_mean`.

    Attributes:
        uses_teacher: set it to have the model keep an EMA teacher; reading `views.teacher` is an error otherwise.
    """

    uses_teacher: bool = False

    def setup(self, model: Network) -> None:
        """Build heads that depend on the model. Runs once, before the optimizer and the strategy see the model."""

    def prepare(self, clips: TrainingClips) -> None:
        """Learn what is learnt from the training clips before the first step, e.g. which classes there are.

        Called on every process at the start of training, before the optimizer is made; it must do the same everywhere.
        What is already known should not be read.
        """

    def portable(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that rebuild this objective from a checkpoint, with what `prepare` learnt.

        Args:
            options: the arguments that it was made with, and its weight.
        """
        return dict(options)

    @abstractmethod
    def forward(self, views: Views) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """The loss, a scalar, alone or with named scalars to log.

        It may tell the loss of each clip by `views.note`, so that the logs can tell sources of clips apart.
        """

    def per_clip(self, views: Views) -> Mapping[str, Tensor]:
        """What of the loss depends on each clip alone, and takes memory: an objective may compute that here.

        `forward` then gets it as `views.per_clip(self)`, for all clips. Where a batch is too large to be computed at
        once
        (`micro_clips`, `accumulate_grad_batches`), this runs part by part, twice: activations are not kept.

        Returns:
            By name (n, ...) each: one row for each clip, caption or token of `views`, in their order. No process may
            wait for another here.
        """
        del views
        return {}

    def per_clip_no_grad(self, views: Views) -> Mapping[str, Tensor]:
        """The same for what has no gradient, as of the teacher; runs once."""
        del views
        return {}

    def health_check(self, logged: Mapping[str, float]) -> str | None:
        """What has gone wrong with the training, judged by what `forward` gave to log; None if nothing has.

        A complaint that lasts becomes a warning, and may end the run, see `slap.training.callbacks.collapse_monitor`.

        Args:
            logged: by name, finite; not empty.
        """
        del logged
        return None


add_kind("audio encoder", AudioEncoder, reserved={"name"})
add_kind("text encoder", TextEncoder, reserved={"name"})
add_kind("objective", Objective, reserved={"weight", "objective"})
