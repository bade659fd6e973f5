"""Exact top-k in parts equals sorting the whole matrix, and never makes it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slap.core.registry import load_module

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
module = load_module(str(BENCHMARKS / "exact_topk.py"))
topk = module.topk


@pytest.mark.parametrize("items", [1, 7, 63, 500])
def test_equals_sorting_every_score(items, monkeypatch):
    monkeypatch.setattr(module, "QUERIES", 8)
    monkeypatch.setattr(module, "ITEMS", 50)
    torch.manual_seed(0)
    queries, table = torch.randn(21, 5, dtype=torch.float64), torch.randn(items, 5, dtype=torch.float64)
    found = topk(queries, table, k=10)
    for query, scores, numbers in zip(queries, found.scores, found.items, strict=True):
        oracle = sorted(((float(query @ row), i) for i, row in enumerate(table)), reverse=True)[:10]
        assert numbers.tolist() == [i for _, i in oracle]
        torch.testing.assert_close(scores, torch.tensor([score for score, _ in oracle], dtype=torch.float64))


def test_parts_of_any_size_are_numbered_through():
    torch.manual_seed(0)
    queries, table = torch.randn(3, 4), torch.randn(90, 4)
    whole, parts = topk(queries, table, 5), topk(queries, iter(table.split([1, 40, 0, 49])), 5)
    assert torch.equal(whole.items, parts.items)


def test_what_it_refuses():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        topk(torch.ones(1, 2), torch.ones(3, 2), 0)
    with pytest.raises(ValueError, match="the items have 3 dimensions and the queries 2"):
        topk(torch.ones(1, 2), torch.ones(3, 3), 1)
    with pytest.raises(ValueError, match="nothing to search"):
        topk(torch.ones(1, 2), [], 1)


def test_memory_does_not_grow_with_the_number_of_scores():
    """1,000 queries against 60,000 items: the matrix would take 240 MB."""
    code = (
        "import resource, torch; from exact_topk import topk; torch.set_num_threads(1)\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "items, queries = torch.randn(60_000, 8), torch.randn(1_000, 8)\n"
        "topk(queries[:8], items[:64], 10); before = peak(); topk(queries, items, 10); print(peak() - before)"
    )
    grown = float(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=BENCHMARKS).stdout
    )
    assert grown < 150
