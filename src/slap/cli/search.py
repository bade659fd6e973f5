"""Search an index by text, or by a sound like the one to find.

    slap search sounds.index "dog barking, then rain"
    slap search sounds.index --audio query.wav --top 5
    slap search sounds.index --queries queries.txt --json
    slap search sounds.index --audio query.wav --text rain --without thunder
    slap search sounds.index "dog barking, then rain" --rerank 50
    slap search sounds.index "dog barking" --offset 10

Each hit is a file with the cosine of its best window, and the place of this window in the file, on the clock of a
player. Files of equal content, and copies in another lossless format, are one hit: "and 2 more alike". If the model was
trained with the sigmoid objective or was calibrated (`slap calibrate`), a text's hits have probabilities too, and
--threshold leaves out those that are less probable; so there may be none.

--text and --without change every query: the unit embeddings of the query and of each --text are added, those of each
--without subtracted, and the sum is made a unit vector. The model is expected at the path that it had when the index
was made; --model names another.

--rerank 50 reads the 50 best windows again, and orders them by how probable the caption decoder finds the query for
each: its mean log-likelihood per token, which is printed after the cosine.

Exit status: 0 done; 3 done, but for files of --audio or --rerank that are listed on stderr, which cannot be read or are
silent; 2 nothing was done.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from slap.cli.options import add_calibration, as_records, calibrated, tell
from slap.core.errors import UserError, printable
from slap.search.limits import ALIKE, MOST

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from slap.search.hits import Hit, SearchOptions
    from slap.search.query import Index

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
        "--offset", type=int, default=0, metavar="N", help="number of the best files to skip, to see the next ones"
    )
    parser.add_argument(
        "--alike",
        type=float,
        default=ALIKE,
        metavar="COS",
        help="cosine of two windows from which on their files are one hit, e.g. 0.999; files of equal content always "
        "are (default: %(default)s)",
    )
    parser.add_argument(
        "--unfolded", action="store_true", help="show every file as a hit of its own, also copies of the same content"
    )
    parser.add_argument(
        "--rerank",
        type=int,
        default=0,
        metavar="N",
        help="order the N best files of each text anew by how probable the model's caption decoder finds the text; "
        "only for models with the objective `captioning` (default: 0, none)",
    )
    parser.add_argument(
        "--rerank-by",
        choices=("likelihood", "both"),
        default="likelihood",
        help="with --rerank: the order, by the likelihood of the text alone, or together with the cosine "
        "(default: %(default)s)",
    )
    add_calibration(parser)
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
    for option, given in (("rerank", arguments.rerank != 0), ("threshold", arguments.threshold is not None)):
        if given and (arguments.audio or more or arguments.without):
            raise UserError(f"--{option} is for texts alone: leave out --audio, --without and further texts of --text")
    if not 0 <= arguments.rerank <= MOST:
        raise UserError(f"--rerank takes 0 to {MOST} files, got {arguments.rerank}")
    from slap.search.query import Index
    from slap.search.rerank import require_decoder

    index = Index.open(arguments.index, arguments.model, arguments.device)
    calibrated(index.model, arguments)
    if arguments.rerank:
        require_decoder(index.model)
    change = _Change(index, more, arguments.without)
    failed: list[tuple[str, str]] = []
    notes: list[tuple[str, str]] = []
    found = [*_by_text(index, texts, arguments, change, failed), *_by_audio(index, arguments, change, failed, notes)]
    if not found:
        raise UserError("\n".join(reason for _, reason in failed))
    if arguments.json:
        changed = {"with": more, "without": arguments.without}
        results = [{**query, **changed, "hits": [asdict(hit) for hit in hits]} for query, hits in found]
        told = {"failed": as_records(failed, "error"), "notes": as_records(notes, "note")}
        print(json.dumps({"folder": index.metadata.folder, "results": results, **told}, indent=2))
    else:
        empty = _nothing(index, arguments)
        print("\n\n".join(as_text(change.named(next(iter(query.values()))), hits, empty) for query, hits in found))
    return tell(failed, notes)


def _options(arguments: argparse.Namespace) -> SearchOptions:
    alike = None if arguments.unfolded else arguments.alike
    return {"top": arguments.top, "offset": arguments.offset, "exact": arguments.exact, "alike": alike}


def _nothing(index: Index, arguments: argparse.Namespace) -> str:
    """Return the words for a query without hits."""
    if not len(index.store):
        return "the index is empty"
    return "there are no more files" if arguments.threshold is None else "none of these sounds is so probable"


def _lines(path: str | None) -> list[str]:
    if path is None:
        return []
    text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip()]


class _Change:
    """The texts that are added to every query, and subtracted from it.

    Args:
        index: its model embeds them.
        plus: texts to add.
        minus: texts to subtract.
    """

    def __init__(self, index: Index, plus: list[str], minus: list[str]) -> None:
        self.texts, self._index = (plus, minus), index
        self.plus, self.minus = index.embed_text(plus), index.embed_text(minus)

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


def _by_text(
    index: Index,
    texts: list[str],
    arguments: argparse.Namespace,
    change: _Change,
    failed: list[tuple[str, str]],
) -> list[Found]:
    """Search for each text; files that cannot be read to re-rank them are added to the list."""
    from slap.search.rerank import reranked

    found: list[Found] = []
    options, alone = _options(arguments), not any(change.texts)
    top, offset, first = arguments.top, arguments.offset, arguments.rerank
    if first:
        options = {**options, "top": max(first, offset + top), "offset": 0}
    for text, vector in zip(texts, index.embed_text(texts), strict=True):
        hits = index.nearest(change(vector), **options)
        hits = index.with_probabilities(hits) if alone else hits
        hits = hits if arguments.threshold is None else index.likely(hits, arguments.threshold)
        if first:
            best, unread = reranked(index, text, hits[:first], arguments.rerank_by)
            failed += unread
            hits = [*best, *hits[first:]][offset : offset + top]
        found.append(({"text": text}, hits))
    return found


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
        found[item.index] = index.nearest(change(item.result), **_options(arguments))
        if item.note:
            notes.append((path, item.note))
    return [({"audio": paths[number]}, found[number]) for number in sorted(found)]


def as_text(query: str, hits: list[Hit], empty: str = "the index is empty") -> str:
    """Return the hits of a query for a terminal; `empty` is said where there are none."""
    if not hits:
        return f"{printable(query)}\n  {empty}"
    return "\n".join([printable(query), *map(_line, hits)])


def _line(hit: Hit) -> str:
    """Return a hit as a line: rank, cosine, probability and likelihood if it has them, place and path."""
    chance = "" if hit.probability is None else f"{hit.probability:6.1%}  "
    likelihood = "" if hit.likelihood is None else f"{hit.likelihood:7.3f}  "
    alike = f"  (and {len(hit.alike)} more alike)" if hit.alike else ""
    place = f"{clock(hit.start):>7} - {clock(hit.end):<7}"
    return f"{hit.rank:4}  {hit.score:6.3f}  {chance}{likelihood}{place}  {printable(hit.path)}{alike}"


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
