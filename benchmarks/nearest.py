"""The best matches among a million embeddings by `exact_topk`: beside matrix multiplication, and in how much memory.

    python benchmarks/nearest.py --update

N items, Q queries, E dimensions.
"""

from __future__ import annotations

import argparse

import torch
from exact_topk import topk
from rows import Row, add_options, finish
from timing import Matmul, Turns, peak_megabytes
from torch.nn.functional import normalize

ABOUT = """`python benchmarks/nearest.py`: the 10 nearest of a million embeddings of 512 dimensions, exact, for 100
captions (retrieval), and for 10,000 clips the best of 10,000 labels (zero-shot). Rates are of the products alone by all
of the time. Memory is what the process needed beyond the embeddings; a full matrix of scores would take 400 MB."""

DIM, K = 512, 10


def draw(count: int) -> torch.Tensor:
    """(count, E) random embeddings."""
    rows = torch.randn(count, DIM, generator=torch.Generator().manual_seed(count))
    return normalize(rows, dim=1, out=rows)


def run(options: argparse.Namespace) -> list[Row]:
    """Measure; the rows of the table."""
    items, turns, square = draw(options.items), Turns(options.clock), Matmul(torch.float32)
    rows = []
    for what, queries, among in (
        ("retrieval", draw(100), items),
        ("zero-shot", items[: options.items // 100], items[-options.items // 100 :]),
    ):
        before = peak_megabytes()
        for _ in range(options.turns):
            square.turn(turns)
            turns.take(what, lambda: topk(queries, among, K))  # noqa: B023 - called at once
        took, best = turns.median(what), square.rate(turns)
        rate = 2 * len(queries) * len(among) * DIM / took
        name = f"topk, {what}, {len(queries):,} x {len(among):,} ({took:.3g} s)"
        rows.append(Row(name, "GFLOP/s", best / 1e9, rate / 1e9, rate / best))
        if what == "retrieval":  # the other needs no more
            matrix, more = 4 * len(queries) * len(among) / 1e6, peak_megabytes() - before
            rows.append(
                Row("topk, retrieval, memory against all scores", "MB", matrix, more, more / matrix, at_most=1.0)
            )
    return rows


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("--items", type=int, default=1_000_000, help="(default: %(default)s)")
    parser.add_argument("--turns", type=int, default=2, help="(default: %(default)s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    configure(parser)
    add_options(parser)
    finish("nearest", "The nearest of a million", ABOUT, run, parser.parse_args())


if __name__ == "__main__":
    main()
