"""Output of a model that is not a finite number: it ranks last, and the clips or texts concerned are named.

n rows.

`x >= nan` is False and `argmax` takes NaN for the largest, so a model of NaN would look perfect wherever scores are
compared. Every comparison of a model's output goes through `last_unless_finite`.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

NAMED = 10
"""Names that a line lists; it counts all of them."""


def last_unless_finite(scores: Tensor) -> Tensor:
    """Replace NaN and infinities by minus infinity, so that they rank last; the tensor itself where all are finite.

    Example:
        >>> last_unless_finite(torch.tensor([1.0, float("nan"), float("inf")]))
        tensor([1., -inf, -inf])
    """
    finite = scores.isfinite()
    return scores if bool(finite.all()) else scores.masked_fill(~finite, -torch.inf)


def finite_rows(values: Tensor) -> Tensor:
    """Return the rows whose numbers are all finite, (n,) bool, of (n, ...).

    Example:
        >>> finite_rows(torch.tensor([[1.0, 2.0], [float("nan"), 0.0]])).tolist()
        [True, False]
    """
    return values.isfinite().flatten(1).all(1)


def sound_rows(embeddings: Tensor) -> Tensor:
    """Return the rows that are embeddings, (n,) bool, of (n, E): finite, and with a direction.

    Kernels of attention turn NaN into zeros, so that a row of zeros, which `normalize` leaves, is no embedding either.

    Example:
        >>> sound_rows(torch.tensor([[0.6, 0.8], [float("nan"), 0.0], [0.0, 0.0]])).tolist()
        [True, False, False]
    """
    return finite_rows(embeddings) & (embeddings != 0).any(1)


def cosines(queries: Tensor, items: Tensor) -> Tensor:
    """Compute the cosines of embeddings, (n, E) and (m, E), as (n, m); NaN where one of the two is no embedding."""
    lost = ~(sound_rows(queries)[:, None] & sound_rows(items))
    return (queries @ items.T).masked_fill(lost, torch.nan)


def best_class(scores: Tensor) -> Tensor:
    """Return the class of the highest score of each row, (n, K) to (n,) int64; -1 where no score is finite.

    Example:
        >>> best_class(torch.tensor([[1.0, float("nan")], [float("nan"), float("nan")]])).tolist()
        [0, -1]
    """
    best, place = last_unless_finite(scores).max(1)
    return torch.where(best.isfinite(), place, -1)


def not_finite_line(names: Iterable[str], what: str = "clips", effect: str = "rank last") -> str:
    """Write a line that counts and names what a model gave no finite numbers for, and the effect on metrics.

    Example:
        >>> not_finite_line(["b", "a"])
        'the model gave no finite, nonzero output for 2 clips, which rank last: a, b'
    """
    found = sorted(names)
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    listed = ", ".join(found[:NAMED])
    return f"the model gave no finite, nonzero output for {len(found)} {what}, which {effect}: {listed}{more}"
