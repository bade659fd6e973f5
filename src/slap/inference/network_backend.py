"""SLAP's own network behind the protocol `AudioTextModel`.

n clips or texts, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from slap.core.calibration import Calibration
from slap.core.decoding import Decoding, draws
from slap.core.errors import UserError
from slap.core.files import digest
from slap.core.packed import Packed
from slap.inference.frames import frame_count
from slap.model.contracts import AlignsFrames, Calibrated, Classifier, Nests, RatesCaptions, Writes
from slap.model.network import Network, Weights
from slap.model.views import View
from slap.nn.linear import prepack

TEXTS = 256
"""Texts that are encoded together."""

DEFAULT_MAX_SECONDS = 30.0
"""The trained maximum of a checkpoint that does not say; the paper's."""

CONTEXT = 1
"""Time steps before and after a frame whose features are pooled with its own (our choice): 480 ms, where one step of
160 ms alone is far from the whole clips that the pooling head learned on."""


class NetworkBackend:
    """A SLAP network in use; see `slap.inference.backend.AudioTextModel`.

    Args:
        network: in any mode; it is set to evaluation, and its parameters want no gradient any more.
        arguments: the arguments of `network`, as plain data.
        max_seconds: the longest clip of its training.
        absent: objectives that it was trained with, but which are not in use, by name with the reason.
        lent: leave modes and gradients of `network` to its owner, who has set it to evaluation.
        weights: the weights of its checkpoint that it has, for reports.
    """

    def __init__(
        self,
        network: Network,
        arguments: Mapping[str, Any],
        max_seconds: float = DEFAULT_MAX_SECONDS,
        absent: Mapping[str, str] | None = None,
        lent: bool = False,
        weights: Weights = "raw",
    ) -> None:
        self.network = network if lent else network.eval().requires_grad_(False)
        if not lent:
            prepack(network)
        self.arguments = dict(arguments)
        self.max_seconds = max_seconds
        self.absent = dict(absent or {})
        self.weights = weights
        self.sample_rate = network.audio.sample_rate
        self.embedding_dim = network.embedding_dim

    @cached_property
    def name(self) -> str:
        """The first 16 digits of `digest`."""
        return digest(self.arguments, self.state_in_use())[:16]

    def state_in_use(self) -> dict[str, Tensor]:
        """Return the weights that loading keeps: without those of objectives that only training needs."""
        objectives = self.network.objectives
        unused = {f"objectives.{name}." for name in objectives if name not in self.arguments["objectives"]}
        if not any(objectives[name].uses_teacher for name in objectives if name in self.arguments["objectives"]):
            unused.add("teacher.")
        state = self.network.state_dict()
        return {name: value for name, value in state.items() if not name.startswith(tuple(unused))}

    @property
    def device(self) -> torch.device:
        """The device that it computes on."""
        return self.network.audio_pool.device

    @property
    def calibration(self) -> Calibration | None:
        """The rule of the first objective that learns one."""
        found = (part.calibration() for part in self.network.objectives.values() if isinstance(part, Calibrated))
        return next(found, None)

    @property
    def leading_dims(self) -> tuple[int, ...]:
        """The numbers of leading dimensions that an objective trained (`matryoshka`), the largest first."""
        found = {
            dim for part in self.network.objectives.values() if isinstance(part, Nests) for dim in part.leading_dims
        }
        return tuple(sorted(found, reverse=True))

    @property
    def dtype(self) -> torch.dtype:
        """The precision of its weights, in which it computes."""
        return self.network.audio_pool.dtype

    @torch.no_grad()
    def encode_audio(self, clips: Sequence[Tensor]) -> Tensor:
        """Embed clips, (T_i,) each, as (n, E)."""
        return self.embed(clips).cpu()

    def embed(self, clips: Sequence[Tensor]) -> Tensor:
        """Embed clips, (T_i,) each, as (n, E) float32 on its device, with gradients where parameters want them."""
        return self.network.audio_pool(self._dense(clips)).float()

    @torch.no_grad()
    def encode_frames(self, clip: Tensor, hop: int) -> Tensor:
        """Embed the frames of a clip, (T,), one every `hop` samples, as (F, E); see `slap.inference.frames`.

        Raises:
            ValueError: the patches have no time, or their step is no multiple of `hop`.
        """
        step = self.frame_samples
        if hop < 1 or step % hop:
            raise UserError(f"frames come every {step} samples or a whole fraction of it; got {hop}")
        passes = [clip[start:] for start in range(0, min(step, len(clip)), hop)]
        dense = self._dense(passes)
        embeddings, shift, time = self._frames(dense)
        frame = (time * (step // hop) + shift).cpu()
        count = frame_count(len(clip), hop, step)
        frames = torch.empty(count, self.embedding_dim)
        frames[frame[frame < count]] = embeddings[frame < count]
        return frames

    def _frames(self, dense: Packed) -> tuple[Tensor, Tensor, Tensor]:
        """Return the embeddings of time steps, (F, E), the item of each, and its number in it, from (N, D) features."""
        if self._aligner is not None:
            embeddings, item, time = self._aligner.frames(dense)
            return embeddings.float().cpu(), item, time
        assert dense.positions is not None
        near, item, time = neighborhoods(dense, dense.positions[:, 0].long())
        # A part of a clip is no short clip: where pooling hears durations, it hears that of the whole.
        return self.network.audio_pool(near, dense.lengths[item]).float().cpu(), item, time

    @property
    def _aligner(self) -> AlignsFrames | None:
        return next((part for part in self.network.objectives.values() if isinstance(part, AlignsFrames)), None)

    @property
    def frame_calibration(self) -> Calibration | None:
        """The probability that a text is heard in a frame; None if it was not trained for frames."""
        return None if self._aligner is None else self._aligner.frame_calibration()

    @property
    def frame_samples(self) -> int:
        """Samples that a time step of the patches spans.

        Raises:
            ValueError: they have no time.
        """
        step = self.network.audio.step
        if step is None:
            raise UserError("the audio encoder does not say what time its patches stand for (its attribute `step`)")
        return round(step * self.sample_rate)

    @property
    def no_captions(self) -> str:
        """The reason why it writes no captions; "" if it does."""
        why = self.absent.get("captioning", "it was not trained with one")
        return "" if self._writer else f"the model writes no captions, for it has no captioning objective: {why}"

    @property
    def _writer(self) -> Writes | None:
        return next((part for part in self.network.objectives.values() if isinstance(part, Writes)), None)

    @torch.no_grad()
    def write(self, clips: Sequence[Tensor], decoding: Decoding) -> tuple[list[str], Tensor]:
        """Write a caption for each clip; return captions and embeddings, (n, E), from the same pass of the encoder.

        Raises:
            ValueError: the model did not learn to write.
        """
        writer = self._writer
        if writer is None:
            raise UserError(self.no_captions)
        dense = self._dense(clips)
        tokens = writer.generate(dense, decoding, draws(clips, decoding))
        return self.network.text.detokenize(tokens.to("cpu")), self.network.audio_pool(dense).float().cpu()

    @torch.no_grad()
    def caption_likelihood(self, clips: Sequence[Tensor], captions: Sequence[str]) -> Tensor:
        """Compute the mean log-likelihood of the tokens of each clip's caption, (n,), in nats.

        Raises:
            ValueError: the model did not learn to write, or its decoder computes no likelihoods.
        """
        rater = self._writer
        if rater is None:
            raise UserError(self.no_captions)
        if not isinstance(rater, RatesCaptions):
            raise UserError(f"a {type(rater).__name__} writes captions, but has no `log_likelihood` of a given one")
        tokens = self.network.text.tokenize(captions).to(self.device)
        return rater.log_likelihood(self._dense(clips), tokens).float().cpu()

    @property
    def heads(self) -> dict[str, Classifier]:
        """The classification heads that it was trained with, by name."""
        return {name: part for name, part in self.network.objectives.items() if isinstance(part, Classifier)}

    @torch.no_grad()
    def encode_labels(self, clips: Sequence[Tensor], head: Classifier) -> Tensor:
        """Compute a head's scores of clips, (T_i,) each, as (n, K)."""
        dense = self._dense(clips)
        # Heads stay in float32, see `slap.inference.rebuild.cast`.
        view = View(dense.replace(dense.values.float()), lambda _: self.network.audio_pool(dense))
        return head.scores(view).cpu()

    def _dense(self, clips: Sequence[Tensor]) -> Packed:
        """Encode clips, (T_i,) each, as dense features, (N, D)."""
        patches = self.network.audio.patchify(Packed.pack(clips).to(self.device))
        return self.network.audio(patches.replace(patches.values.to(self.dtype)))

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts as (m, E)."""
        parts = [list(texts[i : i + TEXTS]) for i in range(0, len(texts), TEXTS)]
        return torch.cat([self.network.embed_captions(part).float().cpu() for part in parts])


def neighborhoods(tokens: Packed, time: Tensor) -> tuple[Packed, Tensor, Tensor]:
    """Gather the tokens around each time step of each item, as items of their own.

    Args:
        tokens: (N, D), B items.
        time: (N,) int64, the time step of each.

    Returns:
        For each of S time steps the tokens of that step and of `CONTEXT` steps before and after, packed; the item, and
        the step within it, (S,) each.
    """
    span = int(time.max()) + 1
    key, order = (tokens.item * span + time).sort(stable=True)
    step, counts = key.unique_consecutive(return_counts=True)
    starts = counts.cumsum(0) - counts
    item, place = step // span, torch.arange(len(step), device=step.device)
    ends = [torch.searchsorted(item, item, right=right) for right in (False, True)]  # of each item's steps
    first = torch.maximum(place - CONTEXT, ends[0])
    last = torch.minimum(place + CONTEXT, ends[1] - 1)
    lengths = starts[last] + counts[last] - starts[first]
    owner = torch.arange(len(step), device=step.device).repeat_interleave(lengths)
    within = torch.arange(len(owner), device=step.device) - (lengths.cumsum(0) - lengths)[owner]
    rows = order[starts[first][owner] + within]
    return Packed(tokens.values[rows], lengths.int()), item, step % span
