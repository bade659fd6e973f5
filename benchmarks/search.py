"""Searching an index: how long exact and approximate search take, and how much the approximate one finds.

    python benchmarks/search.py --windows 100000 1000000 --update
    python benchmarks/search.py --table embeddings.parquet --dim 128 64 --dtype float32 int8

Embeddings are synthetic, of length 1: `clustered` ones lie around 2,000 centers of 64 effective dimensions, as those of
a trained model roughly do; `uniform` ones have no structure at all, the worst case of any approximate index. Queries
are further draws. Recall is the share of the 10 nearest windows, by `exact_topk`, that the approximate index gives.

With --table, embeddings are those of a table that `slap embed` wrote, and recall is that of smaller ones, exactly
searched, against all dimensions in float32. Every Nth row is a query.

N windows, Q queries, E dimensions.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from exact_topk import topk
from results import keep
from torch import Tensor
from torch.nn.functional import normalize

from slap.audio.scan import file_id
from slap.core.compact import leading
from slap.core.units import EmbeddingType
from slap.search.store import APPROXIMATE_FROM, Store, WindowRow

DIM, K, PART = 512, 10, 20_000

ABOUT = """`python benchmarks/search.py --windows 100000 1000000`: windows of 512 dimensions. `topk`: all queries at
once by `exact_topk`, with making the embeddings. `exact` and `approximate`: median of one query after another through
the index, and the share of the 10 nearest that it finds. `index`: joining files and making the approximate index.
Disk: for an hour the files before joining are kept too, after that it is half."""


def draw(kind: str, count: int, seed: int) -> Tensor:
    """(count, E) embeddings; equal seeds give equal ones."""
    fixed, varied = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed + 1)
    if kind == "uniform":
        return normalize(torch.randn(count, DIM, generator=varied), dim=1)
    basis, centers = torch.randn(64, DIM, generator=fixed) / 8, torch.randn(2000, 64, generator=fixed)
    near = centers[torch.randint(2000, (count,), generator=varied)] + 0.7 * torch.randn(count, 64, generator=varied)
    return normalize(near @ basis + 0.3 * torch.randn(count, DIM, generator=varied), dim=1)


def parts(kind: str, count: int) -> Iterator[Tensor]:
    """(N, E) embeddings in parts."""
    for start in range(0, count, PART):
        yield draw(kind, min(PART, count - start), start)


def fill(store: Store, kind: str, count: int) -> float:
    """Write windows as `slap index` does; seconds."""
    begun, number = time.perf_counter(), 0
    for part in parts(kind, count):
        rows = []
        for vector in part.numpy():
            path = f"folder/{number // 3}.wav"
            start = 5.0 * (number % 3)
            rows.append(
                WindowRow(file_id(path), path, 20.0, start, start + 10, 1, 1, f"{number // 3:032x}", "m" * 64, vector)
            )
            number += 1
        store.replace([], rows, [])
    return time.perf_counter() - begun


def queries_of(store: Store, queries: Tensor, exact: bool) -> tuple[list[list[int]], list[float]]:
    """Search for each query: the numbers of the windows found, and the seconds per query."""
    found, seconds = [], []
    for query in queries.numpy():
        begun = time.perf_counter()
        matches = store.nearest(query, K, exact)
        seconds.append(time.perf_counter() - begun)
        found.append([int(match.row.hash, 16) * 3 + round(match.row.start / 5) for match in matches])
    return found, seconds


def measure(kind: str, count: int, queries: int) -> dict[str, Any]:
    """Measure one row of the table."""
    asked = draw(kind, queries, -1)
    begun = time.perf_counter()
    oracle = topk(asked, parts(kind, count), K).items.tolist()
    result: dict[str, Any] = {"embeddings": kind, "windows": count, "topk_s": time.perf_counter() - begun}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), DIM)
        result["write_s"] = fill(store, kind, count)
        few = min(queries, 20)
        exact, seconds = queries_of(store, asked[:few], True)
        result["exact_ms"] = 1000 * statistics.median(seconds)
        result["exact_recall"] = recall(exact, oracle[:few])
        begun = time.perf_counter()
        store.optimize(0)
        result["index_s"] = time.perf_counter() - begun
        result["approximate_ms"] = result["approximate_recall"] = "none"
        if store.approximate:
            found, seconds = queries_of(store, asked, False)
            result["approximate_ms"] = 1000 * statistics.median(seconds)
            result["approximate_recall"] = recall(found, oracle)
        result["disk_mb"] = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result


def measure_small(embeddings: Tensor, dim: int, dtype: EmbeddingType, queries: int) -> dict[str, Any]:
    """Measure an index of the leading dimensions of embeddings, (N, E), in a number type."""
    asked = torch.arange(0, len(embeddings), max(1, len(embeddings) // queries))
    rest = torch.ones(len(embeddings), dtype=torch.bool)
    rest[asked] = False
    held = embeddings[rest]
    oracle = topk(embeddings[asked], [held], K).items.tolist()
    with tempfile.TemporaryDirectory() as folder:
        store, rows = Store(Path(folder), dim, dtype=dtype), []
        for number, vector in enumerate(leading(held, dim).numpy()):
            name = f"{number:032x}"
            rows.append(
                WindowRow(file_id(name), name, 1.0, 5.0 * (number % 3), 1.0, 1, 1, f"{number // 3:032x}", "m", vector)
            )
        store.replace([], rows, [])
        found, seconds = queries_of(store, leading(embeddings[asked], dim), True)
    row = {"dim": dim, "dtype": dtype, "windows": len(held), "bytes": dim * (1 if dtype == "int8" else 4)}
    return {**row, "exact_ms": 1000 * statistics.median(seconds), "recall": recall(found, oracle)}


def recall(found: list[list[int]], oracle: list[list[int]]) -> float:
    """Share of the K nearest that were found."""
    return sum(len({*some} & {*right}) for some, right in zip(found, oracle, strict=True)) / (K * len(oracle))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, nargs="+", default=[APPROXIMATE_FROM], help="(default: %(default)s)")
    parser.add_argument("--embeddings", nargs="+", default=["clustered", "uniform"], choices=["clustered", "uniform"])
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--table", type=Path, metavar="PARQUET", help="embeddings that `slap embed` wrote")
    parser.add_argument(
        "--dim", type=int, nargs="+", metavar="D", help="with --table: leading dimensions (default: all)"
    )
    parser.add_argument("--dtype", nargs="+", default=["float32", "int8"], choices=["float32", "int8"])
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures here as JSON")
    parser.add_argument("--update", action="store_true", help="replace the section of RESULTS.md")
    arguments = parser.parse_args()
    if arguments.table is not None:
        table = pq.read_table(arguments.table, columns=["embedding"])
        embeddings = normalize(torch.tensor(table["embedding"].to_pylist(), dtype=torch.float32), dim=1)
        for dim in arguments.dim or [embeddings.shape[1]]:
            for dtype in arguments.dtype:
                print(measure_small(embeddings, dim, dtype, arguments.queries))
        return
    rows = [measure(kind, n, arguments.queries) for n in arguments.windows for kind in arguments.embeddings]
    keep("search", "Searching an index", ABOUT, rows, arguments.out, arguments.update)


if __name__ == "__main__":
    main()
