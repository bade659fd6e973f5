"""Protocol of probes: the setting is selected on validation or on inner folds, never on the test.

n clips, E features, K classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from slap.core.errors import UserError
from slap.evaluation.probes.knn import neighbor_scores
from slap.evaluation.probes.logistic import Logistic, fit_logistic
from slap.metrics.average_precision import average_precision
from slap.metrics.finite import best_class, finite_rows

INNER_FOLDS = 5
"""Folds of the training clips where there are neither validation clips nor folds (our choice)."""


class Probe(ABC):
    """Classifies clips by frozen features.

    Attributes:
        settings: the settings to select from; of equally good ones the first wins.
    """

    settings: tuple[Any, ...]

    @abstractmethod
    def scores(
        self, features: Tensor, truth: Tensor, queries: Tensor, settings: Sequence[Any], multilabel: bool
    ) -> Mapping[Any, Tensor]:
        """Learn from clips, (n, E) and (n, K) bool, with each setting, and score queries: by setting (m, K)."""


@dataclass(frozen=True)
class LinearProbing(Probe):
    """Logistic regression; the setting is the inverse strength of its regularization, C.

    Features are scaled by sqrt(E): the components of embeddings of length 1 then have a variance of about 1, so that
    the strengths to choose from suit any E.
    """

    settings: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0, 10.0)

    def scores(
        self, features: Tensor, truth: Tensor, queries: Tensor, settings: Sequence[float], multilabel: bool
    ) -> dict[float, Tensor]:
        """Fit once for each strength, from the weakest on, each from the one before."""
        scale = features.shape[1] ** 0.5
        found: dict[float, Tensor] = {}
        fit: Logistic | None = None
        for strength in sorted(settings):
            fit = fit_logistic(features * scale, truth, strength, multilabel, fit)
            found[strength] = fit.scores(queries * scale)
        return found


@dataclass(frozen=True)
class NeighborProbing(Probe):
    """k-nearest neighbors by cosine; the setting is k."""

    settings: tuple[int, ...] = (1, 3, 5, 10, 20, 50, 200)

    def scores(
        self, features: Tensor, truth: Tensor, queries: Tensor, settings: Sequence[int], multilabel: bool
    ) -> dict[int, Tensor]:
        """Score by all settings from one search."""
        del multilabel
        return neighbor_scores(features, truth, queries, settings)


@dataclass(frozen=True)
class ProbeResult:
    """Scores of a probe for the test clips.

    Attributes:
        rows: (m,) int64, their numbers among all clips, ascending.
        scores: (m, K).
        chosen: the selected setting, or the settings by fold.
        chosen_on: the clips that selected it, in words.
    """

    rows: Tensor
    scores: Tensor
    chosen: Any
    chosen_on: str
    quality: Mapping[Any, float] = field(default_factory=dict)


def quality(scores: Tensor, truth: Tensor, multilabel: bool) -> float:
    """Compute the metric that selects a setting: accuracy, or macro mAP, 0 to 1."""
    if multilabel:
        return average_precision(scores, truth).nanmean().nan_to_num(0.0).item()
    return (best_class(scores) == truth.int().argmax(1)).double().mean().item()


def probe_parts(
    probe: Probe, features: Tensor, truth: Tensor, parts: Sequence[str], multilabel: bool = False
) -> ProbeResult:
    """Learn from the clips of part "train", choose on "val" if there are any, else on folds of "train", score "test".

    Args:
        probe: the probe.
        features: (n, E).
        truth: (n, K) bool.
        parts: of each clip.
        multilabel: whether a clip may have several classes.

    Raises:
        ValueError: there are no clips to learn from, or none to test on.
    """
    train, val, test = (_rows(parts, name) for name in ("train", "val", "test"))
    if not len(train) or not len(test):
        raise UserError(f"a probe learns from train and is tested on test; got {len(train)} and {len(test)} clips")
    if not len(val):
        groups = stratified(truth[train], INNER_FOLDS)
        chosen = choose(probe, features[train], truth[train], groups, multilabel)
        scores = learned(probe, features[train], truth[train], features[test], [chosen], multilabel)[chosen]
        return ProbeResult(test, scores, chosen, f"{INNER_FOLDS} folds of the training clips")
    asked = torch.cat([val, test])
    found = learned(probe, features[train], truth[train], features[asked], probe.settings, multilabel)
    best = {key: quality(value[: len(val)], truth[val], multilabel) for key, value in found.items()}
    chosen = max(probe.settings, key=lambda setting: best[setting])
    return ProbeResult(test, found[chosen][len(val) :], chosen, "validation", best)


def probe_folds(
    probe: Probe, features: Tensor, truth: Tensor, folds: Sequence[int], multilabel: bool = False
) -> ProbeResult:
    """Score the clips of each fold by what is learned from all others, the setting chosen within these, fold by fold.

    Args:
        probe: the probe.
        features: (n, E).
        truth: (n, K) bool.
        folds: of each clip.
        multilabel: whether a clip may have several classes.

    Raises:
        ValueError: there are fewer than two folds.
    """
    fold = torch.tensor(list(folds))
    numbers = fold.unique().tolist()
    if len(numbers) < 2:
        raise UserError(f"cross-validation takes two folds or more; the clips are all of {numbers}")
    scores, chosen = torch.zeros(truth.shape, dtype=torch.float64), {}
    for number in numbers:
        inside = fold != number
        groups = fold[inside] if len(numbers) > 2 else stratified(truth[inside], INNER_FOLDS)
        setting = choose(probe, features[inside], truth[inside], groups, multilabel)
        found = learned(probe, features[inside], truth[inside], features[~inside], [setting], multilabel)
        scores[~inside] = found[setting].to(scores)
        chosen[number] = setting
    return ProbeResult(torch.arange(len(truth)), scores, chosen, "the other folds, each in turn")


def choose(probe: Probe, features: Tensor, truth: Tensor, groups: Tensor, multilabel: bool) -> Any:
    """Select the setting that is best in the mean over groups of clips, each scored by what the others teach.

    Args:
        probe: the probe.
        features: (n, E).
        truth: (n, K) bool.
        groups: (n,) int64.
        multilabel: whether a clip may have several classes.
    """
    if len(probe.settings) == 1:
        return probe.settings[0]
    total = dict.fromkeys(probe.settings, 0.0)
    for inside in _leaving_out(groups):
        found = learned(probe, features[inside], truth[inside], features[~inside], probe.settings, multilabel)
        for setting, scores in found.items():
            total[setting] += quality(scores, truth[~inside], multilabel)
    return max(probe.settings, key=lambda setting: total[setting])


def learned(
    probe: Probe, features: Tensor, truth: Tensor, queries: Tensor, settings: Sequence[Any], multilabel: bool
) -> dict[Any, Tensor]:
    """Score queries as the probe does: without clips to learn from that are not finite, and with NaN for such queries.

    Raises:
        ValueError: no clip to learn from is finite.
    """
    sound, known = finite_rows(features), finite_rows(queries)
    if not bool(sound.any()):
        raise UserError(f"none of the {len(features)} clips to learn from has finite features")
    found = probe.scores(features[sound], truth[sound], queries[known], settings, multilabel)
    return {setting: _spread(scores, known) for setting, scores in found.items()}


def _spread(scores: Tensor, known: Tensor) -> Tensor:
    """Return scores of the known queries, and NaN for the others: (k, K) and (m,) bool -> (m, K)."""
    whole = scores.new_full((len(known), scores.shape[1]), torch.nan)
    whole[known] = scores
    return whole


def stratified(truth: Tensor, count: int) -> Tensor:
    """Deal clips into groups, (n,) int64 from 0, with the clips of each class dealt out in turn; no randomness.

    Example:
        >>> stratified(torch.tensor([[1, 0], [1, 0], [0, 1], [1, 0], [0, 1]]).bool(), 2).tolist()
        [0, 1, 1, 0, 0]
    """
    first = truth.int().argmax(1)  # of several classes the first
    order = first.argsort(stable=True)
    groups = torch.empty(len(truth), dtype=torch.int64)
    groups[order] = torch.arange(len(truth)) % count
    return groups


def _leaving_out(groups: Tensor) -> Iterator[Tensor]:
    for group in groups.unique().tolist():
        inside = groups != group
        if inside.any():
            yield inside


def _rows(parts: Sequence[str], name: str) -> Tensor:
    return torch.tensor([row for row, part in enumerate(parts) if part == name], dtype=torch.int64)
