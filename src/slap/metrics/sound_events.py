"""Metrics of sound event detection: segment-based F1, and the area under the ROC curve of frames.

n clips, U units of clips, F frames of a clip, N frames of all clips, K classes, L segments of one second of a clip, B
bins, S bootstrap samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from slap.core.segments import Segment, merged
from slap.core.units import Seconds
from slap.metrics.average_precision import samples_of
from slap.metrics.bootstrap import MetricValue, kind_of, percentile_interval, times_drawn
from slap.metrics.finite import last_unless_finite

LENGTH: Seconds = 1.0
"""Duration of the segments of segment-based metrics, as in DCASE's challenges."""

DIGITS = 6
"""Decimal places of seconds to which times are compared, so that no rounding reaches into the next segment."""

BINS = 256
"""Scores are put into at most so many bins for the interval of an AUROC; its value is exact."""


@dataclass(frozen=True)
class Detections:
    """The decisions and scores of a model for a clip, beside what is heard in it.

    Attributes:
        scores: (F, K), the score of each class in each frame.
        edges: (F + 1,) float64, where frames begin and the last one ends, seconds of the clip.
        events: the decisions: when the model says that a class is heard.
        segments: when the classes are heard.
    """

    scores: Tensor
    edges: Tensor
    events: Sequence[Segment]
    segments: Sequence[Segment]

    @property
    def seconds(self) -> Seconds:
        """Duration of the clip."""
        return float(self.edges[-1])

    def truth(self, classes: Sequence[str]) -> Tensor:
        """Return the classes that are heard in the middle of each frame, (F, K) bool."""
        middle = (self.edges[1:] + self.edges[:-1]) / 2
        return active(self.segments, middle, middle, classes)


def active(events: Sequence[Segment], begins: Tensor, ends: Tensor, classes: Sequence[str]) -> Tensor:
    """Return the classes of which an event overlaps with each span of time, (L, K) bool; a span may be a moment.

    Example:
        >>> begins = torch.tensor([0.0, 1.0, 2.0])
        >>> active([Segment(0.5, 2.0, "dog")], begins, begins + 1, ["cat", "dog"]).int().tolist()
        [[0, 1], [0, 1], [0, 0]]
    """
    found = torch.zeros(len(begins), len(classes), dtype=torch.bool)
    place = {name: number for number, name in enumerate(classes)}
    for first, last, text in events:
        start, end = round(first, DIGITS), round(last, DIGITS)
        moment = (begins == ends) & (begins >= start) & (begins < end)
        found[:, place[text]] |= moment | ((begins < end) & (ends > start) & (begins < ends))
    return found


def segment_counts(clip: Detections, classes: Sequence[str], length: Seconds = LENGTH) -> Tensor:
    """Count the segments of a clip in which each class is found rightly, found wrongly, and missed, (3, K) int64."""
    begins = torch.arange(0, clip.seconds, length, dtype=torch.float64)
    ends = (begins + length).clamp(max=clip.seconds)
    said, heard = (active(events, begins, ends, classes) for events in (clip.events, clip.segments))
    return torch.stack([(said & heard).sum(0), (said & ~heard).sum(0), (~said & heard).sum(0)])


def f1_of(counts: Tensor) -> Tensor:
    """Compute F1 from numbers of right, wrong and missed, (..., 3, K) to (..., K); NaN for a class never heard."""
    right, wrong, missed = counts.double().unbind(-2)
    return (2 * right / (2 * right + wrong + missed)).masked_fill(right + missed == 0, torch.nan)


