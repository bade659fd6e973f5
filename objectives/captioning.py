"""L_CAP of the paper (arXiv 2601.12594): a decoder writes a clip's caption from the dense features before pooling.

C captions, M of their tokens, m = M - C of them to predict, N audio tokens, D' their width, V vocabulary.

The paper states the decoder (8 layers, 8 heads, width 512) and next-token prediction. The choice of the view, label
smoothing, and sizes for encoders of other widths are ours.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from slap.core.decoding import GREEDY, Decoding
from slap.core.distributed import all_sum, global_mean
from slap.core.errors import UserError
from slap.core.packed import Layout, Packed
from slap.core.registry import register
from slap.model.contracts import ModelParts, Objective
from slap.model.views import Views, by_clip, student_view
from slap.objectives.caption_decoder import Decoder
from slap.objectives.caption_generation import beam_search, greedy, nucleus
from slap.objectives.head_sizes import heads_of, width_of


@register("captioning")
class Captioning(Objective):
    """Next-token cross-entropy of the captions, with teacher forcing (paper: L_CAP).

    The vocabulary is the text encoder's.

    Args:
        layers: number of layers of the decoder.
        heads: number of attention heads. Default: as many as are at least 64 wide; the paper's 8 for a width of 512.
        width: width of the decoder. Default: 2/3 of the audio encoder's, in steps of 64; the paper's 512 for 768.
        hidden: width of its feed-forward layers. Default: four times `width`.
        label_smoothing: share of the target that is spread over the vocabulary.
        view: the view of the audio: `full` (our choice, since captions may describe sounds that a mask would hide) or
            `masked`, as for `contrastive`.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        layers: int = 8,
        heads: int | None = None,
        width: int | None = None,
        hidden: int | None = None,
        label_smoothing: float = 0.0,
        view: str = "full",
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise UserError(f"label_smoothing must be from 0 to below 1, got {label_smoothing}")
        self.layers = layers
        self.heads = heads
        self.width = width
        self.hidden = hidden
        self.label_smoothing = label_smoothing
        self.view = student_view(view)

    def setup(self, model: ModelParts) -> None:
        """Build the decoder, for the text encoder's vocabulary and the audio encoder's width.

        Raises:
            ValueError: the heads do not divide the width.
        """
        self.bos, self.eos = model.text.bos, model.text.eos
        width = width_of(model.audio.width, 2 / 3) if self.width is None else self.width
        heads = heads_of(width) if self.heads is None else self.heads
        hidden = 4 * width if self.hidden is None else self.hidden
        self.decoder = Decoder(model.text.vocab_size, model.audio.width, self.layers, heads, width, hidden)

    def per_clip(self, views: Views) -> Mapping[str, Tensor]:
        """Compute the loss of each token to predict, (m,), and whether the decoder ranks it first, (m,) bool."""
        inputs, targets = shift(views.batch.text)
        audio = getattr(views, self.view).tokens
        logits = self.decoder(inputs, audio.take(views.batch.clip_index))
        losses = cross_entropy(logits, targets, reduction="none", label_smoothing=self.label_smoothing)
        right = (logits.detach().argmax(1) == targets) & losses.isfinite()  # argmax takes NaN for the largest
        return {"losses": losses, "right": right}

    def forward(self, views: Views) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the mean over the tokens to predict of all processes; logs the share that the decoder ranks first."""
        found, batch = views.per_clip(self), views.batch
        losses, right = found["losses"], found["right"].sum()
        views.note(by_clip(losses, batch.clip[shortened(batch.text).item], len(batch)))
        right, count = all_sum(torch.stack([right, torch.full_like(right, len(losses))]))
        return global_mean(losses), {"token_accuracy": right / count.clamp(min=1)}

    def generate(self, audio: Packed, decoding: Decoding = GREEDY, draws: Tensor | None = None) -> Packed:
        """Write a caption for each clip.

        Args:
            audio: (N, D') dense features of B clips, as `model.audio` gives them.
            decoding: generation options; greedy by default.
            draws: the uniform numbers to sample with, needed with `top_p`, see `slap.core.decoding.draws`.

        Returns:
            Tokens of B captions, int64, for `model.text.detokenize`.

        Raises:
            ValueError: `top_p` is given, but no uniform numbers, or too few.
        """
        ends, length = (self.bos, self.eos), decoding.max_length
        if decoding.top_p is not None:
            if draws is None or draws.shape != (len(audio), length - 1):
                got = None if draws is None else tuple(draws.shape)
                raise UserError(f"top_p needs `draws`, uniform numbers of shape {(len(audio), length - 1)}, got {got}")
            return nucleus(self.decoder, audio, *ends, draws, decoding.top_p, decoding.temperature)
        if decoding.beam == 1:
            return greedy(self.decoder, audio, *ends, length)
        return beam_search(self.decoder, audio, *ends, length, decoding.beam, decoding.length_penalty)

    def log_likelihood(self, audio: Packed, tokens: Packed) -> Tensor:
        """Compute the mean log-likelihood of the tokens of each clip's caption, (B,), in nats; without smoothing.

        Args:
            audio: (N, D') dense features of B clips.
            tokens: captions, one per clip, from `model.text.tokenize`.
        """
        inputs, targets = shift(tokens)
        losses = cross_entropy(self.decoder(inputs, audio).float(), targets, reduction="none")
        return -losses.new_zeros(len(tokens)).index_add(0, inputs.layout.item, losses) / inputs.lengths


def shortened(tokens: Packed) -> Layout:
    """Return the layout of captions without their last token, m rows."""
    return Layout(tokens.lengths - 1, tuple(size - 1 for size in tokens.sizes))


def shift(tokens: Packed) -> tuple[Packed, Tensor]:
    """Return captions without their last token, packed (m,), and the token that follows each of these, (m,)."""
    layout = shortened(tokens)
    # Each caption before a row lost one token, so the row moved up by that many.
    rows = torch.arange(layout.total, device=tokens.values.device) + layout.item
    return Packed(tokens.values[rows], layout.lengths, layout=layout), tokens.values[rows + 1]
