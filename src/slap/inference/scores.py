"""Labels that were ranked for a recording: by the texts of any labels, or by a classification head.

n recordings, K labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from slap.core.calibration import Calibration
from slap.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

PROMPTS = ("This is a sound of {label}.",)
"""The prompts of a label where none are given."""


@dataclass(frozen=True)
class Score:
    """The similarity of a label to a recording.

    Attributes:
        label: the label.
        cosine: between the recording and the label's prompts, -1 to 1.
        probability: see `slap.core.calibration`; None if the model was trained without an objective that gives any.
    """

    label: str
    cosine: float
    probability: float | None


@dataclass(frozen=True)
class Label:
    """The probability of a head's class for a recording.

    Attributes:
        label: the class.
        probability: among the head's classes; or by itself, where a recording may have several.
    """

    label: str
    probability: float


def ranked(cosines: np.ndarray | Tensor, labels: Sequence[str], calibration: Calibration | None) -> list[list[Score]]:
    """Rank labels for each recording by cosines, (n, K), the best first; labels with equal cosines keep their order."""
    found = None if calibration is None else calibration.probabilities(cosines)
    scores = []
    for i, row in enumerate(cosines.tolist()):
        given = [None] * len(row) if found is None else found[i].tolist()
        scores.append(sorted(map(Score, labels, row, given), key=lambda score: score.cosine, reverse=True))
    return scores


def check_labels(labels: Sequence[str]) -> None:
    """Refuse labels that cannot be ranked.

    Raises:
        ValueError: there is none, or one twice.
    """
    if isinstance(labels, str) or not labels or len(set(labels)) != len(labels):
        raise UserError(f"labels must be a list of one or more different ones, got {labels!r}")


def check_texts(texts: Sequence[str]) -> None:
    """Refuse what is no text to embed.

    Raises:
        ValueError: an empty text.
        TypeError: something else than text.
    """
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"text {i} is a {type(text).__name__}, not a str")
        if not text.strip():
            raise UserError(f"text {i} is empty")
