"""Packed attention equals a naive masked attention, in values and gradients, for every mask and mix of lengths.

N query rows, M key rows, H heads, E width of a head.
"""

import gc
import subprocess
import sys
import weakref

import pytest
import torch

from slap import Packed
from slap.nn.attention import attention

LENGTHS = [[1], [5], [1, 1, 1], [3, 40, 7, 7, 1, 100, 24, 25, 23, 12], [64] * 6 + [1]]


def naive(q, k, v, q_sizes, k_sizes, window=None, causal=False):
    """Compute attention by one (N, M) score matrix, with minus infinity where a row may not attend."""
    q_item = torch.arange(len(q_sizes)).repeat_interleave(torch.tensor(q_sizes))
    k_item = torch.arange(len(k_sizes)).repeat_interleave(torch.tensor(k_sizes))
    seen = q_item[:, None] == k_item[None, :]
    distance = torch.arange(len(q))[:, None] - torch.arange(len(k))[None, :]
    if window is not None:
        seen &= distance.abs() <= window // 2
    if causal:
        seen &= distance >= 0
    scores = torch.einsum("nhe,mhe->hnm", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("hnm,mhe->nhe", scores.masked_fill(~seen, -torch.inf).softmax(-1), v)


def rows(sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(sum(sizes), 2, 8, generator=generator, dtype=torch.float64, requires_grad=True)


def layout(sizes):
    return Packed.pack([torch.zeros(size) for size in sizes]).layout


@pytest.mark.parametrize("sizes", LENGTHS)
@pytest.mark.parametrize("mask", [{}, {"causal": True}, {"window": 24}, {"window": 7}, {"window": 1}, {"window": 0}])
def test_self_attention_equals_naive_masked_attention(sizes, mask):
    ours, theirs = [rows(sizes, s) for s in range(3)], [rows(sizes, s) for s in range(3)]
    out = attention(*ours, layout(sizes), **mask)
    expected = naive(*theirs, sizes, sizes, **mask)
    torch.testing.assert_close(out, expected)
    weights = torch.randn_like(out)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


@pytest.mark.parametrize(("q_sizes", "k_sizes"), [([1, 1, 1], [9, 200, 4]), ([5, 30, 2, 8], [400, 3, 77, 8])])
def test_cross_attention_equals_naive_masked_attention(q_sizes, k_sizes):
    ours = rows(q_sizes, 0), rows(k_sizes, 1), rows(k_sizes, 2)
    theirs = rows(q_sizes, 0), rows(k_sizes, 1), rows(k_sizes, 2)
    out = attention(*ours, layout(q_sizes), layout(k_sizes))
    expected = naive(*theirs, q_sizes, k_sizes)
    torch.testing.assert_close(out, expected)
    out.pow(2).sum().backward()
    expected.pow(2).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


@pytest.mark.parametrize("mask", [{}, {"causal": True}, {"window": 8}])
def test_a_clip_full_of_nan_does_not_reach_its_neighbors(mask):
    sizes = [3, 20, 9]
    q, k, v = (rows(sizes, s).detach() for s in range(3))
    clean = attention(q, k, v, layout(sizes), **mask)
    for x in (q, k, v):
        x[3:23] = torch.nan
    dirty = attention(q, k, v, layout(sizes), **mask)
    torch.testing.assert_close(dirty[:3], clean[:3])
    torch.testing.assert_close(dirty[23:], clean[23:])


def test_masks_that_make_no_sense_are_refused():
    q = rows([2], 0)
    with pytest.raises(ValueError, match="one layout"):
        attention(q, q, q, layout([2]), layout([2]), window=4)
    with pytest.raises(ValueError, match="at once"):
        attention(q, q, q, layout([2]), window=4, causal=True)


def test_windows_cost_in_proportion_to_their_length_not_to_the_clip():
    sizes = [10_000]
    q = torch.randn(10_000, 1, 4)
    shape = layout(sizes)
    attention(q, q, q, shape, window=24)
    (plan,) = shape.plans.values()
    assert sum(group.mask.numel() for group in plan.groups) <= 10_024 * 3 * 24


@pytest.mark.parametrize("mask", [{}, {"causal": True}, {"window": 8}])
def test_masks_go_with_their_batch_and_wait_for_no_collector(mask):
    """Check that no layout holds itself by its plans: in training, the masks of a hundred batches stayed in memory."""
    sizes = [3, 20, 9]
    q, shape = rows(sizes, 0), layout(sizes)
    gc.disable()
    try:
        attention(q, q, q, shape, **mask).sum().backward()
        assert shape.plans
        gone = weakref.ref(shape)
        del shape
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.gpu  # variable-length FlashAttention needs CUDA
@pytest.mark.parametrize("sizes", LENGTHS)
@pytest.mark.parametrize("mask", [{}, {"causal": True}, {"window": 24}])
def test_flash_attention_equals_naive_masked_attention(sizes, mask):
    """To the precision of bfloat16: heads of 64, since kernels want multiples of 8."""
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(sum(sizes), 2, 64, generator=generator).bfloat16() for _ in range(3)]
    ours = [x.cuda().requires_grad_() for x in values]
    theirs = [x.double().requires_grad_() for x in values]
    out = attention(*ours, Packed.pack([torch.zeros(size) for size in sizes]).to("cuda").layout, **mask)
    expected = naive(*theirs, sizes, sizes, **mask)
    torch.testing.assert_close(out.double().cpu(), expected, rtol=2e-2, atol=2e-2)
    out.float().pow(2).sum().backward()
    expected.pow(2).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad.double().cpu(), other.grad, rtol=5e-2, atol=5e-2)


def test_attention_without_compiling_does_not_import_the_compiler():
    code = (
        "import sys, torch; from slap import Packed; from slap.nn.attention import attention;"
        "layout = Packed.pack([torch.zeros(3, 1), torch.zeros(2, 1)]).layout; q = torch.randn(5, 2, 4);"
        "attention(q, q, q, layout); print('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
