"""Log-mel spectrograms of packed waveforms, on their device, without padding between clips.

B clips, N samples, T frames of all clips, F mel bands, S samples of a window.
"""

from __future__ import annotations

from math import log

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from slap.core.errors import UserError
from slap.core.packed import Layout, Packed
from slap.nn.precision import FullPrecision

TARGET = 0.05**2
"""Mean square that equalized clips have: -26 dBFS, as usual for speech (our choice)."""

QUIETEST = 1e-10
"""Mean square below which clips count as if they had it: -100 dBFS, below the noise of 16-bit audio."""

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
            that a clip does not depend on its batch).
        equalize: bring each clip to the level `TARGET`, so that its loudness is no cue.
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
        equalize: bool = False,
    ) -> None:
        super().__init__()
        self.hop = hop
        self.fft = fft
        self.floor = floor
        self.mean = mean
        self.scale = scale
        self.equalize = equalize
        if torch.get_default_device().type == "meta":  # an outline, see `slap.core.outline`; torchaudio looks at values
            hann, bank = torch.empty(fft), torch.empty(fft // 2 + 1, bands)
        else:
            margin = fft - window
            hann = nn.functional.pad(torch.hann_window(window), (margin // 2, margin - margin // 2))
            bank = melscale_fbanks(fft // 2 + 1, 0.0, sample_rate / 2, bands, sample_rate)
        self.register_buffer("hann", hann, persistent=False)
        self.register_buffer("bank", bank, persistent=False)
        self.hann: Tensor
        self.bank: Tensor

    def forward(self, audio: Packed) -> Packed:
        """Turn waveforms, (N,), into normalized log-mel frames, (T, F), float32.

        Raises:
            ValueError: a clip has no samples.
        """
        power = self.power(audio)
        if self.equalize:
            power = power.replace(power.values * gain(mean_square(audio))[power.item, None])
        return power.replace(self.normalized(power.values))

    def normalized(self, power: Tensor) -> Tensor:
        """Turn mel power, (T, F), into the normalized logarithm."""
        return (torch.log(power + self.floor) - self.mean) / self.scale

    @property
    def silence(self) -> float:
        """The value of all bands in digital silence."""
        return (log(self.floor) - self.mean) / self.scale

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


def mean_square(audio: Packed) -> Tensor:
    """Compute the mean square of each clip's samples, (N,) -> (B,) float32, at least `QUIETEST`."""
    squares = audio.values.double().square()  # so that the sum does not depend on its order
    sums = squares.new_zeros(len(audio)).index_add_(0, audio.item, squares)
    return (sums / audio.lengths).clamp(min=QUIETEST).float()


def gain(square: Tensor) -> Tensor:
    """Return the factor on the power of clips that brings them to `TARGET`, from their mean squares, (B,) each."""
    return TARGET / square


def level(square: Tensor) -> Tensor:
    """Return the levels of clips relative to `TARGET`, in units of 20 dB, from their mean squares, (B,) each."""
    return torch.log10(square / TARGET) / 2


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
