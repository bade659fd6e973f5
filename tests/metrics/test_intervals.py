"""Coverage of intervals by simulation, with fixed seeds: the share of 95 % intervals that hold the true value."""

import pytest
import torch
from scipy.stats import beta, t

from slap.metrics import bootstrap
from slap.metrics.bootstrap import mean_over_clips, mean_within_folds, percentile_interval
from slap.metrics.classification import classification_metrics
from slap.metrics.runs import half_width, mean_over_folds, mean_over_runs, t_quantile

TRIALS = 300


def covered(intervals, truth):
    return sum(low <= truth <= high for low, high in intervals) / len(intervals)


def test_quantiles_of_student_equal_scipys():
    assert [t_quantile(n) for n in range(1, 100)] == pytest.approx([t.ppf(0.975, n) for n in range(1, 100)], abs=2e-5)


@pytest.mark.parametrize(("runs", "old"), [(4, 0.79), (5, 0.82), (10, 0.90)])
def test_the_interval_over_runs_covers_what_it_says(runs, old):
    generator = torch.Generator().manual_seed(runs)
    draws = 0.5 + 0.05 * torch.randn(TRIALS, runs, generator=generator, dtype=torch.float64)
    found = [(metric.low / 100, metric.high / 100) for metric in (mean_over_runs(row, 0.0, 1) for row in draws)]
    assert 0.92 <= covered(found, 0.5) <= 0.98
    percentile = [percentile_interval(lambda drawn, row=row: row[drawn].mean(1), runs, samples=500) for row in draws]
    assert covered(percentile, 0.5) == pytest.approx(old, abs=0.06)  # as the folds of `slap crossval` had it


def test_the_interval_over_folds_allows_for_shared_training_clips():
    """Values of folds whose errors correlate by 1 / F, as Nadeau and Bengio take those of a cross-validation to do."""
    folds = 5
    generator = torch.Generator().manual_seed(0)
    shared, own = torch.randn(TRIALS, 1, generator=generator), torch.randn(TRIALS, folds, generator=generator)
    draws = 0.5 + 0.02 * ((1 / folds) ** 0.5 * shared + (1 - 1 / folds) ** 0.5 * own).double()
    found = [(metric.low / 100, metric.high / 100) for metric in (mean_over_folds(row, 0.0, 1) for row in draws)]
    assert 0.92 <= covered(found, 0.5) <= 0.98
    plain = [(float(row.mean()) - half_width(row), float(row.mean()) + half_width(row)) for row in draws]
    assert covered(plain, 0.5) < 0.9


def test_clips_of_one_origin_are_drawn_together(monkeypatch):
    """Ten clips of each of 20 recordings, right or wrong together: over clips the interval covered 42 %."""
    monkeypatch.setattr(bootstrap, "SAMPLES", 300)
    generator = torch.Generator().manual_seed(0)
    unit = torch.arange(20).repeat_interleave(10)
    alone, together = [], []
    for _ in range(TRIALS // 2):
        hits = (torch.rand(20, generator=generator) < 0.6)[unit]
        for units, found in ((torch.arange(200), alone), (unit, together)):
            metric = mean_over_clips(hits, units, 0.0)
            found.append((metric.low, metric.high))
    assert covered(together, 60) > 0.88
    assert covered(alone, 60) < 0.6
    origins = [f"freesound {number}" for number in unit.tolist()]
    found = classification_metrics(torch.eye(2)[hits.long()], torch.ones(200).long(), ["a", "b"], origins=origins)
    assert (found.metrics["accuracy"].low, found.metrics["accuracy"].high) == together[-1]
    assert found.metrics["accuracy"].over == "origins"


def test_one_model_over_folds_is_drawn_within_them(monkeypatch):
    """A bootstrap of five fold means covered 82 %; one model has nothing else to draw than clips."""
    monkeypatch.setattr(bootstrap, "SAMPLES", 300)
    generator = torch.Generator().manual_seed(0)
    fold = torch.arange(5).repeat_interleave(20)
    within, between = [], []
    for _ in range(TRIALS // 2):
        hits = torch.rand(100, generator=generator) < 0.6
        metric = mean_within_folds(hits, torch.arange(100), fold, 0.0)
        within.append((metric.low, metric.high))
        means = hits.view(5, 20).double().mean(1)
        low, high = percentile_interval(lambda drawn, means=means: means[drawn].mean(1), 5)
        between.append((100 * low, 100 * high))
    assert covered(within, 60) > 0.9
    assert covered(between, 60) < 0.9
    assert metric.over == "clips within folds"


@pytest.mark.parametrize("right", [0, 1])
def test_none_or_all_of_n_has_the_interval_of_clopper_and_pearson(right):
    """It was 0.0 to 0.0."""
    metric = mean_over_clips(torch.full((30,), float(right)), torch.arange(30), 1.0)
    exact = (0.0, beta.ppf(0.975, 1, 30)) if not right else (beta.ppf(0.025, 30, 1), 1.0)
    assert (metric.low, metric.high) == pytest.approx((100 * exact[0], 100 * exact[1]))
    folds = mean_within_folds(torch.full((30,), float(right)), torch.arange(30), torch.arange(30) % 3, 1.0)
    assert (folds.low, folds.high) == pytest.approx((metric.low, metric.high))
    few = mean_over_clips(torch.full((30,), float(right)), torch.arange(30) // 10, 1.0)
    assert few.high - few.low > metric.high - metric.low  # three recordings exclude less than thirty
