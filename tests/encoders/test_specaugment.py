import pytest
import torch

from slap import Packed
from slap.encoders.specaugment import SpecAugment


def frames(*sizes):
    return Packed.pack([torch.ones(size, 64) for size in sizes])


def test_nothing_is_hidden_in_evaluation():
    batch = frames(100, 3)
    assert SpecAugment().eval()(batch) is batch


def test_each_clip_loses_bands_and_times_within_its_limits():
    torch.manual_seed(0)
    augment = SpecAugment(bands=10, share=0.2, band_masks=2, time_masks=1).train()
    lost_bands, lost_times = [], []
    for _ in range(50):
        first, second = augment(frames(100, 40)).unpack()
        for clip in (first, second):
            bands = (clip == 0).all(0)
            times = (clip == 0).all(1)
            hidden = bands[None, :] | times[:, None]
            assert torch.equal(clip == 0, hidden)  # whole bands and whole frames, nothing else
            lost_bands.append(int(bands.sum()))
            lost_times.append(int(times.sum()) / len(clip))
        assert not torch.equal(first[0] == 0, second[0] == 0) or first[0].all()
    assert 0 < max(lost_bands) <= 2 * 11
    assert 0 < max(lost_times) <= 0.2 + 1 / 40
    assert sum(lost_times) / len(lost_times) == pytest.approx(0.1, abs=0.03)


def test_short_clips_can_be_spared():
    torch.manual_seed(0)
    augment = SpecAugment(shortest=50).train()
    short, long = zip(*(augment(frames(49, 50)).unpack() for _ in range(20)), strict=True)
    assert all(clip.all() for clip in short)
    assert sum(bool((clip == 0).any()) for clip in long) > 15


def test_a_clip_of_one_frame_survives():
    torch.manual_seed(0)
    assert SpecAugment().train()(frames(1)).values.shape == (1, 64)


def test_no_masks_change_nothing():
    batch = frames(30)
    assert torch.equal(SpecAugment(bands=0, share=0.0).train()(batch).values, batch.values)
