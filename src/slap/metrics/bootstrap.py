"""Bootstrap confidence intervals of one model over the clips that it is evaluated on.

n clips, C queries, U units, F folds, S bootstrap samples.

What is drawn is a unit: all clips of one origin (a recording, a video, a speaker), or a clip that shares it with none.
Units are drawn by number, and their numbers follow the order of the clips' ids. So the same clips have the same
interval whatever the order they came in, whatever their number of processes, and whichever command computes the metric.

Such an interval says what other clips of the same kind would change. It says nothing about another seed, machine or
training run; `slap.metrics.runs` has the interval over these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from slap.core.errors import UserError

SAMPLES = 2000
"""S, bootstrap samples per interval."""

DRAWS_IN_MEMORY = 1_000_000
"""Drawn clips, over all bootstrap samples, that are held in memory at a time: 8 MB."""

QUANTILES = torch.tensor([0.025, 0.975], dtype=torch.float64)


@dataclass(frozen=True)
class MetricValue:
    """One metric over a set of clips, in percent unless it is a rank.

    Attributes:
        value: the metric, 0 to 100.
        low: lower end of its 95 % confidence interval.
        high: upper end of its 95 % confidence interval.
        chance: the value that guessing reaches.
        count: queries or clips behind the value.
        best: the best value that any model can reach on these clips; None where it is not known.
        over: the kind of thing that the interval is over: `clips`, `origins` (each with all its clips), either of them
            `within folds`, `folds`, each with a training run of its own, or `runs`.
    """

    value: float
    low: float
    high: float
    chance: float
    count: int
    best: float | None = 100.0
    over: str = "clips"


def order_of(ids: Sequence[str]) -> Tensor:
    """Return the rows of clips in the order of their ids, (n,) int64.

    Example:
        >>> order_of(["b", "c", "a"]).tolist()
        [2, 0, 1]
    """
    return torch.tensor(sorted(range(len(ids)), key=lambda row: (ids[row], row)), dtype=torch.int64)


def units_of(origins: Sequence[str] | None, order: Tensor) -> Tensor:
    """Number the units of clips in an order, (n,) int64, from 0 as they first come.

    Args:
        origins: what each of the n clips was cut from, "" for one that shares it with no other; None for all such.
        order: (n,) int64, from `order_of`.

    Example:
        >>> units_of(["b", "", "b", ""], torch.tensor([1, 0, 2, 3])).tolist()
        [0, 1, 1, 2]
    """
    if origins is None:
        return torch.arange(len(order))
    known: dict[str | int, int] = {}
    return torch.tensor([known.setdefault(origins[row] or row, len(known)) for row in order.tolist()])


def kind_of(unit: Tensor) -> str:
    """Return the word for the units of clips, (n,): `clips` where each is one of its own, else `origins`."""
    return "clips" if len(unit.unique()) == len(unit) else "origins"


def percentile_interval(
    statistic: Callable[[Tensor], Tensor], units: int, seed: int = 0, samples: int | None = None, width: int = 1
) -> tuple[float, float]:
    """Compute the 95 % percentile bootstrap interval of a statistic of units.

    Args:
        statistic: takes the drawn units, (s, U) int64, for some of the samples, and returns the statistic of each
            sample, (s,). Samples in which it is NaN are left out.
        units: U; they are numbered in the order of the clips' ids, see `order_of`.
        seed: seed of the bootstrap.
        samples: S. Default: `SAMPLES`.
        width: numbers that the statistic holds per sample, where they are more than U.
    """
    return middle(resampled(statistic, units, seed, samples, width))


def resampled(
    statistic: Callable[[Tensor], Tensor], units: int, seed: int, samples: int | None = None, width: int = 1
) -> Tensor:
    """Compute a statistic of each bootstrap sample of units, (S,) float64; for the arguments see `percentile_interval`.

    The samples depend on U, S and the seed alone, so the values of two models, or of one under two conditions, are
    paired.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for part in torch.arange(samples or SAMPLES).split(max(1, DRAWS_IN_MEMORY // max(units, width))):
        found.append(statistic(torch.randint(units, (len(part), units), generator=generator)))
    return torch.cat(found).double()


def middle(samples: Tensor) -> tuple[float, float]:
    """Return the ends of the 95 % interval of bootstrap samples, (S,); those that are NaN are left out."""
    low, high = samples.nanquantile(QUANTILES).tolist()
    return low, high


def times_drawn(drawn: Tensor, dtype: torch.dtype = torch.int64) -> Tensor:
    """Count the times that each unit is in each sample: (s, U) int64 to (s, U)."""
    ones = torch.ones_like(drawn, dtype=dtype)
    return torch.zeros_like(ones).scatter_add_(1, drawn, ones)


def mean_over_clips(
    values: Tensor, unit: Tensor, chance: float, seed: int = 0, best: float = 1.0, over: str = "clips"
) -> MetricValue:
    """Compute the mean over queries, in percent, with its interval over units.

    Units are drawn with all their queries: five captions of one clip are not five independent observations, and
    neither are ten clips of one recording.

    Args:
        values: (C,) hits as bool, or numbers from 0 to 1, one per query.
        unit: (C,) int64, the unit of each query, counted from 0 without gaps, in the order of the clips' ids.
        chance: the value that guessing reaches, in percent.
        seed: seed of the bootstrap.
        best: the best value that can be reached, 0 to 1.
        over: the word for the units, see `MetricValue`.

    Raises:
        ValueError: there are no queries.
    """
    value, samples, units = sampled_mean(values, unit, None, seed)
    low, high = _never_of_no_width(value, *middle(samples), units)
    return MetricValue(100 * value, 100 * low, 100 * high, chance, len(values), 100 * best, over)


def mean_within_folds(values: Tensor, unit: Tensor, fold: Tensor, chance: float, seed: int = 0) -> MetricValue:
    """Compute the mean over folds of one model's means, in percent, with its interval over units within the folds.

    The model is the same in all folds, so they differ by their clips alone: units are drawn within each fold.

    Args:
        values: (n,) hits as bool, or numbers from 0 to 1, one per clip.
        unit: (n,) int64, the unit of each clip, numbered in the order of the clips' ids.
        fold: (n,) int64, the number of each clip's fold.
        chance: the value that guessing reaches, in percent.
        seed: seed of the bootstrap.

    Raises:
        ValueError: there are no clips.
    """
    value, samples, units = sampled_mean(values, unit, fold, seed)
    low, high = _never_of_no_width(value, *middle(samples), units)
    return MetricValue(100 * value, 100 * low, 100 * high, chance, len(values), over=f"{kind_of(unit)} within folds")


def sampled_mean(values: Tensor, unit: Tensor, fold: Tensor | None = None, seed: int = 0) -> tuple[float, Tensor, int]:
    """Compute a mean over queries, or over the means of folds, and the same of each bootstrap sample of units.

    Args:
        values: (C,) numbers, one per query.
        unit: (C,) int64, the unit of each query, numbered in the order of the clips' ids.
        fold: (C,) int64, the number of each query's fold; units are drawn within folds. None: there are no folds.
        seed: seed of the bootstrap.

    Returns:
        The mean, (S,) float64, and the number of units, those of each fold counted apart.

    Raises:
        ValueError: there are no queries.
    """
    if not len(values):
        raise UserError("no queries to average over")
    numbers = torch.zeros(1) if fold is None else fold.unique()
    means, samples, units = [], torch.zeros(SAMPLES, dtype=torch.float64), 0
    for place, number in enumerate(numbers):
        own, kin = (values, unit) if fold is None else (values[fold == number], unit[fold == number])
        kin = kin if fold is None else kin.unique(return_inverse=True)[1]
        means.append(own.double().mean())
        samples += _means(own, kin, seed + place) / len(numbers)
        units += int(kin.max()) + 1
    return torch.stack(means).mean().item(), samples, units


def _means(values: Tensor, unit: Tensor, seed: int) -> Tensor:
    """Return the means over the queries of drawn units, (S,)."""
    units = int(unit.max()) + 1
    sums = torch.zeros(units, dtype=torch.float64).index_add_(0, unit, values.double())
    counts = torch.zeros(units, dtype=torch.float64).index_add_(0, unit, torch.ones(len(values), dtype=torch.float64))
    return resampled(lambda drawn: sums[drawn].sum(1) / counts[drawn].sum(1), units, seed)


def _never_of_no_width(value: float, low: float, high: float, units: int) -> tuple[float, float]:
    """Return an interval; where all values are 0, or all 1, no draw differs, and Clopper and Pearson's is returned."""
    unseen = unseen_share(units)
    if value == low == high == 0:
        return 0.0, unseen
    if value == low == high == 1:
        return 1 - unseen, 1.0
    return low, high


def unseen_share(units: int) -> float:
    """Return the share of hits that n units without a hit do not exclude (Clopper and Pearson): 1 - 0.025^(1/n)."""
    return 1 - 0.025 ** (1 / units)
