"""Sizes of heads follow the encoder's width unless they are given; those of the shipped recipes stay."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from slap.core.registry import build
from slap.model.ema import EMATeacher
from slap.model.specs import build_objectives
from slap.objectives.captioning import Captioning
from slap.objectives.masked_distillation import MaskedDistillation
from slap.recipes import base, demo, digits_and_sounds

HEADS = {
    base: (768, {"layers": 8, "heads": 8, "width": 512, "hidden": 2048}, (2048, 256, 4096)),
    demo: (128, {"layers": 2, "heads": 2, "width": 128, "hidden": 256}, (256, 64, 256)),
    digits_and_sounds: (128, {"layers": 2, "heads": 4, "width": 128, "hidden": 256}, (256, 64, 256)),
}
"""By recipe the width of its audio encoder, the shape of its decoder, and the sizes of its prototype head."""


def model_of(width):
    text = SimpleNamespace(vocab_size=300, bos=1, eos=2)
    return SimpleNamespace(audio=SimpleNamespace(width=width), text=text, teacher=EMATeacher(), mask_ratio=0.5)


def shape_of(decoder):
    block, width = decoder.blocks[0], decoder.embedding.weight.shape[1]
    heads = block.self_attention.heads
    assert block.cross_attention.heads == heads
    assert decoder.head_width * heads == width
    hidden = block.feed_forward.leave.weight.shape[1]
    return {"layers": len(decoder.blocks), "heads": heads, "width": width, "hidden": hidden}


def sizes_of(head):
    return head.enter.weight.shape[0], head.leave.weight.shape[0], head.prototypes.shape[0]


@pytest.mark.parametrize("recipe", HEADS)
def test_heads_of_shipped_recipes_have_the_sizes_of_their_checkpoints(recipe):
    width, decoder, head = HEADS[recipe]
    assert build("audio encoder", "transformer", {"size": recipe.AUDIO["size"]}).width == width
    objectives, _ = build_objectives(recipe.OBJECTIVES)
    for objective in objectives.values():
        objective.setup(model_of(width))
    assert shape_of(objectives["captioning"].decoder) == decoder
    assert sizes_of(objectives["masked_distillation"].head) == head


@pytest.mark.parametrize(
    ("width", "decoder", "head"),
    [
        (1536, {"layers": 8, "heads": 16, "width": 1024, "hidden": 4096}, (4096, 512, 4096)),
        (192, {"layers": 8, "heads": 2, "width": 128, "hidden": 512}, (512, 64, 4096)),
        (16, {"layers": 8, "heads": 1, "width": 64, "hidden": 256}, (64, 64, 4096)),
    ],
)
def test_heads_follow_the_width_of_the_encoder(width, decoder, head):
    captioning, distillation = Captioning(), MaskedDistillation()
    captioning.setup(model_of(width))
    distillation.setup(model_of(width))
    assert shape_of(captioning.decoder) == decoder
    assert sizes_of(distillation.head) == head


def test_a_size_that_is_given_stays_and_the_others_follow_it():
    captioning, distillation = Captioning(layers=1, width=320), MaskedDistillation(prototypes=5, bottleneck=8)
    captioning.setup(model_of(192))
    distillation.setup(model_of(192))
    assert shape_of(captioning.decoder) == {"layers": 1, "heads": 5, "width": 320, "hidden": 1280}
    assert sizes_of(distillation.head) == (512, 8, 5)
    other = Captioning(layers=1, heads=4, hidden=24)
    other.setup(model_of(192))
    assert shape_of(other.decoder) == {"layers": 1, "heads": 4, "width": 128, "hidden": 24}


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="3 heads do not divide a width of 64"):
        Captioning(heads=3).setup(model_of(16))
