"""L_CAP: a decoder writes a clip's caption from the dense features before pooling.

C captions, M of their tokens, m = M - C of them to predict, N audio tokens, D' their width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from slap.core.decoding import GREEDY, Decoding
from slap.core.distributed import all_sum, global_mean
from slap.core.packed import Layout, Packed
from slap.core.registry import register
from slap.model.contracts import ModelParts, Objective
from slap.model.views import Views, by_clip, student_view
from slap.objectives.caption_decoder import Decoder
from slap.objectives.caption_generation import beam_search, greedy, nucleus


@register("captioning")
class Captioning(Objective):
    """Next-token cross-entropy of the captions, with teacher forcing (paper: L_CAP).

    The vocabulary is the text encoder's.

    Args:
        layers: of the decoder.
        heads: of its attention.
        width: of the decoder.
        hidden: of its feed-forward layers.
        label_smoothing: share of the target that is spread over the vocabulary.
        view: of the audio; `full` (our choice, the paper does not say: captions may describe what a mask would hide)
            or `masked`, as for `contrastive`.
    """

    def __init__(
        self,
        layers: int = 8,
        heads: int = 8,
        width: int = 512,
        hidden: int = 2048,
        label_smoothing: float = 0.0,
        view: str = "full",
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be from 0 to below 1, got {label_smoothing}")
        self.layers = layers
        self.heads = heads
        self.width = width
        self.hidden = hidden
        self.label_smoothing = label_smoothing
        self.view = student_view(view)

    def setup(self, model: ModelParts) -> None:
        """Build the decoder, for the text encoder's vocabulary and the audio encoder's width."""
        self.bos, self.eos = model.text.bos, model.text.eos
        size = {"layers": self.layers, "heads": self.heads, "width": self.width, "hidden": self.hidden}
        self.decoder = Decoder(model.text.vocab_size, model.audio.width, **size)

    def per_clip(self, views: Views) -> Mapping[str, Tensor]:
        """The loss of each token to predict, (m,), and whether it came first, (m,) bool."""
        inputs, targets = shift(views.batch.text)
        audio = getattr(views, self.view).tokens
        logits = self.decoder(inputs, audio.take(views.batch.clip_index))
        losses = cross_entropy(logits, targets, reduction="none", label_smoothing=self.label_smoothing)
        return {"losses": losses, "right": logits.detach().argmax(1) == targets}

    def forward(self, views: Views) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean over the tokens to predict of all processes; logs the share of them that come first."""
        found, batch = views.per_clip(self), views.batch
        losses, right = found["losses"], found["right"].sum()
        views.note(by_clip(losses, batch.clip[shortened(batch.text).item], len(batch)))
        right, count = all_sum(torch.stack([right, torch.full_like(right, len(losses))]))
        return global_mean(losses), {"token_accuracy": right / count.clamp(min=1)}

    def generate(self, audio: Packed, decoding: Decoding = GREEDY, draws: Tensor | None = None) -> Packed:
        """Write a caption for each clip.

        Args:
            audio: (N, D') dense features of B clips, as `model.audio` gives them.
            decoding: how; greedily if not said.
            draws: where it says `top_p`, the uniform numbers to draw with, see `slap.core.decoding.draws`.

        Returns:
            Tokens of B captions, int64, for `model.text.detokenize`.

        Raises:
            ValueError: there is something to draw, but no numbers to draw with.
        """
        ends, length = (self.bos, self.eos), decoding.max_length
        if decoding.top_p is not None:
            if draws is None or draws.shape != (len(audio), length - 1):
                got = None if draws is None else tuple(draws.shape)
                raise ValueError(f"drawing needs uniform numbers of shape {(len(audio), length - 1)}, got {got}")
            return nucleus(self.decoder, audio, *ends, draws, decoding.top_p, decoding.temperature)
        if decoding.beam == 1:
            return greedy(self.decoder, audio, *ends, length)
        return beam_search(self.decoder, audio, *ends, length, decoding.beam, decoding.length_penalty)


def shortened(tokens: Packed) -> Layout:
    """The layout of captions without their last token, m rows."""
    return Layout(tokens.lengths - 1, tuple(size - 1 for size in tokens.sizes))


def shift(tokens: Packed) -> tuple[Packed, Tensor]:
    """Captions without their last token, packed (m,), and the token that follows each of these, (m,)."""
    layout = shortened(tokens)
    # Each caption before a row lost one token, so the row moved up by that many.
    rows = torch.arange(layout.total, device=tokens.values.device) + layout.item
    return Packed(tokens.values[rows], layout.lengths, layout=layout), tokens.values[rows + 1]
