import pytest
import torch

from slap import SLAP, Objective, Packed
from slap.core.packed import random_crops
from slap.model.masks import random_mask, shown
from slap.model.views import Views
from slap.testing import check_objective, tiny_batch, tiny_model

NANO = {"name": "transformer", "size": "nano"}


@pytest.fixture(scope="module")
def nano():
    torch.manual_seed(0)
    model = SLAP(NANO, {**NANO, "vocab_size": 300}, pool_duration=True).eval()
    model.text.prepare(["a dog barks", "rain falls", "two birds sing", "an owl hoots in the dark"])
    torch.nn.init.normal_(model.audio_pool.duration.weight)
    return model


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


@pytest.mark.parametrize("block", [1, 3])
def test_blocks_are_hidden_in_all_bands_and_the_share_stays(block):
    torch.manual_seed(0)
    steps = torch.tensor([40, 7, 1])
    time = torch.cat([torch.arange(n).repeat_interleave(4) for n in steps.tolist()])
    positions = torch.stack([time, torch.arange(4).repeat(int(steps.sum()))], 1)
    batch = Packed(torch.zeros(len(time), 1), (4 * steps).int(), positions)
    firsts = set()
    for _ in range(20):
        clips = random_mask(batch, 0.5, block).split(batch.sizes)
        assert [int(clip.sum()) for clip in clips] == [80, 14, 2]
        columns = clips[0].view(-1, 4)
        whole = columns.all(1)
        assert int((columns.any(1) & ~whole).sum()) <= 1  # where the share is reached
        changes = int((whole[1:] != whole[:-1]).sum())
        assert changes < 40 / block  # runs of about `block` steps
        firsts.add(whole.nonzero()[0].item())
    assert len(firsts) > 2


def test_blocks_need_times():
    with pytest.raises(ValueError, match="gives them no positions"):
        random_mask(Packed.pack([torch.zeros(4, 1)]), 0.5, 2)


def test_the_visible_view_is_the_encoder_on_the_other_patches(nano):
    views = Views(nano, tiny_batch(nano, [1.0, 0.01, 3.0]))
    hidden = views.hidden
    tokens = views.visible.tokens
    parts = views.patches.values.split(views.patches.sizes)
    for i, (part, mask) in enumerate(zip(parts, hidden.split(views.patches.sizes), strict=True)):
        start = sum(views.patches.sizes[:i])
        positions = views.patches.positions[start : start + len(part)][~mask]
        one = Packed(part[~mask], torch.tensor([int((~mask).sum())], dtype=torch.int32), positions)
        torch.testing.assert_close(tokens.unpack()[i], nano.audio(one).values, rtol=1e-4, atol=1e-5)
    assert torch.equal(tokens.positions, views.patches.positions[~hidden])
    expected = nano.audio_pool(tokens, views.patches.lengths)  # a clip with hidden patches is as long as without
    torch.testing.assert_close(views.visible.embedding, expected)
    with pytest.raises(ValueError, match="TinyAudio does not take a part of a clip's patches"):
        _ = Views(tiny_model(), tiny_batch(tiny_model())).visible


def test_all_that_is_shown_is_there():
    batch = Packed.pack([torch.arange(n)[:, None] for n in (1, 5, 8)])
    hidden = random_mask(batch, 0.4)
    rest = shown(batch, hidden, 0.4)
    assert rest.sizes == (1, 3, 5)
    assert torch.equal(rest.values, batch.values[~hidden])


class TwoCrops(Objective):
    """Two random crops of a clip are alike: views of an objective's own."""

    def per_clip(self, views):
        first, second = (views.of_audio(lambda audio: random_crops(audio, 0.5)).embedding for _ in range(2))
        return {"first": first, "second": second}

    def forward(self, views):
        found = views.per_clip(self)
        return 1 - (found["first"] * found["second"]).sum(1).mean()


def test_an_objective_may_make_views_of_its_own():
    check_objective(TwoCrops())
    model = tiny_model({"crops": TwoCrops()})
    batch = tiny_batch(model)
    loss = model.objectives["crops"](Views(model, batch))
    loss.backward()
    assert loss > 0
    assert model.audio.embed.weight.grad.abs().sum() > 0


def test_crops_lie_within_their_clips():
    torch.manual_seed(0)
    clips = Packed.pack([torch.arange(100), torch.arange(1000, 1001), torch.arange(2000, 2007)])
    for _ in range(20):
        first, second, third = random_crops(clips, 0.25).unpack()
        assert torch.equal(first, torch.arange(25) + first[0])
        assert 0 <= first[0] <= 75
        assert second.tolist() == [1000]
        assert len(third) == 2
    with pytest.raises(ValueError, match="share must be above 0"):
        random_crops(clips, 0.0)
