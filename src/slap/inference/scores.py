"""Labels that were ranked for a recording: by the texts of any labels, or by a classification head.

n recordings, K labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from slap.core.calibration import Calibration


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


def ranked(cosines: Tensor, labels: Sequence[str], calibration: Calibration | None) -> list[list[Score]]:
    """Rank labels for each recording by cosines, (n, K), the best first; labels with equal cosines keep their order."""
    found = None if calibration is None else calibration.probabilities(cosines)
    scores = []
    for i, row in enumerate(cosines.tolist()):
        given = [None] * len(row) if found is None else found[i].tolist()
        scores.append(sorted(map(Score, labels, row, given), key=lambda score: score.cosine, reverse=True))
    return scores
