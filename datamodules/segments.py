"""Segments of cuts: kept right when a cut is cropped, played faster or becomes a part of a mix.

A cut holds them in its custom field `segments`, a mix in that of its first track, see `slap.core.segments`. Lhotse's
own operations leave custom fields as they are, so whatever changes times in this package does it by these functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lhotse import CutSet
from lhotse.cut import Cut, MixedCut
from lhotse.utils import fastcopy

from slap.core.errors import UserError
from slap.core.segments import Rows, Segment, cropped, scaled, shifted
from slap.core.units import Seconds
from slap.datamodules.manifests.safe_cuts import tracks_of

FIELD = "segments"

ROUNDING: Seconds = 1e-3
"""Difference of durations that is no change."""


def segments_of(cut: Cut) -> Rows | None:
    """Return the segments of a cut; None if it was not annotated."""
    first = next(tracks_of(cut), None)
    found: Rows | None = ((first and first.custom) or {}).get(FIELD)
    return found


def packed_segments(cut: Cut) -> tuple[Segment, ...] | None:
    """Return the segments of a cut as a batch holds them."""
    found = segments_of(cut)
    return None if found is None else tuple(Segment(one["start"], one["end"], one["text"]) for one in found)


def with_segments(cut: Cut, segments: Rows | None) -> Cut:
    """Return the cut with other segments, or as not annotated."""
    if not isinstance(cut, MixedCut):
        return fastcopy(cut, custom=with_field(cut.custom, segments))
    first = next(tracks_of(cut), None)
    tracks = [
        fastcopy(track, cut=with_segments(track.cut, segments if track.cut is first else None))
        if track.cut is first or FIELD in (getattr(track.cut, "custom", None) or {})
        else track
        for track in cut.tracks
    ]
    return fastcopy(cut, tracks=tracks)


def with_field(custom: dict[str, Any] | None, segments: Rows | None) -> dict[str, Any]:
    """Return custom fields with other segments, or without the field if they are None."""
    others = {name: value for name, value in (custom or {}).items() if name != FIELD}
    return others if segments is None else {**others, FIELD: list(segments)}


def crop(cut: Cut, start: Seconds, duration: Seconds) -> Cut:
    """Return a part of a cut, with the same id and the segments of that part."""
    part = cut.truncate(offset=start, duration=duration, preserve_id=True)
    known = segments_of(cut)
    return part if known is None else with_segments(part, cropped(known, start, part.duration))


def faster(cut: Cut, factor: float) -> Cut:
    """Return the cut at another speed, with the same id and its segments earlier or later alike."""
    changed = cut.perturb_speed(factor, affix_id=False)
    known = segments_of(cut)
    return changed if known is None else with_segments(changed, cropped(scaled(known, factor), 0.0, changed.duration))


def together(parts: Iterable[tuple[Rows | None, Seconds]]) -> Rows | None:
    """Return the segments of a mix of clips, each with the time at which it begins.

    If one of the clips was not annotated, neither was the mix: what is heard in that clip is not known.
    """
    found: list[dict[str, Any]] = []
    for segments, start in parts:
        if segments is None:
            return None
        found += shifted(segments, start)
    return found


def with_segments_moved(transform: Callable[[CutSet], CutSet], cuts: CutSet) -> CutSet:
    """Transform cuts, and refuse a transform that changes durations and leaves segments where they were.

    The package's own transforms move segments; others say so by an attribute `moves_segments`, which is True.

    Raises:
        ValueError: durations changed, but not the segments; names the clip.
    """
    if getattr(transform, "moves_segments", False):
        return transform(cuts)
    known = {_draw(cut): cut for cut in cuts if segments_of(cut)}
    changed = CutSet(list(transform(cuts)))
    for cut in changed if known else ():
        old = known.get(_draw(cut))
        if old is None or abs(cut.duration - old.duration) <= ROUNDING or segments_of(cut) != segments_of(old):
            continue
        raise UserError(
            f"{transform!r} changed the duration of clip {old.id!r} from {old.duration:.3f} to {cut.duration:.3f} s, "
            "but not its custom field `segments`, whose times would be wrong; move them too, see "
            "`slap.datamodules.segments`, or leave this transform out for clips that have segments"
        )
    return changed


def _draw(cut: Cut) -> str:
    first = next(tracks_of(cut), None)
    draw: str = ((first and first.custom) or {}).get("draw", cut.id)
    return draw
