"""The report of `slap prepare`: clips are counted as they are found; the counts are plain data, a text and a plot."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from slap.core.units import Seconds
from slap.datamodules.manifests.clip import Clip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = dict[str, Any]

FAULTS = {
    "missing": "no file where the layout says",
    "unreadable": "cannot be read as audio",
    "truncated": "damaged: nothing of it can be decoded",
    "empty": "no samples",
    "outside": "begins or ends outside of its file",
    "duplicated": "a file or an id named before",
}
"""The reasons why a clip of the official list is not in the manifest."""

NAMED = 5
"""Largest number of clips that the report names for each fault."""

EDGES: tuple[Seconds, ...] = tuple(
    float(f"{digits}e{power}") for power in range(-3, 6) for digits in (1, 1.5, 2, 3, 5, 7)
)
"""Edges of the histogram of durations: round numbers, each about one and a half times the one before."""

CHANNELS = {"1": "mono", "2": "stereo"}

BAR = 40
"""Width of the longest bar in a terminal, characters."""

COLOR = "#2a6f97"


class Findings:
    """Counts of the clips of one split.

    Args:
        official: published number of clips, None if none is published.
    """

    def __init__(self, official: int | None) -> None:
        self.official = official
        self.listed = self.captions = 0
        self.durations = array("d")
        self.cut_short = 0
        self.first_cut: list[str] = []
        self.faults: dict[str, int] = dict.fromkeys(FAULTS, 0)
        self.named: dict[str, list[str]] = {fault: [] for fault in FAULTS}
        self.rates: Counter[int] = Counter()
        self.channels: Counter[int] = Counter()

    def bad(self, fault: str, clip: Clip, detail: str) -> None:
        """Count a clip that has a fault."""
        self.faults[fault] += 1
        if len(self.named[fault]) < NAMED:
            self.named[fault].append(f"{clip.id}: {detail}")

    def incomplete(self, clip: Clip, note: str) -> None:
        """Count a clip that is in the manifest, of whose file something is missing."""
        self.cut_short += 1
        if self.cut_short <= NAMED:
            self.first_cut.append(f"{clip.id}: {note}")

    def good(self, clip: Clip, duration: Seconds, rate: int, channels: int) -> None:
        """Count a clip that is in the manifest."""
        self.durations.append(duration)
        self.captions += len(clip.captions)
        self.rates[rate] += 1
        self.channels[channels] += 1

    def record(self, left_out: Mapping[str, Sequence[str]]) -> Record:
        """Return the counts as plain data.

        Args:
            left_out: clips that the corpus leaves out, by reason.
        """
        counts = Counter(max(bisect_right(EDGES, duration) - 1, 0) for duration in self.durations)
        found = len(self.durations)
        return {
            "official": self.official,
            "listed": self.listed,
            "found": found,
            **{fault: {"count": self.faults[fault], "first": self.named[fault]} for fault in FAULTS},
            "cut_short": {"count": self.cut_short, "first": self.first_cut},
            "left_out": {
                reason: {"count": len(names), "first": list(names[:NAMED])} for reason, names in left_out.items()
            },
            "captions": self.captions,
            "hours": round(sum(self.durations) / 3600, 4),
            "seconds": {
                "shortest": round(min(self.durations), 4),
                "median": round(median(self.durations), 4),
                "longest": round(max(self.durations), 4),
            }
            if found
            else None,
            "sample_rates": {str(rate): count for rate, count in sorted(self.rates.items())},
            "channels": {str(channels): count for channels, count in sorted(self.channels.items())},
            "histogram": [[EDGES[i], count] for i, count in sorted(counts.items())],
        }


def as_text(title: str, record: Record) -> str:
    """Return the report of a split for a terminal."""
    published = "" if record["official"] is None else f"   (published: {record['official']})"
    lines = [title, f"  {'listed':<12}{record['listed']:>9}{published}"]
    lines.append(f"  {'found':<12}{record['found']:>9}{_about(record)}")
    cut = record["cut_short"]
    if cut["count"]:
        lines.append(f"  {'cut short':<12}{cut['count']:>9}   (among those found: used as far as they go)")
        lines += _names(cut["first"], cut["count"])
    for fault, meaning in FAULTS.items():
        count, first = record[fault]["count"], record[fault]["first"]
        lines.append(f"  {fault:<12}{count:>9}" + (f"   ({meaning})" if count else ""))
        lines += _names(first, count)
    for reason, names in record["left_out"].items():
        lines.append(f"  {'left out':<12}{names['count']:>9}   ({reason})")
        lines += _names(names["first"], names["count"])
    return "\n".join([*lines, *_bars(record["histogram"])])


def identical_text(found: Record) -> str:
    """Return the lines about files with the content of an earlier one, for a terminal; empty if there is none.

    Args:
        found: counts, as `slap.datamodules.prepare.contents.identical` returns them.
    """
    if not found["count"]:
        return ""
    across = found["across_splits"]
    title = f"  {'identical':<12}{found['count']:>9}   (files with the content of an earlier one"
    title += (
        f", {across} of them of another split; `slap overlap --out` removes those from a manifest)" if across else ")"
    )
    return "\n".join([title, *_names(found["first"], found["count"])])


def _about(record: Record) -> str:
    if not record["found"]:
        return ""
    seconds = record["seconds"]
    each = record["captions"] / record["found"]
    length = f"{seconds['shortest']:.2f} to {seconds['longest']:.2f} s, median {seconds['median']:.2f}"
    rates = _frequent({f"{int(rate) / 1000:g} kHz": count for rate, count in record["sample_rates"].items()})
    channels = _frequent({CHANNELS.get(n, f"{n} channels"): count for n, count in record["channels"].items()})
    captions = f"{each:.3g} caption{'s' * (each != 1)} per clip"
    return f"   ({record['hours']:.2f} h; {length}; {rates}; {channels}; {captions})"


def _frequent(counts: Mapping[str, int], most: int = 3) -> str:
    """Return the most frequent values, and "others" if there are more."""
    ordered = sorted(counts, key=lambda value: -counts[value])
    return ", ".join(ordered[:most] + (["others"] if len(ordered) > most else []))


def _names(first: Sequence[str], count: int) -> list[str]:
    more = [f"      ... and {count - len(first)} more"] if count > len(first) else []
    return [f"      {name}" for name in first] + more


def _occupied(histogram: Sequence[Sequence[float]]) -> list[tuple[Seconds, Seconds, int]]:
    """Return all ranges of durations from the shortest clip to the longest, with their numbers of clips."""
    if not histogram:
        return []
    counts = {begin: int(count) for begin, count in histogram}
    first, last = EDGES.index(min(counts)), EDGES.index(max(counts))
    ends = (*EDGES[1:], float("inf"))
    return [(EDGES[i], ends[i], counts.get(EDGES[i], 0)) for i in range(first, last + 1)]


def _bars(histogram: Sequence[Sequence[float]]) -> list[str]:
    ranges = _occupied(histogram)
    if not ranges:
        return []
    most = max(count for *_, count in ranges)
    lines = [f"  {'seconds':>14}{'clips':>9}"]
    for begin, end, count in ranges:
        bar = "#" * -(-BAR * count // most)
        lines.append(f"  {begin:>5g} to {end:>5g}{count:>9} {bar}".rstrip())
    return lines


def draw(corpus: str, splits: Mapping[str, Record]) -> Figure:
    """Draw the durations of each split that has clips, one panel per split.

    Args:
        corpus: name of the corpus, for the title.
        splits: counts of each split, as `Findings.record` returns them, by its name.
    """
    from matplotlib.figure import Figure

    shown = {split: record for split, record in splits.items() if record["found"]}
    figure = Figure(figsize=(7, 0.9 + 2.1 * max(len(shown), 1)), dpi=150, layout="constrained")
    figure.suptitle(f"{corpus}: durations of clips", fontsize=11)
    panels = [figure.add_subplot(len(shown), 1, place) for place in range(1, len(shown) + 1)]
    _share_seconds(panels, shown.values())
    for axes, (split, record) in zip(panels, shown.items(), strict=True):
        ranges = _occupied(record["histogram"])
        begins = [part[0] for part in ranges]
        widths = [end - begin for begin, end, _ in ranges]
        axes.bar(begins, [count for *_, count in ranges], widths, align="edge", color=COLOR, edgecolor="white")
        axes.axvline(record["seconds"]["median"], color="black", linestyle="dashed", linewidth=1.0)
        axes.set_title(
            f"{split}: {record['found']:,} clips, {record['hours']:,.1f} h, dashed the median, "
            f"{record['seconds']['median']:.2f} s",
            fontsize=9,
        )
        axes.set_ylabel("clips")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    return figure


def _share_seconds(panels: Sequence[Axes], records: Iterable[Record]) -> None:
    """Give all panels one logarithmic axis, with ticks at round durations, over a factor of ten at least."""
    ranges = [part for record in records for part in _occupied(record["histogram"])]
    low, high = min(part[0] for part in ranges) / 1.2, max(part[1] for part in ranges) * 1.2
    spread = max(10 * low / high, 1) ** 0.5
    low, high = low / spread, high * spread
    ticks = [edge for edge in EDGES if low <= edge <= high]
    # As many as have room: 1, 1.5, 2, 3, 5, 7, 10; or 1, 3, 10; or 1, 10.
    wide = high / low
    wanted = "1.0 1.5 2.0 3.0 5.0 7.0" if wide < 50 else "1.0 3.0" if wide < 1e5 else "1.0"
    ticks = [tick for tick in ticks if f"{tick:e}"[:3] in wanted.split()]
    for axes in panels:
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
    panels[-1].set_xlabel("seconds")
