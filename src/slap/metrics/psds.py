"""Polyphonic sound detection score (PSDS, arXiv 1910.08440), exact over all thresholds, by `sed_scores_eval`.

`sed_scores_eval` (MIT, 0.0.4 of May 2024) evaluates all thresholds at once, and from its statistics per clip the
interval follows without evaluating clips again. The alternative, `psds_eval` (MIT, 0.5.3 of October 2022), approximates
the curve by some fifty thresholds, and calls what pandas 3 has removed. The extra `sed` installs `sed_scores_eval`; it
is compiled on installation, which needs a C++ compiler. Its Cython functions want arrays that may be written to, which
those of pandas 3 may not, see `_writable`.

n clips, U units of clips, F frames, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from slap.core.errors import MissingDependencyError
from slap.metrics.bootstrap import MetricValue, kind_of, percentile_interval
from slap.metrics.finite import last_unless_finite
from slap.metrics.sound_events import Detections

SCENARIOS: Mapping[str, Mapping[str, float]] = {
    "PSDS1": {"dtc_threshold": 0.7, "gtc_threshold": 0.7, "alpha_st": 1.0},
    "PSDS2": {"dtc_threshold": 0.1, "gtc_threshold": 0.1, "cttc_threshold": 0.3, "alpha_ct": 0.5, "alpha_st": 1.0},
}
"""DCASE's two settings: the first wants exact times, the second punishes confusion of classes."""

MAX_FALSE = 100.0
"""False positives per hour up to which the curve counts, as in DCASE."""

SAMPLES = 200
"""Bootstrap samples: each takes milliseconds per hundred clips."""

DELTAS = ("dtc_threshold", "gtc_threshold", "cttc_threshold")


def psds(
    clips: Mapping[str, Detections], classes: Sequence[str], unit: Tensor, samples: int = SAMPLES
) -> dict[str, MetricValue]:
    """Compute the scores of `SCENARIOS` in percent, with their intervals over units.

    Chance is what the scores of other clips reach: those of the clip that is half of the set away.

    Args:
        clips: n of them by id, in the order of their ids.
        classes: K of them, each heard in some clip.
        unit: (n,) int64, the unit of each clip.
        samples: bootstrap samples.

    Raises:
        MissingDependencyError: `sed_scores_eval` is not installed.
    """
    library = _library()
    names = list(clips)
    truth = {name: [tuple(one) for one in clip.segments] for name, clip in clips.items()}
    seconds = {name: clip.seconds for name, clip in clips.items()}
    tables = {name: _table(clip.scores, clip.edges, classes) for name, clip in clips.items()}
    swapped = _swapped(clips, classes)
    members = [[names[i] for i in (unit == u).nonzero().flatten().tolist()] for u in range(int(unit.max()) + 1)]
    found = {}
    for scenario, options in SCENARIOS.items():
        known = _Known(library, _deltas(library, tables, truth, options), truth, seconds, options)
        guessed = _Known(library, _deltas(library, swapped, truth, options), truth, seconds, options)
        value, chance = known.score(names), guessed.score(names)
        low, high = percentile_interval(partial(_drawn, known, members), len(members), samples=samples)
        found[scenario] = MetricValue(100 * value, 100 * low, 100 * high, 100 * chance, len(names), over=kind_of(unit))
    return found


def _drawn(known: _Known, members: Sequence[Sequence[str]], drawn: Tensor) -> Tensor:
    """Compute the score of each bootstrap sample, (s, U) to (s,)."""
    samples = [[name for unit in sample for name in members[unit]] for sample in drawn.tolist()]
    return torch.tensor([known.score(names) for names in samples], dtype=torch.float64)


@dataclass
class _Known:
    """Changes that each clip makes to the counts of one scenario, with the truth and the duration of each, by clip."""

    library: ModuleType
    deltas: Mapping[str, Mapping[str, tuple[Any, Mapping[str, Any]]]]
    truth: Mapping[str, Sequence[tuple[Any, ...]]]
    seconds: Mapping[str, float]
    options: Mapping[str, float]

    def score(self, names: Sequence[str]) -> float:
        """Compute the score of some clips, any of them several times, over the classes that are heard in them.

        NaN if nothing is heard in them.
        """
        heard = {text for name in names for _, _, text in self.truth[name]}
        if not heard:
            return float("nan")
        copies = {f"{number} {name}": name for number, name in enumerate(names)}
        deltas = {
            copy: {text: (at, _of_classes(changes, heard)) for text, (at, changes) in own.items() if text in heard}
            for copy, own in ((copy, self.deltas[name]) for copy, name in copies.items())
        }
        truth = {copy: self.truth[name] for copy, name in copies.items()}
        seconds = {copy: self.seconds[name] for copy, name in copies.items()}
        options = dict(self.options)
        if len(heard) == 1:  # a single class is confused with none
            options = {name: value for name, value in options.items() if name not in ("alpha_ct", "cttc_threshold")}
        with _quiet():
            value, *_ = self.library.intersection_based.psds(
                None, truth, seconds, deltas=deltas, max_efpr=MAX_FALSE, unit_of_time="hour", **options
            )
        return float(value)


def _swapped(clips: Mapping[str, Detections], classes: Sequence[str]) -> dict[str, Any]:
    """Return for each clip the scores of the clip that is half of the set away."""
    names, half = list(clips), len(clips) // 2
    others = dict(zip(names, names[half:] + names[:half], strict=True))
    return {
        name: _table(_resampled(clips[others[name]].scores, len(clip.scores)), clip.edges, classes)
        for name, clip in clips.items()
    }


def _library() -> ModuleType:
    try:
        with _quiet():
            import sed_scores_eval
    except ImportError as error:
        raise MissingDependencyError(f"PSDS needs sed_scores_eval: pip install 'slap-audio[sed]' ({error})") from error
    return sed_scores_eval


def _of_classes(changes: Mapping[str, Any], heard: set[str]) -> dict[str, Any]:
    return {
        name: {text: value for text, value in change.items() if text in heard} if isinstance(change, dict) else change
        for name, change in changes.items()
    }


def _deltas(library: ModuleType, tables: Any, truth: Any, options: Mapping[str, float]) -> Any:
    """Compute what each clip adds to the counts at each threshold."""
    wanted = {name: options[name] for name in DELTAS if name in options}
    with _quiet():
        return library.intersection_based.intermediate_statistics_deltas(tables, truth, **wanted)


def _table(scores: Tensor, edges: Tensor, classes: Sequence[str]) -> Any:
    columns = torch.cat([edges[:-1, None], edges[1:, None], last_unless_finite(scores).double()], 1)
    return _writable()(columns.numpy(), columns=["onset", "offset", *classes])


@cache
def _writable() -> type[Any]:
    """Return the class of tables whose arrays may be written to."""
    import pandas  # sed_scores_eval brings it

    class Table(pandas.DataFrame):
        """A table whose arrays are copies."""

        @property
        def _constructor(self) -> Any:
            return Table

        def to_numpy(self, *arguments: Any, **options: Any) -> Any:
            return super().to_numpy(*arguments, **{**options, "copy": True})

    return Table


def _resampled(scores: Tensor, frames: int) -> Tensor:
    """Return scores with another number of frames, each that of the nearest place."""
    return scores[torch.arange(frames) * len(scores) // frames]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings of a library that was written for older versions of numpy and pandas."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
