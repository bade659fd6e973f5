"""Segments, or strong labels: phrases with the time in a clip in which each of them is heard.

In manifests and in the custom field `segments` of a cut, a segment is `{"start": s, "end": s, "text": phrase}`, in
seconds from the begin of the clip. A clip without the field was not annotated; a clip with an empty list was, and none
of the phrases is heard in it. Segments may overlap, also those of one phrase.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from math import isfinite
from numbers import Real
from typing import Any, NamedTuple

from slap.core.units import Seconds

Rows = Sequence[Mapping[str, Any]]
"""Segments as plain data."""

FORM = '{"start": seconds, "end": seconds, "text": phrase}'

SHORTEST: Seconds = 1e-6
"""What remains of a segment after a crop is dropped below this duration: it would be rounding alone."""

LATE: Seconds = 0.5
"""Time by which a segment may end after its clip, since annotations are rounded; it is cut there."""

DIGITS = 9
"""Decimal places of times that were computed, so that sums do not show their rounding."""


class Segment(NamedTuple):
    """A phrase and when it is heard.

    Attributes:
        start: its onset, seconds from the begin of the clip.
        end: its offset.
        text: the phrase.
    """

    start: Seconds
    end: Seconds
    text: str


def fault_of(value: Any) -> str:
    """Return what is wrong with a value that should be a list of segments; "" if nothing is.

    Example:
        >>> fault_of([{"start": 2.0, "end": 1.0, "text": "rain"}])
        'segment 1: it must end after its start, both finite and from 0 s on; got 2.0 to 1.0 s'
    """
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        return f"it must be a list of {FORM}, got {repr(value)[:80]}"
    for number, segment in enumerate(value, start=1):
        fault = _fault_of_one(segment)
        if fault:
            return f"segment {number}: {fault}"
    return ""


def _fault_of_one(segment: Any) -> str:
    if not isinstance(segment, Mapping) or set(segment) != {"start", "end", "text"}:
        return f"it must be {FORM}, got {repr(segment)[:80]}"
    start, end, text = segment["start"], segment["end"], segment["text"]
    if not isinstance(text, str) or not text.strip():
        return f"its `text` must be a phrase, got {text!r}"
    if not all(isinstance(time, Real) and not isinstance(time, bool) for time in (start, end)):
        return f"its times must be numbers of seconds, got {start!r} and {end!r}"
    if not (0 <= start < end and isfinite(end)):
        return f"it must end after its start, both finite and from 0 s on; got {start} to {end} s"
    return ""


def outside(segments: Rows, duration: Seconds) -> str:
    """Return a message about the first segment that lies outside of its clip; "" if none does.

    Args:
        segments: segments that have the right form.
        duration: duration of the clip.

    Example:
        >>> outside([{"start": 6.0, "end": 7.0, "text": "rain"}], 5.0)[:65]
        "the segment 'rain' from 6.0 to 7.0 s lies outside of the clip, wh"
    """
    for one in segments:
        if one["start"] >= duration or one["end"] > duration + LATE:
            return (
                f"the segment {one['text']!r} from {one['start']} to {one['end']} s lies outside of the clip, which "
                f"lasts {duration:.3f} s; times of `segments` are seconds from the begin of the clip, not of the file"
            )
    return ""


def plain(segments: Rows) -> list[dict[str, Any]]:
    """Return segments as they are written: floating-point times, phrases without spaces around them."""
    return [{"start": float(one["start"]), "end": float(one["end"]), "text": one["text"].strip()} for one in segments]


def cropped(segments: Rows, start: Seconds, duration: Seconds) -> list[dict[str, Any]]:
    """Return the segments of a part of a clip, in seconds from the begin of the part.

    Example:
        >>> cropped([{"start": 1.0, "end": 3.0, "text": "rain"}, {"start": 0.0, "end": 1.5, "text": "dog"}], 2.0, 0.5)
        [{'start': 0.0, 'end': 0.5, 'text': 'rain'}]
    """
    found = []
    for one in segments:
        first, last = max(one["start"] - start, 0.0), min(one["end"] - start, duration)
        if last - first > SHORTEST:
            found.append({**one, "start": round(first, DIGITS), "end": round(last, DIGITS)})
    return found


def shifted(segments: Rows, by: Seconds) -> list[dict[str, Any]]:
    """Return segments that begin later by some seconds."""
    return scaled(segments, 1.0, by)


def scaled(segments: Rows, speed: float, by: Seconds = 0.0) -> list[dict[str, Any]]:
    """Return the segments of a clip that is played faster by a factor, and then begins later by some seconds.

    Example:
        >>> scaled([{"start": 1.0, "end": 3.0, "text": "rain"}], 2.0)
        [{'start': 0.5, 'end': 1.5, 'text': 'rain'}]
    """

    def time(seconds: Seconds) -> Seconds:
        return round(seconds / speed + by, DIGITS)

    return [{**one, "start": time(one["start"]), "end": time(one["end"])} for one in segments]


def merged(segments: Iterable[Segment]) -> list[Segment]:
    """Return segments of which no two of one phrase overlap or touch, by phrase and then by time.

    Example:
        >>> merged([Segment(2.0, 3.0, "dog"), Segment(0.0, 1.0, "dog"), Segment(0.5, 2.0, "dog")])
        [Segment(start=0.0, end=3.0, text='dog')]
    """
    found: list[Segment] = []
    ordered = sorted(segments, key=lambda one: (one.text, one.start))
    for text, own in groupby(ordered, key=lambda one: one.text):
        spans: list[Segment] = []
        for one in own:
            if spans and one.start <= spans[-1].end:
                spans[-1] = Segment(spans[-1].start, max(spans[-1].end, one.end), text)
            else:
                spans.append(one)
        found += spans
    return found


def phrases_of(clips: Iterable[Iterable[Segment] | None]) -> list[str]:
    """Return the different phrases of clips, in the order in which they first come."""
    return list(dict.fromkeys(one.text for segments in clips for one in segments or ()))
