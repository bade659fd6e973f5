"""A trained classification head in use: which of its classes a recording has.

n recordings, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from slap.audio.sources import Audio
from slap.core.windows import window_weights
from slap.inference.stream import Span, StreamItem, WindowJob, run

if TYPE_CHECKING:
    from slap.inference.model import Model
    from slap.model.contracts import Classifier


@runtime_checkable
class Labeler(Protocol):
    """A backend with classification heads."""

    @property
    def heads(self) -> Mapping[str, Classifier]:
        """The heads that it was trained with, by name."""

    def encode_labels(self, clips: Sequence[Tensor], head: Classifier) -> Tensor:
        """Clips, (T_i,) each, to the head's scores, (n, K)."""


@dataclass(frozen=True)
class Label:
    """How probable a class is for a recording.

    Attributes:
        label: the class.
        probability: among the head's classes; or by itself, where a recording may have several.
    """

    label: str
    probability: float


def label(
    model: Model, audio: Sequence[Audio], head: str | None = None, batch_seconds: float = 120.0
) -> Iterator[StreamItem[list[Label]]]:
    """The classes of recordings, the most probable first, as they are done.

    A recording that takes several windows has the mean of their scores, each weighted by the samples that it stands
    for, as in the evaluation of the head.

    Args:
        model: fine-tuned with the objective `classification`.
        audio: the recordings.
        head: its name; None is the only one.
        batch_seconds: audio that is computed together.

    Raises:
        ValueError: the model has no head, or none of this name, or several and none is named.
    """
    backend = model.backend
    chosen = _chosen(backend.heads if isinstance(backend, Labeler) else {}, head)
    assert isinstance(backend, Labeler)

    def whole(parts: list[Tensor], spans: list[Span]) -> list[Label]:
        weights = torch.tensor(window_weights(spans), dtype=torch.float64)
        scores = (weights[:, None] * torch.stack(parts).double()).sum(0) / weights.sum()
        chances = scores.sigmoid() if chosen.multi_label else scores.softmax(0)
        found = [Label(name, chance) for name, chance in zip(chosen.classes, chances.tolist(), strict=True)]
        return sorted(found, key=lambda one: one.probability, reverse=True)

    window, batch = (round(seconds * model.sample_rate) for seconds in (model.max_seconds, batch_seconds))
    plan = WindowJob(lambda clips: list(backend.encode_labels(clips, chosen)), whole, model.sample_rate, window, batch)
    return run(audio, plan)


def _chosen(heads: Mapping[str, Classifier], name: str | None) -> Classifier:
    if name is None and len(heads) == 1:
        return next(iter(heads.values()))
    if name is not None and name in heads:
        return heads[name]
    there = ", ".join(f"{known} ({len(head.classes)} classes)" for known, head in heads.items()) or "none"
    if name is None and heads:
        raise ValueError(f"the model has several heads, so name one of {there}")
    raise ValueError(
        f"there is no head {name!r} to classify by; the model has {there}. The objective `classification` trains one, "
        "see the recipe of that name; any model classifies by the texts of labels that you give"
    )
