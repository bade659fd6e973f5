"""Contract tests of audio and text encoders.

B clips or captions, N packed rows, D the encoder's width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from unicodedata import normalize

import torch
from torch import Tensor

from slap.core.packed import Packed
from slap.model.contracts import AudioEncoder, Encoder, TextEncoder
from slap.model.masks import random_mask
from slap.testing.checks import TWINS, assert_finite, close, copied, gradients, pickled, promise, restored, same
from slap.testing.tiny import CAPTIONS

Forward = Callable[[Any, Packed], Packed]


def check_audio_encoder(encoder: AudioEncoder, backend: str = "eager") -> None:
    """Check that an audio encoder keeps its contract.

    Args:
        encoder: the encoder, as small as possible, since it runs several times.
        backend: backend of `torch.compile`; "eager" checks that the code can be traced, and is quick.

    Raises:
        AssertionError: the encoder breaks a promise; the message names it.
    """
    encoder = copied(encoder).eval()
    _positive(encoder, "width", "sample_rate")
    noise = torch.Generator().manual_seed(0)
    sizes = [1, *(round(seconds * encoder.sample_rate) for seconds in (0.7, 0.05, 1.3))]
    clips = [torch.randn(size, generator=noise).mul(0.1).clamp(-1, 1) for size in sizes]
    clips.append(torch.zeros(sizes[1]))  # silence
    _patches(encoder, clips)
    patches = encoder.patchify(Packed.pack(clips))
    _hides(encoder, patches)
    _trains(encoder, lambda: [encoder(patches).values, encoder(patches, _half(patches)).values])
    _common(encoder, _from_audio, clips, backend)


def check_text_encoder(encoder: TextEncoder, captions: Sequence[str] = CAPTIONS, backend: str = "eager") -> None:
    """Check that a text encoder keeps its contract.

    Args:
        encoder: the encoder, as small as possible, since it runs several times.
        captions: captions of different lengths that the encoder tokenizes without loss once it is prepared on them.
        backend: backend of `torch.compile`; "eager" checks that the code can be traced, and is quick.

    Raises:
        AssertionError: the encoder breaks a promise; the message names it.
    """
    blank, encoder = copied(encoder).eval(), copied(encoder).eval()
    with promise(encoder, "learns what it needs from a lazy stream of captions"):
        encoder.prepare(iter(captions))
    _positive(encoder, "width", "vocab_size")
    _tokens(encoder, captions)
    tokens = encoder.tokenize(captions)
    with promise(encoder, "carries what it tokenizes with in its state, so that a checkpoint holds all of it"):
        assert same(restored(blank, encoder).tokenize(captions), tokens), "tokens differ after loading"
    _trains(encoder, lambda: [encoder(tokens).values])
    _common(encoder, lambda encoder, tokens: encoder(tokens), tokens.unpack(), backend)


def _common(encoder: Encoder, forward: Forward, items: Sequence[Tensor], backend: str) -> None:
    """Check the promises that audio and text encoders share, on the inputs of `forward`, one item each."""
    batch = Packed.pack(list(items))
    with promise(encoder, "gives the same result twice in evaluation mode"), torch.no_grad():
        expected = forward(encoder, batch)
        assert same(forward(encoder, batch), expected), "they differ"
    with promise(encoder, "gives finite values of shape (N, width)"):
        shape = (expected.layout.total, encoder.width)
        assert expected.values.shape == shape, f"got {tuple(expected.values.shape)} instead of {shape}"
        assert expected.values.isfinite().all(), "some are not finite"
    _one_by_one(encoder, forward, items)
    for how, twin in TWINS.items():
        with promise(encoder, f"gives the same result after it is {how}"), torch.no_grad():
            assert same(forward(twin(encoder), batch), expected), "they differ"
    with promise(encoder, "gives the same result after its state is saved and loaded"), torch.no_grad():
        assert same(forward(restored(copied(encoder), encoder), batch), expected), "they differ"
    with promise(encoder, "scales the learning rate of each of its parameters by a number from 0 up"):
        scales = {name: encoder.lr_scale(name) for name, _ in encoder.named_parameters()}
        assert all(isinstance(scale, float | int) and scale >= 0 for scale in scales.values()), f"got {scales}"
    with promise(encoder, "gives the same result under torch.compile"), torch.no_grad():
        torch.compiler.reset()
        compiled = torch.compile(copied(encoder), backend=backend)
        close(forward(compiled, batch).values, expected.values, "features")
        torch.compiler.reset()


def _one_by_one(encoder: Encoder, forward: Forward, items: Sequence[Tensor]) -> None:
    with promise(encoder, "treats each item of a packed batch as if it were alone"):
        together = forward(encoder, Packed.pack(list(items)))
        alone = [forward(encoder, Packed.pack([item])) for item in items]
        assert together.sizes == tuple(one.layout.total for one in alone), "the lengths differ"
        joined = torch.cat([one.values for one in alone])
        close(together.values, joined, "features")
        weights = torch.randn(joined.shape, generator=torch.Generator().manual_seed(1))
        expected = gradients(encoder, (joined * weights).sum())
        for name, gradient in gradients(encoder, (together.values * weights).sum()).items():
            other = expected[name]
            assert (gradient is None) == (other is None), f"{name} gets a gradient only in one case"
            if gradient is not None and other is not None:
                close(gradient, other, f"gradients of {name}")


def _trains(encoder: Encoder, outputs: Callable[[], list[Tensor]]) -> None:
    with promise(encoder, "gives every trainable parameter a finite gradient"):
        encoder.train()
        found = gradients(encoder, torch.stack([output.square().sum() for output in outputs()]).sum())
        encoder.eval()
        assert_finite(found)


def _positive(encoder: Encoder, *names: str) -> None:
    for name in names:
        with promise(encoder, f"says its `{name}`, a positive integer"):
            value = getattr(encoder, name)
            assert isinstance(value, int) and value > 0, f"it is {value!r}"  # noqa: PT018 - one promise


# -- audio ------------------------------------------------------------------------------------------------------------


def _patches(encoder: AudioEncoder, clips: Sequence[Tensor]) -> None:
    with promise(encoder, "makes patches of any clip, of one sample even, and the same ones in a batch as alone"):
        together = encoder.patchify(Packed.pack(list(clips)))
        alone = [encoder.patchify(Packed.pack([clip])) for clip in clips]
        assert min(together.sizes) > 0, f"the clips of {[len(clip) for clip in clips]} samples give {together.sizes}"
        assert together.sizes == tuple(one.layout.total for one in alone), "their numbers differ"
        close(together.values, torch.cat([one.values for one in alone]), "patches")
    with promise(encoder, "gives each patch its coordinates, as `positions`"):
        assert together.positions is not None, "it gives none"
        positions = torch.cat([one.positions for one in alone if one.positions is not None])
        assert torch.equal(together.positions, positions), "they differ in a batch"
    with promise(encoder, "trains nothing in `patchify`, since several views share its result"):
        assert not together.values.requires_grad, "the patches require a gradient"


def _hides(encoder: AudioEncoder, patches: Packed) -> None:
    hidden = _half(patches)
    noise = torch.randn(patches.values.shape, generator=torch.Generator().manual_seed(2))
    wide = hidden.view(-1, *[1] * (noise.dim() - 1))
    with promise(encoder, "does not see what is in hidden patches"), torch.no_grad():
        expected = encoder(patches, hidden)
        changed = encoder(patches.replace(torch.where(wide, noise, patches.values)), hidden)
        close(changed.values, expected.values, "features")
    with promise(encoder, "gives a feature for each patch, hidden or not, with the patches' lengths and positions"):
        assert expected.sizes == patches.sizes, f"got lengths {expected.sizes} for {patches.sizes}"
        assert expected.positions is not None, "the positions are gone"
        assert patches.positions is not None, "the positions are gone"
        assert torch.equal(expected.positions, patches.positions), "the positions differ"
    with promise(encoder, "sees all when nothing is hidden"), torch.no_grad():
        close(encoder(patches, torch.zeros_like(hidden)).values, encoder(patches).values, "features")


def _half(patches: Packed) -> Tensor:
    """(N,) bool: the same random half each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return random_mask(patches, 0.5)


