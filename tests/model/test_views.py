import pytest
import torch

from slap import Packed
from slap.model.views import random_mask


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, [0, 0, 0, 0]), (0.5, [0, 1, 4, 50]), (1.0, [0, 1, 7, 99])])
def test_each_clip_hides_its_share_but_never_all(ratio, expected):
    batch = Packed.pack([torch.zeros(n, 1) for n in (1, 2, 8, 100)])
    hidden = random_mask(batch, ratio)
    assert [int(part.sum()) for part in hidden.split(batch.sizes)] == expected


def test_every_patch_is_hidden_equally_often():
    torch.manual_seed(0)
    batch = Packed.pack([torch.zeros(8, 1), torch.zeros(3, 1)])
    share = torch.stack([random_mask(batch, 0.5) for _ in range(4000)]).float().mean(0)
    torch.testing.assert_close(share, torch.tensor([0.5] * 8 + [2 / 3] * 3), rtol=0, atol=0.04)
