"""Clips cut into windows come together again, clip by clip."""

import pytest
import torch

from slap.core.packed import Packed
from slap.encoders.hf.windows import cut, join, padded, windows_of


def numbered(*sizes):
    packed = Packed.pack([torch.arange(size) for size in sizes])
    return Packed(packed.values, packed.lengths, packed.index[:, None], packed.layout)


@pytest.mark.parametrize("longest", [10, 11, 17])
@pytest.mark.parametrize("step", [1, 3, 5])
def test_windows_are_few_and_of_one_length(longest, step):
    for size in range(1, 80):
        windows, places = cut(numbered(size, 3), longest, step)
        mine = windows.sizes[: places.counts[0]]
        assert sum(mine) == size
        assert max(mine) <= longest
        assert len(mine) <= 1 if size <= longest else -(-size // (longest // step * step))
        assert len(set(mine[:-1])) <= 1
        assert all(length % step == 0 for length in mine[:-1])
        assert windows.sizes[places.counts[0] :] == (3,)


def test_what_was_cut_comes_together():
    clips = numbered(25, 4, 10, 11)
    windows, places = cut(clips, longest=10)
    assert windows.sizes == (9, 9, 7, 4, 10, 6, 5)
    whole = join(Packed(windows.values, windows.lengths, windows.index[:, None], windows.layout), places)
    assert whole.sizes == clips.sizes
    assert whole.values.equal(clips.values)
    assert whole.positions[:, 0].tolist() == whole.values.tolist()
    assert whole.positions[:, 1].tolist() == [0] * 9 + [1] * 9 + [2] * 7 + [0] * 4 + [0] * 10 + [0] * 6 + [1] * 5
    assert windows_of(whole) is windows.layout


def test_windows_are_found_without_the_plan():
    windows, places = cut(numbered(25, 4, 11, 12), longest=10)
    whole = join(Packed(windows.values, windows.lengths, windows.index[:, None], windows.layout), places)
    other = Packed(whole.values, whole.lengths, whole.positions)
    assert windows_of(other).sizes == windows.sizes


def test_padded():
    batch = padded(numbered(3, 1), length=4, fill=7)
    assert batch.tolist() == [[0, 1, 2, 7], [0, 7, 7, 7]]
