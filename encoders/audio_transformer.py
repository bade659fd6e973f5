"""SLAP's audio encoder (arXiv 2601.12594): a transformer on patches of log-mel spectrograms of any duration, packed.

B clips, T frames of all clips, F mel bands, N patches of all clips, D width.

The paper states patches of 160 ms x 16 bands, 2-D rotary positions, RMSNorm, SwiGLU, local and global attention, and
the size `base`. The front-end's details, the unit of the window, the learned token of hidden patches and the smaller
sizes are our choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from slap.core.errors import UserError
from slap.core.packed import Layout, Packed
from slap.core.registry import register
from slap.encoders import logmel as front_end
from slap.encoders.audio_transformer_export import AudioTransformerGraph
from slap.encoders.logmel import LogMel
from slap.encoders.sizes import Size
from slap.encoders.specaugment import SpecAugment
from slap.model.contracts import AudioEncoder
from slap.nn.layers import Block, RMSNorm, linear, rotary
from slap.nn.pooling import LOG_FEATURES, log_features
from slap.nn.stack import compile_blocks, run_blocks

PATCH = (16, 16)
"""Frames per patch, and mel bands per patch, as in the paper."""

FILLS = ("silence", "mean")
LEVELS = ("fixed", "rms", "rms_feature")


@register("transformer")
class AudioTransformer(AudioEncoder):
    """The paper's audio encoder (arXiv 2601.12594): patches of 160 ms x 16 mel bands, 25 patches per second.

    2-D rotary position embedding, RMSNorm before each part, SwiGLU, no biases; two blocks of local attention, then a
    global one, repeated. Patches are ordered by time, then by frequency.

    Args:
        size: `base` is the paper's (12 blocks, width 768, 12 heads, feed-forward 3072); `small` and `tiny` (trains in
            minutes on a CPU) are ours.
        window: window of local attention, in patches: each attends to window / 2 before and after it. The paper says 24
            without the unit; our choice is patches, the unit of its sequence, so 24 reach about half a second to either
            side.
        local: number of blocks of local attention before each global one; 0 makes all blocks global.
        bands: number of mel bands, a multiple of 16.
        mask_bands: widest SpecAugment mask in frequency, in mel bands; 0 for none.
        mask_share: widest SpecAugment mask in time, as a share of the clip; 0 for none.
        mask_from: least duration of clips with SpecAugment, in seconds.
        patch: frames of 10 ms per patch, and mel bands per patch. 4 and 64 give as many patches as the paper's 16 and
            16, each a fourth as long and with all bands (our choice for speech and short sounds, see docs/log.md).
        row_embedding: add to each patch a learned vector of its row (of 16 mel bands). Rotary positions give only the
            distance of patches, and norms without biases remove a patch's level; with this vector, a block knows from
            the first step which bands are loud. Not in the paper; default: for all sizes but `base` (our choice, see
            docs/log.md).
        fill: value of the frames that complete the last patch of a clip, at most 150 ms: `silence`, or `mean`, as in
            models that were trained before this option.
        level: what the encoder hears of a clip's loudness: `fixed` leaves it in the spectrogram, `rms` brings each clip
            to the same level, and `rms_feature` adds the level to each patch as a feature of its own. A window of a
            longer clip has its own level.
        clip_times: add to each patch a learned function of the time since the beginning of its clip and until its end.
            Rotary positions give only the distances of patches, so what is early or late, and how long a clip is, must
            otherwise be found from patch to patch (our choice, see docs/log.md). Each window of a longer clip has its
            own beginning and end.
        checkpointing: recompute blocks in the backward pass instead of keeping their activations.
        compile: compile each block with `torch.compile`, see `slap.nn.stack`. The `compile` of `SLAP` does so for all
            parts of a model.

    Raises:
        ValueError: an unknown size, `fill` or `level`, or bands that are no multiple of 16.
    """

    sample_rate = 16_000
    any_patches = True
    older = MappingProxyType({"row_embedding": False, "fill": "mean"})

    def __init__(
        self,
        size: str = "base",
        window: int = 24,
        local: int = 2,
        bands: int = 64,
        mask_bands: int = 16,
        mask_share: float = 0.15,
        mask_from: float = 0.0,
        patch: Sequence[int] = PATCH,
        row_embedding: bool | None = None,
        fill: str = "silence",
        level: str = "fixed",
        clip_times: bool = False,
        checkpointing: bool = False,
        compile: bool = False,  # noqa: A002 - the name that torch.nn.Module uses
    ) -> None:
        super().__init__()
        shape = Size.of(size)
        frames, height = _checked_patch(patch)
        if bands % height or bands <= 0:
            raise UserError(f"bands must be a multiple of {height}, the height of a patch; got {bands}")
        if fill not in FILLS or level not in LEVELS:
            raise UserError(
                f"fill must be one of {', '.join(FILLS)}, and level one of {', '.join(LEVELS)}; "
                f"got fill={fill!r}, level={level!r}"
            )
        self.width = shape.width
        self.fill, self.level = fill, level
        self.patch = frames, height
        self.rows = bands // height
        self.head_width = shape.width // shape.heads
        self.checkpointing = checkpointing
        self.logmel = LogMel(self.sample_rate, bands=bands, equalize=level != "fixed")
        self.step = frames * self.logmel.hop / self.sample_rate
        self.augment = SpecAugment(
            mask_bands, mask_share, shortest=round(mask_from * self.sample_rate / self.logmel.hop)
        )
        self.embed = linear(frames * height, shape.width)
        with_rows = size != "base" if row_embedding is None else row_embedding
        self.row_embedding = nn.Parameter(torch.randn(self.rows, shape.width)) if with_rows else None
        self.level_embedding = nn.Parameter(torch.zeros(shape.width)) if level == "rms_feature" else None
        self.clip_times = ClipTimes(shape.width) if clip_times else None
        self.mask_token = nn.Parameter(torch.randn(shape.width) * 0.02)
        self.blocks = nn.ModuleList(
            Block(shape.width, shape.heads, shape.hidden, window if i % (local + 1) < local else None)
            for i in range(shape.layers)
        )
        self.norm = RMSNorm(shape.width)
        if compile:
            compile_blocks(self)

    def patchify(self, audio: Packed) -> Packed:
        """Turn waveforms, (N,), into patches, (N', P), with (time, frequency) positions.

        With `clip_times`, the number of time steps of its clip is a third coordinate of each patch.

        The frames of a clip are filled up to whole patches, see `fill`. With the level as a feature, it is one more
        column, (N', P + 1).
        """
        frames = self.augment(self.logmel(audio))
        width = self.patch[0]
        columns = tuple(-(-size // width) for size in frames.sizes)
        device = frames.values.device
        lengths = (frames.lengths + (width - 1)) // width
        steps = Layout(lengths, columns)
        # Each clip's frames move up by the padding of the clips before it.
        filled = frames.values.new_full((steps.total * width, frames.values.shape[1]), self._filling())
        place = (steps.cu_seqlens[:-1].long() * width)[frames.item] + frames.index
        filled[place] = frames.values
        patches = rearrange(filled, "(n t) (rows f) -> (n rows) (t f)", t=width, rows=self.rows)
        row = torch.arange(self.rows, device=device)
        coordinates = [steps.index.repeat_interleave(self.rows), row.repeat(steps.total)]
        if self.clip_times is not None:
            coordinates.append(lengths[steps.item].repeat_interleave(self.rows))
        positions = torch.stack(coordinates, 1)
        layout = Layout(lengths * self.rows, tuple(n * self.rows for n in columns))
        if self.level_embedding is not None:
            patches = torch.cat([patches, front_end.level(front_end.mean_square(audio))[layout.item, None]], 1)
        return Packed(patches, layout.lengths, positions, layout)

    def forward(self, patches: Packed, hidden: Tensor | None = None) -> Packed:
        """Encode patches, (N, P), as dense features, (N, D); a learned token replaces hidden patches, (N,).

        The paper masks patches without saying how; replacing them allows comparing their outputs to the teacher's.
        """
        values = patches.values.to(self.embed.weight.dtype)
        x = self.embed(values[:, : self.embed.in_features])
        if self.level_embedding is not None:
            x = x + values[:, self.embed.in_features :] * self.level_embedding.to(x.dtype)
        if hidden is not None:
            x = torch.where(hidden[:, None], self.mask_token.to(x.dtype), x)
        assert patches.positions is not None
        if self.row_embedding is not None:
            x = x + self.row_embedding[patches.positions[:, 1]].to(x.dtype)
        if self.clip_times is not None:
            x = x + self.clip_times(patches.positions[:, 0], patches.positions[:, 2]).to(x.dtype)
        rotation = rotary(patches.positions[:, :2], self.head_width)
        x = run_blocks(self.blocks, x, patches.layout, rotation, self.checkpointing and self.training)
        return patches.replace(self.norm(x))

    def graph(self) -> AudioTransformerGraph:
        """Return this encoder for one waveform, (T,) to (N, D)."""
        added = self.row_embedding, self.level_embedding, self.clip_times
        return AudioTransformerGraph(
            self.logmel, self.embed, *added, self.blocks, self.norm, self.head_width, self.patch, self._filling()
        )

    def portable(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments with those whose defaults have changed or depend on others, as they are here."""
        return {**options, "row_embedding": self.row_embedding is not None, "fill": self.fill}

    def adopt(self, values: Mapping[str, Any]) -> None:
        """Take over `fill` and the absence of `row_embedding`."""
        self.fill = values.get("fill", self.fill)
        if not values.get("row_embedding", True):
            self.row_embedding = None

    def _filling(self) -> float:
        return self.logmel.silence if self.fill == "silence" else 0.0


class ClipTimes(nn.Module):
    """A learned function of the time since the beginning of a clip and until its end, 0 at first.

    Args:
        width: D of its output.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(2 * LOG_FEATURES, width, bias=False)
        nn.init.zeros_(self.project.weight)

    def forward(self, place: Tensor, steps: Tensor) -> Tensor:
        """Return (N, D) for time steps, (N,), of clips of as many steps as `steps`, (N,), says."""
        features = torch.cat([log_features(place + 1), log_features(steps - place)], 1)
        return self.project(features.to(self.project.weight.dtype))


def _checked_patch(patch: Sequence[int]) -> tuple[int, int]:
    """Return the frames and the bands of a patch.

    Raises:
        ValueError: they are not two whole numbers above 0.
    """
    if len(patch) != 2 or any(size <= 0 for size in patch):
        raise UserError(f"patch must be two numbers above 0, frames and mel bands; got {list(patch)}")
    return patch[0], patch[1]
