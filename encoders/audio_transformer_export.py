"""The audio encoder `transformer` for one clip of any length, for torch.export and ONNX.

T samples, F frames, N patches, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from slap.encoders.logmel import QUIETEST, LogMel, gain, level
from slap.nn import single_clip
from slap.nn.layers import Block, rotary


class AudioTransformerGraph(nn.Module):
    """`AudioTransformer.patchify` and `forward` for one clip, with the same weights.

    Args:
        logmel: the front-end.
        embed: the projection of patches to width D.
        row_embedding: (rows, D), added to the patches of each row, or None.
        level_embedding: (D,), added to all patches in proportion to the clip's level, or None.
        clip_times: what is added to patches by their time from both ends of the clip, or None.
        blocks: the blocks of the transformer.
        norm: the norm after them.
        head_width: width of an attention head.
        patch: frames per patch, and mel bands per patch.
        filling: value of the frames that complete the last patch.
    """

    def __init__(
        self,
        logmel: LogMel,
        embed: nn.Module,
        row_embedding: nn.Parameter | None,
        level_embedding: nn.Parameter | None,
        clip_times: nn.Module | None,
        blocks: nn.ModuleList,
        norm: nn.Module,
        head_width: int,
        patch: tuple[int, int],
        filling: float,
    ) -> None:
        super().__init__()
        self.logmel, self.embed, self.blocks, self.norm = logmel, embed, blocks, norm
        self.row_embedding, self.level_embedding, self.clip_times = row_embedding, level_embedding, clip_times
        self.head_width, self.patch, self.filling = head_width, patch, filling

    def forward(self, audio: Tensor) -> Tensor:
        """Encode a waveform, (T,) float32, as dense features, (N, D)."""
        frames = self.frames(audio)
        width, height = self.patch
        steps, rows = (frames.shape[0] + width - 1) // width, frames.shape[1] // height
        filled = pad(frames, (0, 0, 0, width - 1), value=self.filling)[: steps * width]
        patches = filled.reshape(steps, width, rows, height).transpose(1, 2)
        x = self.embed(patches.reshape(steps * rows, width * height))
        if self.level_embedding is not None:
            x = x + level(self.mean_square(audio)) * self.level_embedding
        place = torch.arange(x.shape[0], device=x.device)
        if self.row_embedding is not None:
            x = x + self.row_embedding[place % rows]
        if self.clip_times is not None:
            x = x + self.clip_times(place // rows, torch.ones_like(place) * steps)
        rotation = rotary(torch.stack([place // rows, place % rows], 1), self.head_width)
        for layer in self.blocks:
            assert isinstance(layer, Block)
            x = single_clip.block(layer, x, rotation)
        return self.norm(x)

    def frames(self, audio: Tensor) -> Tensor:
        """Turn a waveform, (T,), into normalized log-mel frames, (F, bands), as `LogMel` does."""
        margin = self.logmel.fft // 2
        last = torch.full((1,), audio.shape[0] - 1, device=audio.device)
        place = torch.arange(audio.shape[0] + 2 * margin, device=audio.device) - margin
        place = (place + last).remainder((2 * last).clamp(min=1)) - last  # reflected as often as it takes
        waves = audio.float()[torch.minimum(place.abs(), last)]
        power = self.logmel.mel(waves.unfold(0, self.logmel.fft, self.logmel.hop))
        if self.logmel.equalize:
            power = power * gain(self.mean_square(audio))
        return self.logmel.normalized(power)

    @staticmethod
    def mean_square(audio: Tensor) -> Tensor:
        """Compute the mean square of a waveform, (T,) -> 0-dimensional, as `slap.encoders.logmel.mean_square`."""
        return audio.double().square().mean().clamp(min=QUIETEST).float()
