"""Confidence intervals over training runs: with other seeds, on other machines, or on other folds.

F runs.
"""

from __future__ import annotations

from torch import Tensor

from slap.core.errors import UserError
from slap.metrics.bootstrap import MetricValue

T_QUANTILES = (
    *(12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157, 2.228139),
    *(2.200985, 2.178813, 2.160369, 2.144787, 2.131450, 2.119905, 2.109816, 2.100922, 2.093024, 2.085963),
)
"""97.5 % quantiles of Student's t with 1, 2, 3, ... degrees of freedom."""

NORMAL_QUANTILE = 1.959964


def t_quantile(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t; beyond the table by Cornish and Fisher's series, right to 1e-5.

    Example:
        >>> round(t_quantile(4), 3), round(t_quantile(60), 3)
        (2.776, 2.0)
    """
    if freedom <= len(T_QUANTILES):
        return T_QUANTILES[freedom - 1]
    z, n = NORMAL_QUANTILE, freedom
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return z + sum(term / n ** (i + 1) for i, term in enumerate(terms))


def half_width(values: Tensor, shared: float = 0.0) -> float:
    """Compute half the width of the 95 % interval of the mean of runs, by Student's t.

    Args:
        values: (F,) a value per run, or the difference of two models in each run.
        shared: clips that a run is tested on per clip that it is trained on, where the runs share training clips, as
            the folds of a cross-validation do: 1 / (F - 1) for F folds. The variance of such a mean is
            (1 / F + shared) s^2 (Nadeau and Bengio, Machine Learning 52, 2003). 0: the runs are independent.

    Raises:
        ValueError: there are fewer than two runs, which say nothing about others.
    """
    if len(values) < 2:
        raise UserError(f"an interval over runs takes two or more; got {len(values)}")
    variance = values.double().var() * (1 / len(values) + shared)
    return t_quantile(len(values) - 1) * variance.sqrt().item()


def mean_over_runs(
    values: Tensor, chance: float, count: int, shared: float = 0.0, best: float = 100.0, over: str = "runs"
) -> MetricValue:
    """Compute the mean over training runs, in percent, with its interval over runs.

    Args:
        values: (F,) values from 0 to 1, in the order of the runs' numbers.
        chance: the value that guessing reaches, in percent.
        count: clips of all runs.
        shared: see `half_width`.
        best: the best value that can be reached, in percent.
        over: the word for the runs, see `MetricValue`.

    Raises:
        ValueError: there are fewer than two runs.

    Example:
        >>> found = mean_over_runs(Tensor([0.28, 0.22, 0.25]), 0.3, 300)  # three seeds
        >>> round(found.value, 1), round(found.low, 1), round(found.high, 1)
        (25.0, 17.5, 32.5)
    """
    mean, half = values.double().mean().item(), half_width(values, shared)
    low, high = max(mean - half, 0.0), min(mean + half, 1.0)
    return MetricValue(100 * mean, 100 * low, 100 * high, chance, count, best, over)


def mean_over_folds(values: Tensor, chance: float, count: int, best: float = 100.0) -> MetricValue:
    """Compute the mean over the folds of a cross-validation, in percent, with Nadeau and Bengio's interval.

    Each fold is tested by a model that learned from the others, so that any two models share training clips: the plain
    t interval would be too narrow.

    Args:
        values: (F,) values from 0 to 1, in the order of the folds' numbers.
        chance: the value that guessing reaches, in percent.
        count: clips of all folds.
        best: the best value that can be reached, in percent.

    Raises:
        ValueError: there are fewer than two folds.
    """
    return mean_over_runs(values, chance, count, 1 / max(len(values) - 1, 1), best, "folds")
