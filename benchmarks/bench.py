"""All benchmarks of speed on a CPU, in one table: `make bench`; and what changed since: `make bench-compare`.

    python benchmarks/bench.py                 # print the table, and keep it as benchmarks/last.json
    python benchmarks/bench.py --update        # and as benchmarks/results/bench.json and in RESULTS.md
    python benchmarks/bench.py --compare       # measure nothing; the last table beside the one of benchmarks/results

A machine cannot be compared with another by its rates, but by ratios: what is reached of what the same run showed to be
possible. These are compared.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from argparse import ArgumentParser, Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import long_clips
import nearest
import start
import step
from results import FIGURES, keep, table
from rows import Row, add_options, check

import encode

HERE = Path(__file__).parent
LAST, KEPT = HERE / "last.json", FIGURES / "bench.json"
PARTS: dict[str, ModuleType] = {
    "start": start,
    "encode": encode,
    "long_clips": long_clips,
    "nearest": nearest,
    "step": step,
}
ABOUT = """`make bench`: each row is measured beside what it is compared with, in turns. `beside`: the best that the
machine could do (the rate of square matrices, or a limit), or an alternative; `ratio` is of what was reached to it.
"""


def options_of(part: ModuleType, given: Namespace) -> Namespace:
    """Return a benchmark's defaults, replaced by the given options."""
    parser = ArgumentParser()
    part.configure(parser)
    found = parser.parse_args([])
    for name, value in vars(given).items():
        if name in ("threads", "clock") or (value is not None and hasattr(found, name)):
            setattr(found, name, value)
    return found


def measure(given: Namespace) -> list[dict[str, Any]]:
    """Measure all rows. A benchmark that fails becomes a row that says so, and the others still run."""
    rows: list[Row] = []
    for name in given.parts:
        begun = time.perf_counter()
        try:
            rows += PARTS[name].run(options_of(PARTS[name], given))
        except Exception as error:
            traceback.print_exc()
            rows.append(Row(f"{name} failed", note=f"{type(error).__name__}: {error}".splitlines()[0]))
        print(f"{name}: {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    return [row.shown() for row in rows]


def same(what: str) -> str:
    """Return the name of a row without the numbers in brackets."""
    return what.split(" (")[0] + what.partition(")")[2]


def compare(last: Path, kept: Path) -> int:
    """Print the last table's ratios beside those of the committed one; exit status 2 where one is missing."""
    for path, command in ((last, "make bench"), (kept, "make bench ARGS=--update")):
        if not path.exists():
            print(f"there is no {path}: run `{command}` first", file=sys.stderr)
            return 2
    new, old = (json.loads(path.read_text()) for path in (last, kept))
    before = {same(row["what"]): row for row in old["rows"]}
    rows = []
    for row in new["rows"]:
        was = before.get(same(row["what"]), {}).get("ratio", "")
        now = row["ratio"]
        both = isinstance(was, float) and isinstance(now, float) and was
        rows.append({"what": row["what"], "committed": was, "now": now, "now / committed": now / was if both else ""})
    print(table(rows))
    for name, content in (("committed", old), ("now", new)):
        print(f"{name}: {', '.join(f'{key} {value}' for key, value in content['machine'].items())}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=[*PARTS], default=[*PARTS], help="(default: all)")
    parser.add_argument("--compare", action="store_true", help="compare the last table with the committed one")
    parser.add_argument("--seconds", type=float, help="of audio, for `encode` and `step`")
    parser.add_argument("--turns", type=int, help="of everything")
    parser.add_argument("--peers", nargs="*", help="of `encode`; none: leave them out")
    parser.add_argument("--open-clip", type=Path, metavar="PATH", help="source of open_clip with NaFlexCLAP")
    parser.add_argument("--items", type=int, help="of `nearest`")
    add_options(parser)
    given = parser.parse_args()
    if given.compare:
        return compare(given.out or LAST, KEPT)
    check(given)
    begun, rows = time.perf_counter(), measure(given)
    spent = f"Threads: {given.threads}, time: {given.clock}, in {time.perf_counter() - begun:.0f} s."
    keep("bench", "Speed on a CPU", ABOUT + "\n" + spent, rows, given.out or LAST, given.update)
    return 1 if any(" failed" in row["what"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
