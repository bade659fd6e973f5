"""Labels that were ranked for a recording: by the texts of any labels, or by a classification head.

n recordings, K labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slap.core.calibration import UNCALIBRATED, C, Calibration
from slap.core.errors import UserError

PROMPTS = ("This is a sound of {label}.",)
"""The prompts of a label where none are given."""


@dataclass(frozen=True)
class Score:
    """The similarity of a label to a recording.

    Attributes:
        label: the label.
        cosine: between the recording and the label's prompts, -1 to 1.
        probability: that the label belongs to the recording, see `slap.core.calibration`; None if the model neither
            learned one nor was calibrated. It is of this label by itself, so that none may be probable, but after
            `Model.calibrate` without `independent`.
        share: the label's part of a softmax over all labels that were given, with the scale that the model learned.
            Shares sum to 1 even if none of the labels is heard. None if the model learned no such scale.
    """

    label: str
    cosine: float
    probability: float | None
    share: float | None = None


@dataclass(frozen=True)
class Label:
    """The probability of a head's class for a recording.

    Attributes:
        label: the class.
        probability: among the head's classes; or by itself, where a recording may have several.
    """

    label: str
    probability: float


def ranked(
    cosines: C,
    labels: Sequence[str],
    calibration: Calibration | None,
    threshold: float | None = None,
) -> list[list[Score]]:
    """Rank labels for each recording by cosines, (n, K), the best first; equal ones keep their order.

    Where labels have biases of their own, the best is the most probable one.

    Args:
        cosines: of recordings and labels.
        labels: the K labels.
        calibration: makes the probabilities.
        threshold: the least probability of a label, so that there may be none; None keeps all labels.
    """
    none = [[None] * cosines.shape[1]] * cosines.shape[0]
    chances = None if calibration is None else calibration.probabilities(cosines, labels)
    shares = None if calibration is None else calibration.shares(cosines)
    own = calibration is not None and bool(calibration.labels)
    scores = []
    columns = [none if found is None else found.tolist() for found in (chances, shares)]
    for row, *given in zip(cosines.tolist(), *columns, strict=True):
        found = list(map(Score, labels, row, *given))
        found.sort(key=lambda one: ((one.probability or 0.0) if own else 0.0, one.cosine), reverse=True)
        scores.append([one for one in found if threshold is None or (one.probability or 0.0) >= threshold])
    return scores


def templates_of(prompts: str | Sequence[str]) -> list[str]:
    """Return one template or several as a list."""
    return [prompts] if isinstance(prompts, str) else list(prompts)


def rule_of(
    calibration: Calibration | None, prompts: str | Sequence[str], threshold: float | None
) -> Calibration | None:
    """Return the calibration for labels in prompts; None if there is none, or it was fitted with other prompts.

    Raises:
        ValueError: there is a threshold, and the model has no probability of each label by itself.
    """
    templates = templates_of(prompts)
    rule = None if calibration is None else calibration.of_prompts(templates)
    if threshold is None:
        return rule
    if not 0 <= threshold <= 1:
        raise UserError(f"a threshold is a probability from 0 to 1, got {threshold:g}")
    if calibration is not None and rule is None:
        raise UserError(
            f"the calibration was fitted with the prompts {list(calibration.prompts)}, not with {templates}, so "
            "there are no probabilities; use those, or fit it again with `slap calibrate --prompts`"
        )
    if rule is None or not rule.independent:
        raise UserError(f"a threshold needs a probability of each label by itself: {UNCALIBRATED}")
    return rule


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
