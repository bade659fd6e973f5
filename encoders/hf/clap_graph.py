"""The audio encoder of CLAP for one clip of any length, for torch.export and ONNX.

T samples, W windows of the clip, S samples of a window, F frames of a window, M mel bands, N patches, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad


class ClapGraph(nn.Module):
    """`HFCLAP.patchify` and `forward` for one clip, with the same weights.

    The windows are those of `slap.encoders.hf.windows.cut`. As there, spectrograms are computed in double precision.

    Args:
        encoder: an `HFCLAP`, whose file imports this one.

    Raises:
        NotImplementedError: its windows are no whole number of frames.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        front = encoder.logmel
        if front.longest % front.hop:
            raise NotImplementedError(
                f"windows of {front.longest} samples are no multiple of {front.hop}, so they cannot be exported"
            )
        self.padding, self.longest, self.fft, self.hop = front.padding, front.longest, front.fft, front.hop
        self.register_buffer("bank", front.bank, persistent=False)
        self.register_buffer("hann", front.hann, persistent=False)
        # Bicubic interpolation in time is linear in its input, and the same for all windows: a matrix.
        size = encoder.chunks * encoder.grid * encoder.cell
        eye = torch.eye(front.frames)[None, None]
        stretch = interpolate(eye, (size, front.frames), mode="bicubic", align_corners=True)[0, 0]
        self.register_buffer("stretch", stretch, persistent=False)
        self.bank: Tensor
        self.hann: Tensor
        self.stretch: Tensor

    def forward(self, audio: Tensor) -> Tensor:
        """Encode a waveform, (T,) float32, as dense features, (N, D)."""
        norm = self.encoder.model.audio_encoder.batch_norm
        mel = self.decibels(self.windows(audio))
        mel = (mel - norm.running_mean) * (norm.running_var + norm.eps).rsqrt()
        cell = self.encoder.cell
        patches = rearrange(self.stretch @ mel, "w (t i) (f j) -> (w t f) (i j)", i=cell, j=cell)
        return self.encoder.encode(patches)

    def windows(self, audio: Tensor) -> Tensor:
        """Cut a waveform, (T,), into padded windows, (W, S)."""
        total = torch.full((1, 1), audio.shape[0], device=audio.device)
        count = (total + self.longest - 1) // self.longest
        steps = (total + count * self.hop - 1) // (count * self.hop)
        length = torch.where(count == 1, total, steps * self.hop)
        number = torch.arange((audio.shape[0] + self.longest - 1) // self.longest, device=audio.device)[:, None]
        begin = number * length
        size = (total - begin).clamp(max=length)
        place = torch.arange(self.longest, device=audio.device)[None]
        if self.padding == "pad":
            inside = place < size
        else:
            repeats = torch.full_like(size, self.longest) // size + (1 if self.padding == "repeat" else 0)
            inside = place < repeats * size
        picked = audio.float()[begin + place % size]
        return torch.where(inside, picked, 0.0)

    def decibels(self, windows: Tensor) -> Tensor:
        """Compute log-mel spectrograms, (W, S) -> (W, F, M) float32, as `ClapLogMel`."""
        margin = self.fft // 2
        waves = pad(windows[:, None].double(), (margin, margin), mode="reflect")[:, 0]
        spectrum = torch.view_as_real(torch.fft.rfft(waves.unfold(1, self.fft, self.hop) * self.hann))
        power = spectrum.square().sum(-1) @ self.bank
        return (10 * power.clamp(min=1e-10).log10()).float()
