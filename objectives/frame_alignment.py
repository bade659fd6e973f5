"""Alignment of phrases with the frames in which they are heard, from strong labels (FineLAP, arXiv 2604.01155).

B clips, of which some have segments; F frames of all clips: the time steps of the audio encoder; P phrases of the
global batch, K segments of a clip at most, D width of the audio encoder, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from slap.core.batch import Batch, fingerprint
from slap.core.calibration import Calibration
from slap.core.distributed import all_sum, gather, world_size
from slap.core.errors import UserError
from slap.core.packed import Packed
from slap.core.registry import register
from slap.core.segments import merged, phrases_of
from slap.model.contracts import AlignsFrames, ModelParts, Objective
from slap.model.views import Views, by_clip
from slap.nn.chunking import checkpointed_chunks
from slap.nn.precision import FullPrecision
from slap.nn.time_steps import mean_of_steps, time_steps

VIEWS = ("full", "masked")


@register("frame_alignment")
class FrameAlignment(FullPrecision, AlignsFrames, Objective):
    """Pairwise sigmoid loss between frames and phrases: a binary decision for each pair (FineLAP, arXiv 2604.01155).

    Clips with `segments` say when each of their phrases is heard. Every phrase of the global batch is compared with
    every frame of such a clip, also phrases of other clips: what a clip's segments do not name is not heard in it.
    Equal phrases are one, and several may be heard at once. Frames of clips without segments do not count, since what
    is heard in them is not known.

    As in FineLAP the features of a time step are pooled and projected by a head of their own, because the embedding of
    a whole clip is trained for something else. Phrases are embedded as captions are. FineLAP draws a fixed number of
    phrases per clip and labels whole frames; ours are two other choices. All phrases of the batch are compared, with a
    bias far below 0 as in SigLIP (arXiv 2303.15343), since nearly all pairs are negatives. The target of a frame is the
    share of it in which the phrase is heard, so that sounds shorter than a frame count.

    It sees all clips, with captions or without: phrases are its text.

    Args:
        scale: initial factor on the cosines; its logarithm is learned.
        bias: initial bias of the logits.
        hidden: width of the hidden layer of the head. Default: the shared dimension.
        view: the view of the audio: `full`, or `masked`, which shares the pass of `masked_distillation`.

    Raises:
        ValueError: the scale is not positive, or there is no such view.
    """

    uses_text = False

    def __init__(self, scale: float = 10.0, bias: float = -10.0, hidden: int | None = None, view: str = "full") -> None:
        super().__init__()
        if scale <= 0:
            raise UserError(f"scale must be positive, since its logarithm is learned; got {scale}")
        if view not in VIEWS:
            raise UserError(f"view must be one of {', '.join(VIEWS)}; got {view!r}")
        self.view, self.hidden = view, hidden
        self.log_scale = nn.Parameter(torch.tensor(log(scale)))
        self.bias = nn.Parameter(torch.tensor(float(bias)))

    def setup(self, model: ModelParts) -> None:
        """Build the head.

        Raises:
            ValueError: the patches of the audio encoder have no time.
        """
        if model.audio.step is None:
            raise UserError(
                f"frame_alignment needs the time of patches, and {type(model.audio).__name__} does not say what time "
                "they stand for (its attribute `step`)"
            )
        self.step, self.sample_rate = model.audio.step, model.audio.sample_rate
        width, hidden = model.audio.width, self.hidden or model.embedding_dim
        self.head = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, model.embedding_dim)
        )

    def frames(self, tokens: Packed) -> tuple[Tensor, Tensor, Tensor]:
        """Embed time steps, see `slap.model.contracts.AlignsFrames`."""
        steps = time_steps(tokens)
        pooled = mean_of_steps(tokens.values.to(next(self.head.parameters()).dtype), steps)
        projected = self.head(pooled)
        return (
            normalize(projected.to(torch.promote_types(projected.dtype, torch.float32)), dim=1),
            steps.item,
            steps.time,
        )

    def frame_calibration(self) -> Calibration:
        """Return the probability that a phrase is heard in a frame: a sigmoid with the learned scale and bias."""
        return Calibration("sigmoid", float(self.log_scale.detach().exp()), float(self.bias.detach()))

    def per_clip(self, views: Views) -> Mapping[str, Tensor]:
        """Return the embeddings of frames, and those of phrases with their keys."""
        names = phrases_of(views.batch.segments)
        keys = fingerprint(names).to(views.batch.clip_key.device, non_blocking=True)
        frames, _, _ = self.frames(getattr(views, self.view).tokens)
        return {"frames": frames, "phrases": views.phrases.embedding, "keys": keys}

    def forward(self, views: Views) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the sum over phrases, its mean over the frames of all clips with segments, on all processes.

        It logs scale and bias, the number of phrases, and the share of frames whose clip has segments.
        """
        found = views.per_clip(self)
        phrases, keys = gather(found["phrases"]), gather(found["keys"])
        first = (
            first_columns(keys, keys) == torch.arange(len(keys), device=keys.device)
        ).float()  # equal ones count once
        where, table = self._frames_of(views), _table(views.batch, keys)
        scale = self.log_scale.exp()

        def of_frames(frames: Tensor, clip: Tensor, begin: Tensor, end: Tensor) -> Tensor:
            targets = _targets(table, clip, begin, end, len(keys)).to(frames.dtype)
            logits = scale * frames @ phrases.T + self.bias
            return (binary_cross_entropy_with_logits(logits, targets, reduction="none") * first).sum(1)

        with torch.autocast(phrases.device.type, enabled=False):  # as for `contrastive`: the logits are large
            losses = checkpointed_chunks(of_frames, [found["frames"], *where], views.chunks)
        known = table.known[where.clip] & (where.end > where.begin)
        views.note(by_clip(losses.masked_fill(~known, torch.nan), where.clip, len(views.batch)))
        counted, frames = all_sum(torch.stack([known.sum(), known.new_tensor(len(known), dtype=torch.int64)]))
        loss = losses.masked_fill(~known, 0.0).sum() * world_size() / counted.clamp(min=1)
        labeled = counted / frames.clamp(min=1)
        scalars = {"scale": scale.detach(), "bias": self.bias.detach().clone()}
        return loss, {**scalars, "phrases": first.sum(), "labeled": labeled}

    def health_check(self, logged: Mapping[str, float]) -> str | None:
        """Report batches without segments, from which nothing is learned."""
        if logged.get("labeled", 1.0) > 0:
            return None
        return "no clip of the batches has `segments` in its manifest, so frame_alignment learns nothing"

    def _frames_of(self, views: Views) -> _Where:
        """Return clip, begin and end of each frame; one after the end of its clip, as of padding, has no duration."""
        item, time, _ = time_steps(views.outline)
        seconds = views.batch.audio.lengths.double() / self.sample_rate
        begin = time.double() * self.step
        end = torch.minimum(begin + self.step, seconds[item])
        return _Where(item, begin, torch.maximum(begin, end))


