"""Long audio is cut into windows that cover it, the same way whether it comes whole or in blocks, and merged fairly."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from slap.core.merging import merge
from slap.core.windows import cut, hop_of, window_weights, windows


@pytest.mark.parametrize("samples", [1, 9, 10, 11, 16, 17, 25, 60, 61])
@pytest.mark.parametrize("hop", [1, 4, 7, 10])
def test_windows_cover_every_sample_and_are_full(samples, hop):
    spans = windows(samples, 10, hop)
    covered = {i for start, stop in spans for i in range(start, stop)}
    assert covered == set(range(samples))
    assert all(stop - start == min(10, samples) for start, stop in spans)
    assert spans == sorted(set(spans))
    assert all(b[0] - a[0] <= hop for a, b in pairwise(spans))


@pytest.mark.parametrize("samples", [1, 9, 10, 11, 25, 61])
@pytest.mark.parametrize("block", [1, 3, 10, 100])
@pytest.mark.parametrize("hop", [3, 7, 10])
def test_blocks_give_the_same_windows(samples, block, hop):
    audio = np.arange(samples, dtype=np.float32)
    found = list(cut(iter(np.split(audio, range(block, samples, block))), 10, hop))
    assert [(start, start + len(clip)) for start, clip in found] == windows(samples, 10, hop)
    for start, clip in found:
        np.testing.assert_array_equal(clip, audio[start : start + len(clip)])


def test_no_blocks_are_no_windows():
    assert list(cut(iter([]), 10, 5)) == []


@pytest.mark.parametrize("samples", [7, 25, 61])
def test_shares_count_every_sample_once(samples):
    spans = windows(samples, 10, 4)
    slow = [0.0] * len(spans)
    for sample in range(samples):
        covering = [i for i, (start, stop) in enumerate(spans) if start <= sample < stop]
        for i in covering:
            slow[i] += 1 / len(covering)
    assert window_weights(spans) == pytest.approx(slow)
    assert sum(slow) == pytest.approx(samples)


def test_merging_is_the_weighted_mean_of_each_recording():
    vectors = torch.nn.functional.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    owner, lengths = torch.tensor([1, 0, 1, 2, 1]), torch.tensor([3.0, 9.0, 1.0, 5.0, 6.0])
    merged = merge(vectors, owner, lengths)
    expected = 3 * vectors[0] + vectors[2] + 6 * vectors[4]
    torch.testing.assert_close(merged[1], expected / expected.norm())
    assert torch.equal(merged[0], vectors[1])  # to the bit
    assert torch.equal(merged[2], vectors[3])


def test_a_hop_beyond_the_window_is_refused():
    with pytest.raises(ValueError, match=r"1 to the window's 10 samples.*got 11"):
        windows(30, 10, 11)
    with pytest.raises(ValueError, match="at least one sample"):
        windows(0, 10, 5)
    assert 1 <= hop_of(1) <= 1
    assert hop_of(30) == 20
