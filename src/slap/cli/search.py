"""Search an index by text, or by a sound like the one to find.

    slap search sounds.index "dog barking, then rain"
    slap search sounds.index --audio query.wav --top 5
    slap search sounds.index --queries queries.txt --json
    slap search sounds.index --audio query.wav --text rain --without thunder

Each hit is a file with the cosine of its best window, and the place of this window in the file, on the clock of a
player. --text and --without change every query: the unit embeddings of the query and of each --text are added, those of
each --without subtracted, and the sum is made a unit vector. The model is expected at the path that it had when the
index was made; --model names another.

Exit status: 0 done; 3 done, but for files of --audio that are listed on stderr, which cannot be read or are silent; 2
nothing was done.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from slap.cli.options import as_records, tell
from slap.core.errors import UserError, printable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from slap.inference.model import Model
    from slap.search.query import Hit, Index

    Found = tuple[dict[str, str], list[Hit]]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("index", metavar="INDEX", type=Path, help="an index that `slap index` made")
    parser.add_argument("query", metavar="QUERY", nargs="*", help="texts to search for, each by itself")
    parser.add_argument(
        "--audio",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="audio files to search for, each by itself",
    )
    parser.add_argument(
        "--queries", metavar="FILE", help="file with a text to search for per line, or - for the standard input"
    )
    parser.add_argument(
        "--text",
        nargs="+",
        action="extend",
        default=[],
        metavar="TEXT",
        help="texts that the sounds found shall be near to besides each query (with no query: all together are one)",
    )
    parser.add_argument(
        "--without",
        nargs="+",
        action="extend",
        default=[],
        metavar="TEXT",
        help="texts that the sounds found shall be away from, as in --audio storm.wav --without thunder",
    )
    parser.add_argument(
        "--top", type=int, default=10, metavar="N", help="number of files to show per query (default: %(default)s)"
    )
    parser.add_argument(
        "--exact", action="store_true", help="compare with every window, without the approximate index of large indices"
    )
    parser.add_argument("--model", help="path of the model, if it was moved since the index was made")
    parser.add_argument(
        "--device", help="device that the model computes on, e.g. cpu or cuda (default: a GPU if there is one)"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Search and print what is found."""
    texts, more = [*arguments.query, *_lines(arguments.queries)], list(arguments.text)
    if not texts and not arguments.audio:
        texts, more = more[:1], more[1:]
    if not texts and not arguments.audio:
        raise UserError('nothing to search for; give a text, as in slap search INDEX "rain", or --audio FILE')
    if any(not text.strip() for text in (*texts, *more, *arguments.without)):
        raise UserError("a text to search for is empty")
    from slap.search.query import Index

    index = Index.open(arguments.index, arguments.model, arguments.device)
    change = _Change(index.model, more, arguments.without)
    failed: list[tuple[str, str]] = []
    notes: list[tuple[str, str]] = []
    found = [*_by_text(index, texts, arguments, change), *_by_audio(index, arguments, change, failed, notes)]
    if not found:
        raise UserError("\n".join(reason for _, reason in failed))
    if arguments.json:
        changed = {"with": more, "without": arguments.without}
        results = [{**query, **changed, "hits": [asdict(hit) for hit in hits]} for query, hits in found]
        told = {"failed": as_records(failed, "error"), "notes": as_records(notes, "note")}
        print(json.dumps({"folder": index.metadata.folder, "results": results, **told}, indent=2))
    else:
        print("\n\n".join(as_text(change.named(next(iter(query.values()))), hits) for query, hits in found))
    return tell(failed, notes)


def _lines(path: str | None) -> list[str]:
    if path is None:
        return []
    text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip()]


class _Change:
    """The texts that are added to every query, and subtracted from it.

    Args:
        model: embeds them.
        plus: texts to add.
        minus: texts to subtract.
    """

    def __init__(self, model: Model, plus: list[str], minus: list[str]) -> None:
        self.texts = (plus, minus)
        self.plus, self.minus = model.embed_text(plus), model.embed_text(minus)

    def __call__(self, query: Tensor) -> np.ndarray:
        """Return the changed query, (E,)."""
        import torch

        from slap.search.compose import compose

        changed = any(self.texts)
        found: np.ndarray = (compose(torch.cat([query[None], self.plus]), self.minus) if changed else query).numpy()
        return found

    def named(self, query: str) -> str:
        """Return a query with its change in words."""
        plus, minus = self.texts
        return "".join([query, *(f" + {text}" for text in plus), *(f" - {text}" for text in minus)])


def _by_text(index: Index, texts: list[str], arguments: argparse.Namespace, change: _Change) -> list[Found]:
    vectors = index.model.embed_text(texts)
    hits = [index.nearest(change(vector), arguments.top, arguments.exact) for vector in vectors]
    return [({"text": text}, found) for text, found in zip(texts, hits, strict=True)]


def _by_audio(
    index: Index,
    arguments: argparse.Namespace,
    change: _Change,
    failed: list[tuple[str, str]],
    notes: list[tuple[str, str]],
) -> list[Found]:
    """Search for each audio file; those that cannot be used, and words about the others, are added to the lists."""
    paths: list[str] = arguments.audio
    found: dict[int, list[Hit]] = {}
    for item in index.model.stream(paths) if paths else ():
        path = paths[item.index]
        if item.result is None or item.silent:
            failed.append((path, str(item.error) if item.error else f"{path}: {item.note}"))
            continue
        found[item.index] = index.nearest(change(item.result), arguments.top, arguments.exact)
        if item.note:
            notes.append((path, item.note))
    return [({"audio": paths[number]}, found[number]) for number in sorted(found)]


def as_text(query: str, hits: list[Hit]) -> str:
    """Return the hits of a query for a terminal."""
    if not hits:
        return f"{query}\n  the index is empty"
    lines = [
        f"{hit.rank:4}  {hit.score:6.3f}  {clock(hit.start):>7} - {clock(hit.end):<7}  {printable(hit.path)}"
        for hit in hits
    ]
    return "\n".join([printable(query), *lines])


def clock(seconds: float) -> str:
    """Write a time as people read it.

    Example:
        >>> clock(3.25), clock(75), clock(3675)
        ('3.2 s', '1:15', '1:01:15')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
