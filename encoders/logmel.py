"""Log-mel spectrograms of packed waveforms, on their device, without padding between clips.

B clips, N samples, T frames of all clips, F mel bands, S samples of a window.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from slap.core.errors import UserError
from slap.core.packed import Layout, Packed
from slap.nn.precision import FullPrecision

CHUNK = 16_384
"""Maximal number of frames per Fourier transform, which limits the memory for long batches."""


class LogMel(FullPrecision):
    """Log-mel spectrogram, equal to `torchaudio.transforms.MelSpectrogram` (centered, reflecting) of each clip.

    A clip of n samples has 1 + n // hop frames. Clips shorter than half a window are reflected more than once, which
    torch's own reflection refuses; so a clip of one sample becomes a constant.

    Args:
        sample_rate: sample rate, in Hz.
        window: length of the Hann window, in samples (the paper: 25 ms).
        hop: samples from the start of a frame to the start of the next (the paper: 10 ms).
        bands: F (the paper: 64), on the HTK mel scale from 0 Hz to half the sample rate (our choice).
        fft: length of the Fourier transform, in samples, with the window in its middle. The paper does not state it;
            512 is fast (our choice).
        floor: term added to the power before the logarithm (our choice; near the noise of 16-bit audio).
        mean: term subtracted from the logarithm.
        scale: divisor of the logarithm, so that typical audio has values around -1 to 1 (our choice: it is fixed, so
            that a clip does not depend on its batch and keeps its loudness).
    """

    def __init__(
        self,
        sample_rate: int = 16_000,
        window: int = 400,
        hop: int = 160,
        bands: int = 64,
        fft: int = 512,
        floor: float = 1e-6,
        mean: float = -6.0,
        scale: float = 5.0,
    ) -> None:
        super().__init__()
        self.hop = hop
        self.fft = fft
        self.floor = floor
        self.mean = mean
        self.scale = scale
        margin = fft - window
        hann = nn.functional.pad(torch.hann_window(window), (margin // 2, margin - margin // 2))
        self.register_buffer("hann", hann, persistent=False)
        bank = melscale_fbanks(fft // 2 + 1, 0.0, sample_rate / 2, bands, sample_rate)
        self.register_buffer("bank", bank, persistent=False)
        self.hann: Tensor
        self.bank: Tensor

    def forward(self, audio: Packed) -> Packed:
        """Turn waveforms, (N,), into normalized log-mel frames, (T, F), float32.

        Raises:
            ValueError: a clip has no samples.
        """
        power = self.power(audio)
        return power.replace((torch.log(power.values + self.floor) - self.mean) / self.scale)

    @torch.autocast("cuda", enabled=False)
    @torch.autocast("cpu", enabled=False)
    def power(self, audio: Packed) -> Packed:
        """Turn waveforms, (N,), into frames of mel power, (T, F), float32."""
        if 0 in audio.sizes:
            raise UserError(f"clip {audio.sizes.index(0)} of the batch has no samples; the shortest clip has one")
        sizes = tuple(1 + size // self.hop for size in audio.sizes)
        lengths = 1 + audio.lengths // self.hop
        frames = Layout(lengths, sizes)
        waves = audio.values.float()[_reflected(audio.layout, self.fft // 2)]
        starts = audio.layout.cu_seqlens[:-1].long() + self.fft * torch.arange(len(sizes), device=waves.device)
        starts = starts[frames.item] + self.hop * frames.index
        windows = waves.unfold(0, self.fft, 1)  # a view: row s holds the samples from s on
        parts = [self.mel(windows[chunk]) for chunk in starts.split(CHUNK)]
        return Packed(torch.cat(parts), lengths, layout=frames)

    def mel(self, windows: Tensor) -> Tensor:
        """Turn windows of samples, (T, fft), into frames of mel power, (T, F)."""
        spectrum = torch.view_as_real(torch.fft.rfft(windows * self.hann))
        return spectrum.square().sum(-1) @ self.bank


def _reflected(layout: Layout, margin: int) -> Tensor:
    """Return the sample at each place, (N + 2 B margin,), when each clip is reflected by a margin at both ends."""
    lengths = layout.lengths.long() + 2 * margin
    total = layout.total + 2 * margin * len(layout.sizes)
    clip = torch.arange(len(layout.sizes), device=lengths.device).repeat_interleave(lengths, output_size=total)
    place = torch.arange(total, device=lengths.device) - (lengths.cumsum(0) - lengths)[clip] - margin
    last = (layout.lengths.long() - 1)[clip]
    period = (2 * last).clamp(min=1)
    place = (place + last).remainder(period) - last  # a triangle wave: ... 2 1 0 1 2 ... last ... 2 1 0 ...
    return layout.cu_seqlens[:-1].long()[clip] + torch.minimum(place.abs(), last)