def segment_f1(clips: Sequence[Detections], classes: Sequence[str], unit: Tensor) -> tuple[MetricValue, Tensor]:
    """Compute the mean over classes of segment-based F1 in percent, and that of each class, (K,), 0 to 1.

    Chance is to find every class everywhere, which no random guess exceeds.

    Args:
        clips: n of them, in the order of their ids.
        classes: K of them, each heard in some clip.
        unit: (n,) int64, the unit of each clip, over which the interval is.
    """
    each = torch.stack([segment_counts(clip, classes) for clip in clips])
    counts = torch.zeros(int(unit.max()) + 1, 3, len(classes), dtype=torch.float64).index_add_(0, unit, each.double())

    def means(drawn: Tensor) -> Tensor:
        return f1_of((times_drawn(drawn, torch.float64) @ counts.flatten(1)).view(-1, *counts.shape[1:])).nanmean(1)

    total = counts.sum(0)
    value = f1_of(total)
    heard = total[0] + total[2]
    total_segments = sum(-(-clip.seconds // LENGTH) for clip in clips)
    chance = (2 * heard / (heard + total_segments)).mean().item()
    interval = percentile_interval(means, len(counts), width=counts[0].numel())
    return _metric(value.nanmean().item(), interval, 100 * chance, len(clips), unit), value


def auroc(scores: Tensor, truth: Tensor) -> float:
    """Compute the probability that a frame in which a class is heard has a higher score than one in which it is not.

    Equal scores count as one half.

    Args:
        scores: (N,).
        truth: (N,) bool.

    Returns:
        0 to 1; NaN if the class is heard everywhere or nowhere.

    Example:
        >>> auroc(torch.tensor([0.9, 0.1, 0.5, 0.5]), torch.tensor([True, False, True, False]))
        0.875
    """
    positive, negative = scores[truth], scores[~truth].sort().values
    if not len(positive) or not len(negative):
        return float("nan")
    below, upto = (torch.searchsorted(negative, positive, right=right).double() for right in (False, True))
    return ((below + upto) / 2).mean().item() / len(negative)


def frame_auroc(clips: Sequence[Detections], classes: Sequence[str], unit: Tensor) -> tuple[MetricValue | None, Tensor]:
    """Compute the mean over classes of the AUROC of frames in percent, and that of each class, (K,), 0 to 1.

    Args:
        clips: n of them, in the order of their ids.
        classes: K of them.
        unit: (n,) int64, the unit of each clip, over which the interval is.

    Returns:
        The metric, None if no class is heard in some frames and not in others, and (K,), NaN for such a class.
    """
    scores = last_unless_finite(torch.cat([clip.scores for clip in clips]))
    truth = torch.cat([clip.truth(classes) for clip in clips])
    value = torch.tensor([auroc(scores[:, k], truth[:, k]) for k in range(len(classes))], dtype=torch.float64)
    owner = unit.repeat_interleave(torch.tensor([len(clip.scores) for clip in clips]))
    units, known = int(unit.max()) + 1, (~value.isnan()).nonzero().flatten().tolist()
    codes = {k: _binned(scores[:, k]) for k in known}

    def means(drawn: Tensor) -> Tensor:
        times = times_drawn(drawn, torch.float64)
        found = [_binned_auroc(times, codes[k], truth[:, k], owner, units) for k in known]
        return torch.stack(found).nanmean(0)

    if not known:
        return None, value
    interval = percentile_interval(means, units, samples=samples_of(*scores.shape), width=BINS)
    return _metric(value.nanmean().item(), interval, 50.0, len(clips), unit), value


def _binned(scores: Tensor) -> Tensor:
    """Number scores by their order, (N,) int64: equal ones alike, and neighbors alike where there are too many."""
    levels, code = scores.unique(return_inverse=True)
    if len(levels) <= BINS:
        return code
    rank = scores.argsort().argsort()
    return rank * BINS // len(scores)


def _binned_auroc(times: Tensor, code: Tensor, truth: Tensor, owner: Tensor, units: int) -> Tensor:
    """Compute the AUROC of one class where each unit counts so many times, (S, U) to (S,)."""
    counts = torch.zeros(2, units * BINS, dtype=torch.float64)
    for row, chosen in enumerate((truth, ~truth)):
        counts[row] = torch.bincount(owner[chosen] * BINS + code[chosen], minlength=units * BINS).double()
    positive, negative = (times @ part.view(units, BINS) for part in counts)
    below = negative.cumsum(1) - negative / 2
    return (positive * below).sum(1) / (positive.sum(1) * negative.sum(1))


def merged_segments(segments: Sequence[Segment]) -> list[Segment]:
    """Return segments in the order of their onsets, those of one phrase that overlap as one."""
    return sorted(merged(segments))


def _metric(value: float, interval: tuple[float, float], chance: float, count: int, unit: Tensor) -> MetricValue:
    return MetricValue(100 * value, 100 * interval[0], 100 * interval[1], chance, count, over=kind_of(unit))
