"""SpecAugment (arXiv 1904.08779) on packed frames.

B clips, T frames of all clips, F bands, K masks per clip.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slap.core.errors import UserError
from slap.core.packed import Packed


class SpecAugment(nn.Module):
    """Random masks in frequency and time (arXiv 1904.08779), in training mode only.

    The widths of masks are drawn uniformly from 0 to their maximum, separately for each clip. The maximum in time is a
    share of the clip, so that a clip of half a second is not masked as a whole (the paper does not say; our choice).

    Args:
        bands: maximal width of a mask in frequency, in bands.
        share: maximal width of a mask in time, as a share of the clip's frames.
        band_masks: K in frequency.
        time_masks: K in time.
        shortest: least number of frames of clips to mask (our choice: masks cost half a second of speech too much).

    Raises:
        ValueError: the share is not from 0 to 1.
    """

    def __init__(
        self, bands: int = 16, share: float = 0.15, band_masks: int = 2, time_masks: int = 2, shortest: int = 0
    ) -> None:
        super().__init__()
        if not 0 <= share <= 1:
            raise UserError(f"share must lie in 0 to 1, got {share}")
        self.bands = bands
        self.share = share
        self.band_masks = band_masks
        self.time_masks = time_masks
        self.shortest = shortest

    def forward(self, frames: Packed) -> Packed:
        """Mask frames, (T, F) -> (T, F), with 0, the mean of normalized log-mel frames."""
        if not self.training:
            return frames
        clips, device = len(frames), frames.values.device
        height = frames.values.shape[1]
        bands = torch.arange(height, device=device).expand(clips, -1)
        lengths = frames.lengths.float()
        share = self.share * (lengths >= self.shortest)
        limit = min(self.bands, height) * (lengths >= self.shortest)
        hide_bands = _masks(bands, limit, torch.full_like(lengths, float(height)), self.band_masks)
        start, end = _spans(lengths * share, lengths, self.time_masks)
        place = frames.index[:, None]
        hide_times = ((place >= start[frames.item]) & (place < end[frames.item])).any(1)
        return frames.replace(frames.values.masked_fill(hide_bands[frames.item] | hide_times[:, None], 0))


def _spans(widest: Tensor, lengths: Tensor, masks: int) -> tuple[Tensor, Tensor]:
    """Draw starts and ends, (B, K), of random spans within lengths (B,), at most `widest` (B,) wide."""
    width = torch.rand(len(lengths), masks, device=lengths.device) * widest[:, None]
    start = torch.rand(len(lengths), masks, device=lengths.device) * (lengths[:, None] - width)
    return start.round(), (start + width).round()


def _masks(places: Tensor, widest: Tensor, lengths: Tensor, masks: int) -> Tensor:
    """Draw masks, (B, F) bool, which are True in random spans along `places` (B, F)."""
    start, end = _spans(widest, lengths, masks)
    inside = (places[:, :, None] >= start[:, None]) & (places[:, :, None] < end[:, None])
    return inside.any(2)