class _Where(NamedTuple):
    """Clip, begin and end of each frame, (F,) each, in seconds."""

    clip: Tensor
    begin: Tensor
    end: Tensor


class _Table(NamedTuple):
    """The segments of each clip.

    Attributes:
        start: (B, K) float64, seconds.
        end: (B, K) float64; equal to `start` where a clip has fewer segments.
        column: (B, K) int64, the column of its phrase.
        known: (B,) bool, the clips with segments.
    """

    start: Tensor
    end: Tensor
    column: Tensor
    known: Tensor


def first_columns(keys: Tensor, wanted: Tensor) -> Tensor:
    """Return the first column that has each of some keys; any column for a key that none has.

    Args:
        keys: (P,) int64, the key of each column.
        wanted: any shape, int64.

    Example:
        >>> first_columns(torch.tensor([7, 5, 7]), torch.tensor([[7, 5]])).tolist()
        [[0, 1]]
    """
    if not len(keys):
        return torch.zeros_like(wanted)
    ordered, order = keys.sort(stable=True)
    return order[torch.searchsorted(ordered, wanted.contiguous()).clamp(max=len(keys) - 1)]


def _table(batch: Batch, keys: Tensor) -> _Table:
    """Lay out the segments of a batch, of which no two of one phrase overlap, on its device."""
    own = [merged(known or ()) for known in batch.segments or (None,) * len(batch)]
    most = max(map(len, own), default=0)
    times = torch.zeros(2, len(own), most, dtype=torch.float64)
    named = torch.zeros(len(own), most, dtype=torch.int64)
    for clip, segments in enumerate(own):
        if segments:
            times[:, clip, : len(segments)] = torch.tensor([one[:2] for one in segments], dtype=torch.float64).T
            named[clip, : len(segments)] = fingerprint([one.text for one in segments])
    known = torch.tensor([known is not None for known in batch.segments] or [False] * len(batch), dtype=torch.bool)
    start, end, named, known = (part.to(keys.device, non_blocking=True) for part in (*times, named, known))
    return _Table(start, end, first_columns(keys, named), known)


def _targets(table: _Table, clip: Tensor, begin: Tensor, end: Tensor, phrases: int) -> Tensor:
    """Compute the share of each frame in which each phrase is heard, (F, P), 0 to 1."""
    heard = torch.minimum(end[:, None], table.end[clip]) - torch.maximum(begin[:, None], table.start[clip])
    share = heard.clamp(min=0) / (end - begin).clamp(min=1e-9)[:, None]
    found = torch.zeros(len(clip), phrases, dtype=share.dtype, device=share.device)
    return found.scatter_add(1, table.column[clip], share).clamp(max=1) if phrases else found
