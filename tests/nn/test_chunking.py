"""Rows computed in chunks are the rows computed at once."""

import pytest
import torch

from slap.core.packed import Layout
from slap.nn import chunking
from slap.nn.chunking import in_row_chunks
from slap.nn.layers import Block, rotary, rotate, rotate_


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(chunking, "ROWS", 7)


def block(window=None):
    torch.manual_seed(0)
    return Block(64, 2, 96, window).double()


def batch(sizes=(20, 3, 9)):
    layout = Layout(torch.tensor(sizes, dtype=torch.int32), tuple(sizes))
    x = torch.randn(layout.total, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x, layout, rotary(layout.index[:, None], 32)


@pytest.mark.parametrize("window", [None, 4])
def test_a_block_gives_the_same_with_and_without_gradient(window, few):
    layer, (x, layout, rotation) = block(window), batch()
    before = x.clone()
    whole = layer(x, layout, rotation)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, layout, rotation), whole.detach(), rtol=1e-12, atol=1e-12)
    assert torch.equal(x, before), "what is computed in place may not be the input"


def test_with_gradient_rows_are_computed_at_once(few):
    seen = []
    in_row_chunks(lambda x: (seen.append(len(x)), x)[1:], torch.ones(20, 1))
    with torch.no_grad():
        in_row_chunks(lambda x: (seen.append(len(x)), x)[1:], torch.ones(20, 1))
    assert seen == [20, 7, 7, 6]


def test_several_inputs_and_results_of_any_shape_and_type(few):
    x, y = torch.arange(20.0), torch.arange(40).view(20, 2)
    with torch.no_grad():
        total, wide = in_row_chunks(lambda a, b: (a + b.sum(1), b[:, :, None] > 3), x, y)
    assert torch.equal(total, x + y.sum(1))
    assert torch.equal(wide, y[:, :, None] > 3)


def test_no_rows_at_all(few):
    with torch.no_grad():
        assert in_row_chunks(lambda x: (x,), torch.empty(0, 3))[0].shape == (0, 3)


def test_rotating_in_place_is_rotating():
    x, rotation = torch.randn(5, 2, 8, dtype=torch.float64), rotary(torch.arange(5)[:, None], 8)
    assert torch.equal(rotate_(x.clone(), rotation), rotate(x, rotation))
