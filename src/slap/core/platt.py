"""Platt scaling: from cosines and labeled clips to the probability of each label by itself.

n clips, K labels.

The model is sigmoid(scale x cosine + bias): logistic regression on the cosines of all pairs of a clip and a label
(Platt, 1999, with his smoothed targets, by which the scale is finite even if cosines separate right from wrong pairs).
With `by_label`, a label with enough clips has a bias of its own, drawn towards the common one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from slap.core.calibration import Calibration
from slap.core.errors import UserError

LEAST = 5
"""Right clips, and wrong ones, from which on a label has a bias of its own (our choice)."""

STEPS, CLOSE = 100, 1e-9
"""Newton steps at most, and the largest change after which the numbers are taken for found."""

SPREAD = 2.0
"""Standard deviation of the normal distribution of a label's bias around the common one (our choice)."""


def fit_pairs(cosines: Tensor, truth: Tensor) -> Calibration:
    """Fit one scale and one bias to all pairs, by maximum likelihood.

    Args:
        cosines: (n, K).
        truth: (n, K) bool, whether the label belongs to the clip.

    Raises:
        ValueError: all pairs are right or all are wrong, cosines are not finite, or right pairs have no larger ones.
    """
    scale, bias = _fitted(cosines, truth, torch.zeros(0, dtype=torch.int64))[0].tolist()
    return Calibration("sigmoid", scale, bias, fitted=True)


def fit_labels(cosines: Tensor, truth: Tensor, labels: Sequence[str]) -> Calibration:
    """Fit one scale, and a bias for each label; for arguments and errors see `fit_pairs`.

    The common bias is for labels with too few clips, and for other labels.
    """
    right = truth.sum(0)
    own = torch.nonzero((right >= LEAST) & (len(truth) - right >= LEAST)).flatten()
    (scale, bias), biases = _fitted(cosines, truth, own)
    named = {labels[column]: value for column, value in zip(own.tolist(), biases.tolist(), strict=True)}
    return Calibration("sigmoid", float(scale), float(bias), fitted=True, labels=named)


def _fitted(cosines: Tensor, truth: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Return scale and common bias, (2,), and the biases of the columns `own`, all float64."""
    values, right = _checked(cosines, truth)
    center, width = values.mean(), values.std().clamp(min=1e-6)
    scaled, targets = (values - center) / width, _smoothed(right)
    found = torch.zeros(2 + len(own), dtype=torch.float64)  # scale, common bias, and what is added to it
    found[:2] = torch.stack([torch.tensor(1.0).double(), torch.logit(targets.mean())])
    loss = _loss(found, scaled, targets, own)
    for _ in range(STEPS):
        step = _newton(found, scaled, targets, own)
        while (after := _loss(found - step, scaled, targets, own)) > loss and step.abs().max() > CLOSE:
            step = step / 2
        found, loss = found - step, after
        if step.abs().max() <= CLOSE:
            break
    scale = found[0] / width
    if not scale > 0:
        raise UserError(
            "no probability can be fitted: labels are no nearer to the clips that have them than to others; is "
            "this the right model, and are the labels right?"
        )
    bias = found[1] - scale * center
    return torch.stack([scale, bias]), bias + found[2:]


def _logits(found: Tensor, scaled: Tensor, own: Tensor) -> Tensor:
    return found[0] * scaled + found[1] + torch.zeros(scaled.shape[1]).double().index_add(0, own, found[2:])


def _loss(found: Tensor, scaled: Tensor, targets: Tensor, own: Tensor) -> float:
    pairs = binary_cross_entropy_with_logits(_logits(found, scaled, own), targets, reduction="sum")
    return float(pairs + (found[2:] / SPREAD).square().sum() / 2)


def _newton(found: Tensor, scaled: Tensor, targets: Tensor, own: Tensor) -> Tensor:
    """Return Newton's step, (2 + own,): the gradient of the loss by the inverse of its second derivatives."""
    chances = _logits(found, scaled, own).sigmoid()
    wrong, weight = chances - targets, chances * (1 - chances)
    gradient = torch.cat([(wrong * scaled).sum()[None], wrong.sum()[None], wrong.sum(0)[own] + found[2:] / SPREAD**2])
    second = torch.diag(torch.cat([torch.zeros(2).double(), weight.sum(0)[own] + SPREAD**-2]))
    mixed = (weight * scaled).sum()
    second[:2, :2] = torch.stack([(weight * scaled.square()).sum(), mixed, mixed, weight.sum()]).view(2, 2)
    second[:2, 2:] = torch.stack([(weight * scaled).sum(0)[own], weight.sum(0)[own]])
    second[2:, :2] = second[:2, 2:].T
    return torch.linalg.solve(second, gradient)


def _checked(cosines: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    if cosines.dim() != 2 or cosines.shape != truth.shape:
        raise UserError(f"cosines of clips and labels need as many truths; got {tuple(cosines.shape)}, {truth.shape}")
    bad = int((~cosines.isfinite()).any(1).sum())
    if bad:
        raise UserError(f"{bad} of {len(cosines)} clips have cosines that are not finite; no probability fits them")
    count = int(truth.sum())
    if count in (0, truth.numel()):
        raise UserError(
            f"{count} of {truth.numel()} pairs of a clip and a label are right; probabilities are fitted to both kinds"
        )
    return cosines.double(), truth.bool()


def _smoothed(right: Tensor) -> Tensor:
    """Return Platt's targets, (n, K): the means of a right and of a wrong pair after one more of the other kind."""
    many, few = int(right.sum()), int((~right).sum())
    return torch.where(right, (many + 1) / (many + 2), 1 / (few + 2)).double()
