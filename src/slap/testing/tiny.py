"""Tiny encoders that keep the contracts, with models and batches, for tests.

B clips, C captions, N packed rows (samples, patches or tokens), D = 16 width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slap.core.batch import Batch, fingerprint
from slap.core.packed import Packed
from slap.model.contracts import AudioEncoder, TextEncoder
from slap.model.specs import EncoderSpec, ObjectiveSpec
from slap.training.module import SLAP

WIDTH = 16
FRAME = 80
"""Samples per patch of `TinyAudio`."""

CAPTIONS = (
    "a dog barks",
    "rain falls on a metal roof while a man is speaking",
    "a car engine is running and then stops",
    "an owl",
    "two birds sing, one after the other",
)


class Mixer(nn.Module):
    """Layer that adds the mean of its item to each row: the simplest dependency between the rows of an item."""

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Linear(WIDTH, WIDTH)
        self.mean = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, items: Packed) -> Tensor:
        """Mix rows, (N, D) -> (N, D)."""
        sums = x.new_zeros(len(items), WIDTH).index_add_(0, items.item, x)
        return torch.tanh(self.own(x) + self.mean(sums / items.lengths[:, None])[items.item])


class TinyAudio(AudioEncoder):
    """Audio encoder of frames of 10 ms, each mixed with the mean of its clip."""

    width = WIDTH
    sample_rate = 8_000
    step = FRAME / 8_000

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(FRAME, WIDTH)
        self.mask_token = nn.Parameter(torch.randn(WIDTH))
        self.mix = Mixer()

    def patchify(self, audio: Packed) -> Packed:
        """Cut waveforms, (N,), into frames, (N', 80); the last frame of each clip is padded with zeros."""
        clips = [nn.functional.pad(clip, (0, -len(clip) % FRAME)).view(-1, FRAME) for clip in audio.unpack()]
        frames = Packed.pack(clips)
        return Packed(frames.values, frames.lengths, frames.index[:, None], frames.layout)

    def forward(self, patches: Packed, hidden: Tensor | None = None) -> Packed:
        """Encode frames, (N, 80), as features, (N, D); a learned token replaces hidden frames, (N,)."""
        x = self.embed(patches.values)
        if hidden is not None:
            x = torch.where(hidden[:, None], self.mask_token, x)
        return patches.replace(self.mix(x, patches))


class TinyText(TextEncoder):
    """Text encoder of bytes, each mixed with the mean of its caption."""

    width = WIDTH
    vocab_size = 258
    bos = 256
    eos = 257

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(self.vocab_size, WIDTH)
        self.mix = Mixer()

    def tokenize(self, captions: Sequence[str]) -> Packed:
        """Turn captions into their UTF-8 bytes, (N,) int64."""
        return Packed.pack([torch.tensor([self.bos, *caption.encode(), self.eos]) for caption in captions])

    def detokenize(self, tokens: Packed) -> list[str]:
        """Turn bytes back into captions."""
        return [bytes(i for i in item.tolist() if i < 256).decode(errors="replace") for item in tokens.unpack()]

    def forward(self, tokens: Packed) -> Packed:
        """Encode bytes, (N,), as features, (N, D)."""
        return tokens.replace(self.mix(self.embed(tokens.values), tokens))


def tiny_model(
    objectives: Mapping[str, ObjectiveSpec] | None = None,
    audio: EncoderSpec | None = None,
    text: EncoderSpec | None = None,
    lr: float = 1e-3,
) -> SLAP:
    """Make a model of a few thousand parameters.

    Args:
        objectives: as `SLAP` takes them.
        audio: the audio encoder. Default: `TinyAudio`.
        text: the text encoder. Default: `TinyText`.
        lr: learning rate.
    """
    audio, text = audio or TinyAudio(), text or TinyText()
    return SLAP(audio=audio, text=text, objectives=objectives, embedding_dim=WIDTH, lr=lr, warmup_steps=0)


def tiny_batch(
    model: SLAP,
    seconds: Sequence[float] = (0.31, 0.05, 0.5, 0.12),
    captions_per_clip: int = 1,
    seed: int = 0,
) -> Batch:
    """Make a batch of clips of noise with captions.

    Args:
        model: the model whose encoders give the sample rate and the tokens; its text encoder must be prepared.
        seconds: duration of each clip, in seconds; the shortest clip has one sample.
        captions_per_clip: number of captions of each clip.
        seed: random seed of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = [max(round(duration * model.audio.sample_rate), 1) for duration in seconds]
    clip = torch.arange(len(sizes)).repeat_interleave(captions_per_clip)
    captions = tuple(CAPTIONS[i % len(CAPTIONS)] for i in range(len(clip)))
    ids = tuple(f"clip{seed}-{i}" for i in range(len(sizes)))
    return Batch(
        audio=Packed.pack([torch.randn(size, generator=generator).mul(0.1).clamp(-1, 1) for size in sizes]),
        text=model.text.tokenize(captions),
        clip=clip,
        clip_key=fingerprint(ids),
        caption_key=fingerprint(captions),
        ids=ids,
        captions=captions,
        labels={"parity": tuple("even" if i % 2 == 0 else "odd" for i in range(len(sizes)))},
    )


def tiny_checkpoint(
    path: str | Path,
    objectives: Mapping[str, ObjectiveSpec] | None = None,
    max_seconds: float | None = 2.0,
    seed: int = 0,
    ema: bool = False,
) -> SLAP:
    """Write a checkpoint as training does, of a small random model with registered encoders, and return the model.

    Args:
        path: the file.
        objectives: as `SLAP` takes them. Default: contrastive, and captioning with one layer.
        max_seconds: the duration of the longest training clip that the checkpoint states, in seconds.
        seed: random seed of the weights.
        ema: keep averages of the weights, too.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        nano = {"name": "transformer", "size": "nano"}
        decoder = {"layers": 1, "heads": 2, "width": 32, "hidden": 64}
        model = SLAP(
            audio=nano,
            text={**nano, "vocab_size": 320},
            objectives=objectives or {"contrastive": 1.0, "captioning": {"weight": 0.5, **decoder}},
            embedding_dim=WIDTH,
            ema=ema,
        )
    model.text.prepare(CAPTIONS)
    model.max_seconds = max_seconds
    content: dict[str, Any] = {"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
    model.on_save_checkpoint(content)
    torch.save(content, path)
    return model.eval()
