"""What somebody else would write: a loss and an audio encoder in a file of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slap import AudioEncoder, Objective, Packed, Views, register

FRAME, BANDS = 160, 12


@register("toy_spread")
class Spread(Objective):
    """Pushes the clips of a batch apart (uniformity, arXiv 2005.10242)."""

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, views: Views) -> Tensor:
        embedding = views.full.embedding
        distance = (embedding[:, None] - embedding).square().sum(2)
        return (-self.temperature * distance).exp().mean().log()


@register("toy_spectrum")
class Spectrum(AudioEncoder):
    """The lowest bands of the spectrum of frames of 20 ms, and a multi-layer perceptron on it."""

    sample_rate = 8_000

    def __init__(self, width: int = 16, hidden: int = 8) -> None:
        super().__init__()
        self.width = width
        self.mlp = nn.Sequential(nn.Linear(BANDS, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.mask_token = nn.Parameter(torch.zeros(width))

    def patchify(self, audio: Packed) -> Packed:
        clips = [[torch.fft.rfft(part, FRAME).abs()[:BANDS] for part in clip.split(FRAME)] for clip in audio.unpack()]
        frames = Packed.pack([torch.stack(clip) for clip in clips])
        return Packed(frames.values, frames.lengths, frames.index[:, None], frames.layout)

    def forward(self, patches: Packed, hidden: Tensor | None = None) -> Packed:
        x = self.mlp(patches.values)
        return patches.replace(x if hidden is None else torch.where(hidden[:, None], self.mask_token, x))
