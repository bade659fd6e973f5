"""Captions and classes of whole recordings, as jobs for `slap.inference.stream`.

n clips, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from slap.core.decoding import Decoding
from slap.core.errors import UserError
from slap.core.windows import window_weights
from slap.inference.backend import AudioTextModel, Captioner, CaptionRater, Labeler
from slap.inference.embedding import joined, require_finite, tensors
from slap.inference.scores import Label
from slap.inference.stream import Span, WindowJob
from slap.metrics.finite import last_unless_finite
from slap.model.contracts import Classifier

Described = tuple[str, Tensor]
"""The caption of a window, and the window's embedding."""


def samples_of(backend: AudioTextModel, batch_seconds: float) -> tuple[int, int]:
    """Return the samples of the model's longest window, and those of a batch."""
    return round(backend.max_seconds * backend.sample_rate), round(batch_seconds * backend.sample_rate)


def caption_job(backend: AudioTextModel, decoding: Decoding, batch_seconds: float) -> WindowJob[Described, str]:
    """Describe recordings.

    Each window is described; the recording's caption is the one whose embedding is nearest to that of the recording.
    A silent recording has the caption "".

    Raises:
        ValueError: the model writes no captions.
    """
    if not isinstance(backend, Captioner):
        raise UserError(no_captions(backend))

    def describe(clips: Sequence[np.ndarray]) -> list[Described]:
        texts, embeddings = backend.write(tensors(clips), decoding)
        return list(zip(texts, embeddings, strict=True))

    def nearest(parts: list[Described], spans: list[Span]) -> str:
        whole = joined([embedding for _, embedding in parts], spans)
        if len(parts) == 1:
            return parts[0][0]
        texts = [text or " " for text, _ in parts]
        return parts[int(last_unless_finite(backend.encode_text(texts) @ whole).argmax())][0]

    sizes = samples_of(backend, batch_seconds)
    return WindowJob(describe, nearest, backend.sample_rate, *sizes, silence=str)


def no_captions(backend: AudioTextModel) -> str:
    """Return the reason why a model writes no captions; "" if it does."""
    return backend.no_captions if isinstance(backend, Captioner) else f"a {type(backend).__name__} writes no captions"


def no_likelihoods(backend: AudioTextModel) -> str:
    """Return the reason why a model computes no likelihood of a caption; "" if it does."""
    return (
        backend.no_captions if isinstance(backend, CaptionRater) else f"a {type(backend).__name__} writes no captions"
    )


def label_job(backend: AudioTextModel, head: str | None, batch_seconds: float) -> WindowJob[Tensor, list[Label]]:
    """Classify recordings by a head that the model was fine-tuned with; the most probable class comes first.

    A recording that takes several windows has the mean of their scores, each weighted by the samples that it stands
    for, as in the evaluation of the head. A silent recording has no classes.

    Args:
        backend: fine-tuned with the objective `classification`.
        head: its name; None is the only one.
        batch_seconds: seconds of audio per batch.

    Raises:
        ValueError: the model has no head, or none of this name, or several and none is named.
    """
    chosen = chosen_head(backend, head)
    assert isinstance(backend, Labeler)

    def whole(parts: list[Tensor], spans: list[Span]) -> list[Label]:
        weights = torch.tensor(window_weights(spans), dtype=torch.float64)
        scores = (weights[:, None] * torch.stack(parts).double()).sum(0) / weights.sum()
        require_finite(scores, "a score of a class")
        chances = scores.sigmoid() if chosen.multi_label else scores.softmax(0)
        found = [Label(name, chance) for name, chance in zip(chosen.classes, chances.tolist(), strict=True)]
        return sorted(found, key=lambda one: one.probability, reverse=True)

    def compute(clips: Sequence[np.ndarray]) -> list[Tensor]:
        return list(backend.encode_labels(tensors(clips), chosen))

    sizes = samples_of(backend, batch_seconds)
    return WindowJob(compute, whole, backend.sample_rate, *sizes, silence=list)


def chosen_head(backend: AudioTextModel, name: str | None) -> Classifier:
    """Return the head of a name, or the only one for None.

    Raises:
        ValueError: the model has no head, or none of this name, or several and none is named.
    """
    heads: Mapping[str, Classifier] = backend.heads if isinstance(backend, Labeler) else {}
    if name is None and len(heads) == 1:
        return next(iter(heads.values()))
    if name is not None and name in heads:
        return heads[name]
    there = ", ".join(f"{known} ({len(head.classes)} classes)" for known, head in heads.items()) or "none"
    if name is None and heads:
        raise UserError(f"the model has several heads, so name one of {there}")
    raise UserError(
        f"there is no head {name!r} to classify by; the model has {there}. The objective `classification` trains one, "
        "see the recipe of that name; any model classifies by the texts of labels that you give"
    )
