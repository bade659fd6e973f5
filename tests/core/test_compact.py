"""Smaller embeddings: leading dimensions and int8, with the recall that is left."""

import pytest
import torch
from torch.nn.functional import normalize

from slap.core.compact import compact, from_int8, leading, to_int8


def unit(count, dim, seed):
    return normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def neighbors(queries, rows, k=10):
    return (queries @ rows.T).topk(k).indices


def test_int8_finds_nearly_all_of_the_ten_that_float32_finds():
    """Random vectors of 512 dimensions are the hardest case: the cosines of neighbors differ by little."""
    rows, queries = unit(5000, 512, 0), unit(200, 512, 1)
    exact, found = neighbors(queries, rows), neighbors(queries, from_int8(to_int8(rows)))
    recall = (exact[:, :, None] == found[:, None]).any(2).double().mean().item()
    assert recall > 0.98  # measured: 0.9885


def test_int8_keeps_cosines_within_a_hundredth():
    rows = unit(500, 64, 0)
    again = from_int8(to_int8(rows))
    torch.testing.assert_close(again.norm(dim=1), torch.ones(500))
    assert (rows @ rows.T - again @ again.T).abs().max() < 0.01


def test_int8_is_symmetric_and_uses_its_whole_range():
    rows = unit(100, 32, 0)
    found = to_int8(rows)
    assert found.dtype == torch.int8
    assert (found.abs().amax(1) == 127).all()
    assert torch.equal(to_int8(-rows), -found)
    assert to_int8(torch.zeros(2, 3)).tolist() == [[0] * 3] * 2
    assert to_int8(torch.empty(0, 3)).shape == (0, 3)


def test_leading_dimensions_have_length_1_and_the_whole_stays_as_it_is():
    rows = unit(10, 32, 0)
    assert leading(rows, 32) is rows
    short = leading(rows, 8)
    torch.testing.assert_close(short, torch.stack([row[:8] / row[:8].square().sum().sqrt() for row in rows]))


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"float32, int8; got 'int4'"):
        compact(unit(1, 4, 0), 4, "int4")
    with pytest.raises(ValueError, match="not finite"):
        to_int8(torch.tensor([[1.0, torch.nan]]))