def _from_audio(encoder: AudioEncoder, audio: Packed) -> Packed:
    features: Packed = encoder(encoder.patchify(audio))
    return features


# -- text -------------------------------------------------------------------------------------------------------------


def _tokens(encoder: TextEncoder, captions: Sequence[str]) -> None:
    with promise(encoder, "pickles with what it has learned, since it tokenizes in the data loader's workers"):
        tokens = pickled(encoder).tokenize(captions)
        assert same(tokens, encoder.tokenize(captions)), "the tokens differ"
    with promise(encoder, "makes int64 tokens on the CPU, from 0 to below `vocab_size`"):
        assert tokens.values.dtype == torch.int64, f"they are {tokens.values.dtype}"
        assert tokens.values.device.type == "cpu", f"they are on {tokens.values.device}"
        low, high = int(tokens.values.min()), int(tokens.values.max())
        assert 0 <= low <= high < encoder.vocab_size, f"they go from {low} to {high}, of {encoder.vocab_size}"
    with promise(encoder, "begins every caption with `bos` and ends it with `eos`, an empty one too"):
        for item in [*tokens.unpack(), encoder.tokenize([""]).values]:
            ends = item[0].item(), item[-1].item()
            assert len(item) > 1 and ends == (encoder.bos, encoder.eos), f"got {item.tolist()}"  # noqa: PT018
    with promise(encoder, "tokenizes each caption as if it were alone"):
        alone = Packed.pack([encoder.tokenize([caption]).values for caption in captions])
        assert same(tokens, alone), "the tokens differ"
    with promise(encoder, "gives captions back from tokens, but for case, spaces and Unicode's normal form"):
        for given, got in zip(captions, encoder.detokenize(tokens), strict=True):
            assert _plain(got) == _plain(given), f"{given!r} becomes {got!r}"


def _plain(caption: str) -> list[str]:
    return normalize("NFKC", caption).casefold().split()
