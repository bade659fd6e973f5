"""Packing isolation: what one clip holds changes no other clip's features, embedding, loss or gradient.

Clips lie end to end in one tensor, and nothing but the layout keeps them apart. Each encoder is tried on random
batches: one clip is replaced, by another of its length or of any length, or by what is nearly no audio any more.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from slap.core.packed import Packed
from slap.model.masks import random_mask
from slap.model.views import Views
from slap.testing import tiny_batch, tiny_model
from slap.testing.tiny import CAPTIONS
from small_plugins import BUILT_IN, small

TRIALS = 4
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
"""Of float32 features: rows of a matrix may be multiplied in another order where there are more or fewer of them."""


def batch_of(encoder, generator: torch.Generator) -> list[Tensor]:
    """Make two to five clips, one of them of a single sample."""
    count = int(torch.randint(2, 6, (1,), generator=generator))
    seconds = torch.rand(count, generator=generator) * 1.2
    sizes = [1, *(max(round(float(one) * encoder.sample_rate), 1) for one in seconds[1:])]
    order = torch.randperm(count, generator=generator).tolist()
    clips = [torch.randn(size, generator=generator).mul(0.1).clamp(-1, 1) for size in sizes]
    return [clips[i] for i in order]


def replacements(clip: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Yield clips that may replace a clip."""
    other = torch.rand(len(clip), generator=generator) * 2 - 1
    longer = torch.rand(len(clip) + int(torch.randint(1, 9000, (1,), generator=generator)), generator=generator) - 0.5
    return [other, longer, longer[:1], torch.zeros_like(clip), torch.full_like(clip, 2.0**31)]


def items(features: Packed) -> list[Tensor]:
    return features.unpack()


@pytest.mark.parametrize("name", BUILT_IN["audio encoder"])
@torch.no_grad()
def test_no_clip_hears_another(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = small("audio encoder", name, tmp_path).eval()
    generator = torch.Generator().manual_seed(1)
    for _ in range(TRIALS):
        clips = batch_of(encoder, generator)
        changed = int(torch.randint(len(clips), (1,), generator=generator))
        before = items(encoder(encoder.patchify(Packed.pack(clips))))
        for other in replacements(clips[changed], generator):
            instead = [other if i == changed else clip for i, clip in enumerate(clips)]
            after = items(encoder(encoder.patchify(Packed.pack(instead))))
            for i in range(len(clips)):
                if i != changed:
                    torch.testing.assert_close(after[i], before[i], **CLOSE)


@pytest.mark.parametrize("name", BUILT_IN["audio encoder"])
@pytest.mark.parametrize("masked", [False, True])
def test_no_gradient_reaches_another_clip(name: str, masked: bool, tmp_path: Path) -> None:
    """Exactly none: what is multiplied by a mask of nearly zero would show."""
    torch.manual_seed(0)
    encoder = small("audio encoder", name, tmp_path).eval()
    generator = torch.Generator().manual_seed(2)
    for _ in range(TRIALS):
        patches = encoder.patchify(Packed.pack(batch_of(encoder, generator)))
        values = patches.values.clone().requires_grad_()
        hidden = random_mask(patches, 0.5) if masked else None
        features = encoder(patches.replace(values), hidden)
        chosen = int(torch.randint(len(patches), (1,), generator=generator))
        (gradient,) = torch.autograd.grad(items(features)[chosen].square().sum(), values)
        of_clips = items(patches.replace(gradient))
        assert of_clips[chosen].abs().sum() > 0 or len(of_clips[chosen]) == 1
        for i, part in enumerate(of_clips):
            if i != chosen:
                assert not bool(part.any()), f"the features of clip {chosen} depend on clip {i}"


@pytest.mark.parametrize("name", BUILT_IN["text encoder"])
@torch.no_grad()
def test_no_caption_reads_another(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = small("text encoder", name, tmp_path).eval()
    encoder.prepare(iter(CAPTIONS))
    before = items(encoder(encoder.tokenize(CAPTIONS)))
    for changed in range(len(CAPTIONS)):
        for other in ("an owl", "rain " * 20, CAPTIONS[(changed + 1) % len(CAPTIONS)]):
            instead = [other if i == changed else caption for i, caption in enumerate(CAPTIONS)]
            after = items(encoder(encoder.tokenize(instead)))
            for i in range(len(CAPTIONS)):
                if i != changed:
                    torch.testing.assert_close(after[i], before[i], **CLOSE)


@torch.no_grad()
def test_no_embedding_depends_on_another_clip() -> None:
    """Pooled and projected, as it is used."""
    torch.manual_seed(0)
    model = tiny_model({"contrastive": 1.0}).eval()
    generator = torch.Generator().manual_seed(3)
    for _ in range(3 * TRIALS):
        clips = batch_of(model.audio, generator)
        changed = int(torch.randint(len(clips), (1,), generator=generator))
        before = model.embed_audio(Packed.pack(clips))
        for other in replacements(clips[changed], generator):
            after = model.embed_audio(Packed.pack([other if i == changed else clip for i, clip in enumerate(clips)]))
            kept = torch.arange(len(clips)) != changed
            torch.testing.assert_close(after[kept], before[kept], **CLOSE)


DECODER = {"weight": 1.0, "layers": 1, "heads": 2, "width": 16, "hidden": 16}
PER_CLIP = {
    "full": {"captioning": {**DECODER, "view": "full"}},
    "masked": {"captioning": {**DECODER, "view": "masked"}},
}
"""Objectives whose loss is a mean over clips of what each gives alone; others compare clips, which is their point."""


def losses_and_gradients(model, batch) -> tuple[Tensor, list[Tensor]]:
    """Compute the loss that an objective notes of each clip, (B,), and the gradients by the patches of each clip."""
    torch.manual_seed(7)  # of what is hidden
    views = Views(model, batch)
    values = views.patches.values.clone().requires_grad_()
    views.__dict__["_patches"] = views.patches.replace(values)
    loss, _ = model.objectives["captioning"](views)
    noted = views.noted()
    assert noted is not None
    (gradient,) = torch.autograd.grad(loss, values)
    return noted, items(views.patches.replace(gradient))


@pytest.mark.parametrize("view", PER_CLIP)
def test_no_loss_and_no_gradient_of_a_clip_depends_on_another(view: str) -> None:
    torch.manual_seed(0)
    model = tiny_model(PER_CLIP[view]).eval()
    batch = tiny_batch(model)
    before, gradients = losses_and_gradients(model, batch)
    for changed in range(len(batch)):
        clips = batch.audio.unpack()
        clips[changed] = torch.rand_like(clips[changed]) * 2 - 1
        other = type(batch)(**{**vars(batch), "audio": Packed.pack(clips)})
        after, others = losses_and_gradients(model, other)
        assert not torch.isclose(after[changed], before[changed], rtol=1e-6)
        kept = torch.arange(len(batch)) != changed
        torch.testing.assert_close(after[kept], before[kept], **CLOSE)
        for i in range(len(batch)):
            if i != changed:
                torch.testing.assert_close(others[i], gradients[i], **CLOSE)
