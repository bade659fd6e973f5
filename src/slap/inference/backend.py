"""Protocols of models in use: what `slap.inference.model.Model` asks of the object that computes.

n clips, m texts, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from slap.core.calibration import Calibration
from slap.core.decoding import Decoding
from slap.model.contracts import Classifier


class AudioTextModel(Protocol):
    """A model that embeds sounds and texts; everything runs without gradient and in evaluation mode.

    Attributes:
        sample_rate: of the clips that it takes, Hz.
        max_seconds: the longest clip that it takes at once.
        embedding_dim: E.
    """

    sample_rate: int
    max_seconds: float
    embedding_dim: int

    @property
    def name(self) -> str:
        """A content hash: equal for equal weights, different otherwise."""

    @property
    def calibration(self) -> Calibration | None:
        """The rule that turns cosines into probabilities; None if the model learned none."""

    def encode_audio(self, clips: Sequence[Tensor]) -> Tensor:
        """Embed clips, each (T_i,) float32 on the CPU with 1 to `max_seconds` x `sample_rate` samples, as (n, E).

        Rows have length 1, are float32 on the CPU, and each depends on its clip alone.
        """

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts as (m, E), likewise."""


@runtime_checkable
class Nested(Protocol):
    """A backend whose embeddings may have leading dimensions that are embeddings, too."""

    @property
    def leading_dims(self) -> tuple[int, ...]:
        """The numbers of leading dimensions that it was trained for, the largest first; none without such training."""


@runtime_checkable
class Captioner(Protocol):
    """A backend that writes captions.

    Attributes:
        no_captions: the reason why it does not write any after all; "" if it does.
    """

    no_captions: str

    def write(self, clips: Sequence[Tensor], decoding: Decoding) -> tuple[list[str], Tensor]:
        """Write a caption for each clip; return the captions and the clips' embeddings, (n, E)."""


@runtime_checkable
class CaptionRater(Protocol):
    """A backend whose decoder computes how probable a caption is; `no_captions` is as of `Captioner`."""

    no_captions: str

    def caption_likelihood(self, clips: Sequence[Tensor], captions: Sequence[str]) -> Tensor:
        """Compute the mean log-likelihood of the tokens of each clip's caption, (n,), in nats."""


@runtime_checkable
class Localizer(Protocol):
    """A backend that tells when in a clip something sounds."""

    @property
    def frame_samples(self) -> int:
        """Samples that a frame spans."""

    def encode_frames(self, clip: Tensor, hop: int) -> Tensor:
        """Embed the frames of a clip, (T,), one every `hop` samples, as (F, E); see `slap.inference.frames`."""


@runtime_checkable
class FrameCalibrated(Protocol):
    """A localizer that may have learned the probability that a text is heard in a frame."""

    @property
    def frame_calibration(self) -> Calibration | None:
        """The rule that turns the cosines of frames into probabilities; None if it learned none."""


@runtime_checkable
class Labeler(Protocol):
    """A backend with classification heads."""

    @property
    def heads(self) -> Mapping[str, Classifier]:
        """The heads that it was trained with, by name."""

    def encode_labels(self, clips: Sequence[Tensor], head: Classifier) -> Tensor:
        """Compute a head's scores of clips, (T_i,) each, as (n, K)."""
