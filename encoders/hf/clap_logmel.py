"""Log-mel spectrograms for CLAP models of the `transformers` library, on the device of the waveforms.

W windows, N samples of all windows, T frames of a window at full length, F mel bands.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from slap.core.errors import UserError
from slap.core.packed import Packed

PADDINGS = ("repeatpad", "repeat", "pad")
"""Ways to pad a window: with whole repeats and then silence, with repeats that are cut off, or with silence."""


class ClapLogMel(nn.Module):
    """Log-mel spectrogram, equal to that of `ClapFeatureExtractor` up to 1e-4 dB for clips that fit into a window.

    The caller cuts longer clips into windows; the extractor would take random parts of them.

    Args:
        extractor: a `ClapFeatureExtractor`. Its `truncation` says which mel bands the model was trained on.

    Attributes:
        longest: maximal number of samples per window.
        frames: T.

    Raises:
        ValueError: an unknown way of padding.
    """

    def __init__(self, extractor: Any) -> None:
        super().__init__()
        if extractor.padding not in PADDINGS:
            raise UserError(f"padding must be one of {', '.join(PADDINGS)}; the extractor has {extractor.padding!r}")
        self.padding: str = extractor.padding
        self.longest: int = extractor.nb_max_samples
        self.fft: int = extractor.fft_window_size
        self.hop: int = extractor.hop_length
        self.frames = self.longest // self.hop + 1
        bank = extractor.mel_filters if extractor.truncation == "fusion" else extractor.mel_filters_slaney
        # No buffers, so that they are not converted to a lower precision with the model: in quiet bands, rounding would
        # be louder than the sound.
        self.bank = torch.from_numpy(bank).double()
        self.hann = torch.hann_window(self.fft, dtype=torch.float64)

    def forward(self, windows: Packed) -> Tensor:
        """Turn waveforms, (N,), into decibels, (W, T, F), float32.

        Raises:
            ValueError: a window has no samples, or is too long.
        """
        if 0 in windows.sizes:
            raise UserError(f"clip {windows.sizes.index(0)} of the batch has no samples; the shortest clip has one")
        if windows.max_length > self.longest:
            raise UserError(f"a window has {windows.max_length} samples, the model takes {self.longest}")
        device = windows.values.device
        self.bank, self.hann = self.bank.to(device), self.hann.to(device)
        return torch.stack([self._decibels(self._padded(wave)) for wave in windows.unpack()])

    def _padded(self, wave: Tensor) -> Tensor:
        """Pad a window, (n,) -> (longest,)."""
        if self.padding == "repeat":
            return wave.repeat(self.longest // len(wave) + 1)[: self.longest]
        if self.padding == "repeatpad":
            wave = wave.repeat(self.longest // len(wave))
        return nn.functional.pad(wave, (0, self.longest - len(wave)))

    def _decibels(self, wave: Tensor) -> Tensor:
        """Compute the decibels of a window, (longest,) -> (T, F)."""
        spectrum = torch.stft(wave.double(), self.fft, self.hop, window=self.hann, return_complex=True)
        power = spectrum.abs().square().T @ self.bank
        return (10 * power.clamp(min=1e-10).log10()).float()
