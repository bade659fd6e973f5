"""SLAP's audio encoder (arXiv 2601.12594): a transformer on patches of log-mel spectrograms of any duration, packed.

B clips, T frames of all clips, F mel bands, N patches of all clips, D width.

The paper states patches of 160 ms x 16 bands, 2-D rotary positions, RMSNorm, SwiGLU, local and global attention, and
the size `base`. The front-end's details, the unit of the window, the learned token of hidden patches and the smaller
sizes are our choice.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from slap.core.errors import UserError
from slap.core.packed import Layout, Packed
from slap.core.registry import register
from slap.encoders.audio_transformer_export import AudioTransformerGraph
from slap.encoders.logmel import LogMel
from slap.encoders.sizes import Size
from slap.encoders.specaugment import SpecAugment
from slap.model.contracts import AudioEncoder
from slap.nn.layers import Block, RMSNorm, linear, rotary
from slap.nn.stack import compile_blocks, run_blocks

PATCH = 16
"""Frames per patch, and mel bands per patch."""


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
        row_embedding: add to each patch a learned vector of its row (of 16 mel bands). Rotary positions give only the
            distance of patches, and norms without biases remove a patch's level; with this vector, a block knows from
            the first step which bands are loud. Not in the paper (our choice for small corpora, see docs/log.md).
        checkpointing: recompute blocks in the backward pass instead of keeping their activations.
        compile: compile each block with `torch.compile`, see `slap.nn.stack`. The `compile` of `SLAP` does so for all
            parts of a model.

    Raises:
        ValueError: an unknown size, or bands that are no multiple of 16.
    """

    sample_rate = 16_000

    def __init__(
        self,
        size: str = "base",
        window: int = 24,
        local: int = 2,
        bands: int = 64,
        mask_bands: int = 16,
        mask_share: float = 0.15,
        mask_from: float = 0.0,
        row_embedding: bool = False,
        checkpointing: bool = False,
        compile: bool = False,  # noqa: A002 - the name that torch.nn.Module uses
    ) -> None:
        super().__init__()
        shape = Size.of(size)
        if bands % PATCH or bands <= 0:
            raise UserError(f"bands must be a multiple of {PATCH}, the height of a patch; got {bands}")
        self.width = shape.width
        self.rows = bands // PATCH
        self.head_width = shape.width // shape.heads
        self.checkpointing = checkpointing
        self.logmel = LogMel(self.sample_rate, bands=bands)
        self.step = PATCH * self.logmel.hop / self.sample_rate
        self.augment = SpecAugment(
            mask_bands, mask_share, shortest=round(mask_from * self.sample_rate / self.logmel.hop)
        )
        self.embed = linear(PATCH * PATCH, shape.width)
        self.row_embedding = nn.Parameter(torch.randn(self.rows, shape.width)) if row_embedding else None
        self.mask_token = nn.Parameter(torch.randn(shape.width) * 0.02)
        self.blocks = nn.ModuleList(
            Block(shape.width, shape.heads, shape.hidden, window if i % (local + 1) < local else None)
            for i in range(shape.layers)
        )
        self.norm = RMSNorm(shape.width)
        if compile:
            compile_blocks(self)

    def patchify(self, audio: Packed) -> Packed:
        """Turn waveforms, (N,), into patches, (N', 16 x 16), with (time, frequency) positions.

        The frames of a clip are padded to whole patches with the mean, 0: at most 150 ms.
        """
        frames = self.augment(self.logmel(audio))
        columns = tuple(-(-size // PATCH) for size in frames.sizes)
        device = frames.values.device
        lengths = (frames.lengths + (PATCH - 1)) // PATCH
        steps = Layout(lengths, columns)
        # Each clip's frames move up by the padding of the clips before it.
        filled = frames.values.new_zeros(steps.total * PATCH, frames.values.shape[1])
        place = (steps.cu_seqlens[:-1].long() * PATCH)[frames.item] + frames.index
        filled[place] = frames.values
        patches = rearrange(filled, "(n t) (rows f) -> (n rows) (t f)", t=PATCH, rows=self.rows)
        row = torch.arange(self.rows, device=device)
        positions = torch.stack([steps.index.repeat_interleave(self.rows), row.repeat(steps.total)], 1)
        layout = Layout(lengths * self.rows, tuple(n * self.rows for n in columns))
        return Packed(patches, layout.lengths, positions, layout)

    def forward(self, patches: Packed, hidden: Tensor | None = None) -> Packed:
        """Encode patches, (N, 256), as dense features, (N, D); a learned token replaces hidden patches, (N,).

        The paper masks patches without saying how; replacing them allows comparing their outputs to the teacher's.
        """
        x = self.embed(patches.values.to(self.embed.weight.dtype))
        if hidden is not None:
            x = torch.where(hidden[:, None], self.mask_token.to(x.dtype), x)
        assert patches.positions is not None
        if self.row_embedding is not None:
            x = x + self.row_embedding[patches.positions[:, 1]].to(x.dtype)
        rotation = rotary(patches.positions, self.head_width)
        x = run_blocks(self.blocks, x, patches.layout, rotation, self.checkpointing and self.training)
        return patches.replace(self.norm(x))

    def graph(self) -> AudioTransformerGraph:
        """Return this encoder for one waveform, (T,) to (N, D)."""
        return AudioTransformerGraph(
            self.logmel, self.embed, self.row_embedding, self.blocks, self.norm, self.head_width, PATCH
        )
