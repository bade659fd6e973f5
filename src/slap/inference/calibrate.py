"""Independent probabilities of labels and texts, fitted to labeled clips, and how reliable they are.

n clips, K labels, F folds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from slap.core.calibration import Calibration
from slap.core.platt import fit_labels, fit_pairs
from slap.metrics.reliability import Bin, calibration_error, reliability

BARE = ("{label}",)
"""The prompt of a label as people type it into a search."""

FOLDS = 5
"""F: each pair is evaluated by probabilities that were fitted without its clip."""


def fitted(cosines: Tensor, bare: Tensor, truth: Tensor, labels: Sequence[str], prompts: Sequence[str]) -> Calibration:
    """Fit the probability of each label by itself, see `slap.core.platt`, and that of a text that is no label.

    Args:
        cosines: (n, K), of clips and labels in prompts.
        bare: (n, K), of clips and labels without prompts, to which the probability of any text is fitted.
        truth: (n, K) bool.
        labels: the K labels.
        prompts: the templates of `cosines`.
    """
    texts = fit_pairs(bare, truth)
    return replace(fit_labels(cosines, truth, labels), prompts=tuple(prompts), texts=(texts.scale, texts.bias))


@dataclass(frozen=True)
class Reliable:
    """The reliability of probabilities of held-out pairs.

    Attributes:
        error: the expected calibration error, 0 to 1.
        bins: the pairs by their probability.
    """

    error: float
    bins: list[Bin]

    @classmethod
    def of(cls, probabilities: Tensor, truth: Tensor) -> Reliable:
        """Compare probabilities with what is right, (...) each."""
        bins = reliability(probabilities, truth)
        return cls(calibration_error(bins), bins)


def cross_validated(
    cosines: Tensor, bare: Tensor, truth: Tensor, labels: Sequence[str], unit: Tensor
) -> tuple[Reliable, Reliable]:
    """Evaluate the probabilities of `fitted` on clips that they were not fitted to.

    Args:
        cosines: as for `fitted`, like `bare`, `truth` and `labels`.
        bare: see there.
        truth: see there.
        labels: see there.
        unit: (n,) int64, from 0; clips of one unit, such as parts of one recording, are in one fold.

    Returns:
        The reliability of labels, and that of texts, whose probabilities were fitted without the text's label, too.
    """
    own, texts = torch.empty(cosines.shape), torch.empty(cosines.shape)
    columns = torch.arange(len(labels)) % min(FOLDS, len(labels))
    for rows in _folds(unit):
        rule = fit_labels(cosines[~rows], truth[~rows], labels)
        own[rows] = rule.probabilities(cosines[rows], labels)  # type: ignore[assignment]
        for out in (columns == fold for fold in columns.unique()):
            fit = fit_pairs(bare[~rows][:, ~out], truth[~rows][:, ~out])
            place = rows[:, None] & out
            texts[place] = fit.probabilities(bare)[place]  # type: ignore[index]
    return Reliable.of(own, truth), Reliable.of(texts, truth)


def _folds(unit: Tensor) -> Iterator[Tensor]:
    """Yield for each fold its clips, (n,) bool; units are shuffled, always in the same way."""
    count = int(unit.max()) + 1
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    fold = order[unit] % min(FOLDS, count)
    yield from (fold == number for number in fold.unique())
