"""The result of `slap overlap` as plain data and as a table."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import Any

from slap.datamodules.overlap.search import Overlap

Record = dict[str, Any]

UNREAD = 5
"""Largest number of messages about unreadable clips in the table."""


def record(found: Overlap, out: Path | None = None, kept: int | None = None) -> Record:
    """Return the result as plain data.

    Args:
        found: the result of a search.
        out: path of the manifest of clips that do not overlap, if one was written.
        kept: number of training clips in it.
    """
    listed = []
    for (train, evaluation), pair in sorted(found.pairs.items()):
        one: Record = {
            "train": found.train[train].id,
            "evaluation": found.evaluation[evaluation].id,
            "manifest": str(_manifest(found, evaluation)),
            "by": pair.by,
        }
        if pair.match is not None:
            one |= {
                "different_bits": round(pair.match.different, 4),
                "shared_seconds": round(pair.match.seconds, 3),
                "begins_at": round(pair.match.offset, 3),
            }
        listed.append(one)
    result: Record = {
        "train": str(found.paths[0]),
        "train_clips": len(found.train),
        "train_overlapping": len({train for train, _ in found.pairs}),
        "evaluation": _by_manifest(found),
        "pairs": listed,
        "unread": found.unread,
    }
    return result if out is None else {**result, "out": str(out), "out_clips": kept}


def _manifest(found: Overlap, evaluation: int) -> Path:
    return found.paths[bisect_right(found.evaluation.firsts, evaluation)]


def _by_manifest(found: Overlap) -> list[Record]:
    """Return the number of clips that overlap in each evaluation manifest, in total and by way."""
    clips: dict[Path, set[int]] = {}
    ways: dict[Path, dict[str, set[int]]] = {}
    for (_, evaluation), pair in found.pairs.items():
        path = _manifest(found, evaluation)
        clips.setdefault(path, set()).add(evaluation)
        for way in pair.by:
            ways.setdefault(path, {}).setdefault(way, set()).add(evaluation)
    return [
        {
            "manifest": str(path),
            "clips": len(part),
            "overlapping": len(clips.get(path, ())),
            "by": {way: len(numbers) for way, numbers in sorted(ways.get(path, {}).items())},
        }
        for path, part in zip(found.paths[1:], found.evaluation.sources, strict=True)
    ]


def as_text(result: Record, most: int) -> str:
    """Return the table for a terminal.

    Args:
        result: the result, as `record` returns it.
        most: largest number of pairs in the table.
    """
    lines = [f"{result['train']}: {result['train_clips']} clips, {result['train_overlapping']} overlap", ""]
    width = max(len("evaluation"), *(len(part["manifest"]) for part in result["evaluation"]))
    lines.append(f"{'evaluation':<{width}} {'clips':>8} {'overlap':>8}  by")
    for part in result["evaluation"]:
        ways = ", ".join(f"{way} {number}" for way, number in part["by"].items()) or "-"
        lines.append(f"{part['manifest']:<{width}} {part['clips']:>8} {part['overlapping']:>8}  {ways}")
    if result["pairs"]:
        lines += ["", *(_line(pair) for pair in result["pairs"][:most])]
        if len(result["pairs"]) > most:
            lines.append(f"... and {len(result['pairs']) - most} more pairs; --json has all, --pairs N shows more")
    if result["unread"]:
        lines += ["", f"{len(result['unread'])} clips cannot be read; at most their names were compared:"]
        lines += [f"  {message}" for message in result["unread"][:UNREAD]]
    if "out" in result:
        lines += ["", f"{result['out']}: the {result['out_clips']} training clips that do not overlap"]
    return "\n".join(lines)


def _line(pair: Record) -> str:
    line = f"{pair['train']} = {pair['evaluation']}, by {', '.join(pair['by'])}"
    if "different_bits" in pair:
        line += (
            f" ({100 * pair['different_bits']:.0f} % of bits differ over {pair['shared_seconds']:.1f} s, "
            f"from {pair['begins_at']:.2f} s)"
        )
    return line
