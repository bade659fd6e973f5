"""L_CLAP of the paper (arXiv 2601.12594): find the captions of each clip in the global batch, and the reverse.

B clips and C captions of the global batch, E shared dimension; n rows of this process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log

import torch
from torch import Tensor, nn

from slap.core.calibration import Calibration
from slap.core.distributed import gather, global_mean
from slap.core.errors import UserError
from slap.core.registry import register
from slap.model.contracts import ModelParts, Objective
from slap.model.views import Views, by_clip, student_view
from slap.nn.chunking import checkpointed_chunks
from slap.nn.precision import FullPrecision
from slap.objectives.matryoshka import Matryoshka
from slap.objectives.positive_pairs import negatives, positives

MAX_SCALE = 100.0
"""Largest scale of the logits, as in CLIP (arXiv 2103.00020), where it keeps training stable."""


@register("contrastive")
class Contrastive(Matryoshka, FullPrecision, Objective):
    """Symmetric contrastive loss with several positives (paper: L_CLAP; CLIP, arXiv 2103.00020).

    The paper does not say how it treats captions that clips share, or several captions of a clip. It is our choice that
    all of them are positives, see `positives`, with equal probabilities as their target, see `cross_entropy`.

    The cap on the scale acts on the parameter, after each optimizer step and after loading, as in CLIP. So the scale
    comes down again when the loss asks for it.

    Args:
        temperature: initial temperature; the logits are cosines divided by it. The logarithm of its inverse is learned.
        view: the view of the audio: `full` (our choice, the paper does not say) or `masked`, which shares the pass of
            `masked_distillation`, so that a step costs less.
        matryoshka: numbers of leading dimensions over which the loss is averaged, e.g. `[512, 256, 128, 64]`, so that
            the beginning of an embedding serves as a shorter one (arXiv 2205.13147); the largest is the model's
            `embedding_dim`. None trains whole embeddings alone.

    Raises:
        ValueError: the temperature is too low, there is no such view, or leading dimensions make no sense.
    """

    def __init__(self, temperature: float = 0.07, view: str = "full", matryoshka: Sequence[int] | None = None) -> None:
        super().__init__()
        self.view = student_view(view)
        self.nest(matryoshka)
        if temperature < 1 / MAX_SCALE:
            raise UserError(
                f"temperature must be at least {1 / MAX_SCALE}, since the scale is capped; got {temperature}"
            )
        self.log_scale = nn.Parameter(torch.tensor(-log(temperature)))

    def setup(self, model: ModelParts) -> None:
        """Check the leading dimensions against the model's embeddings."""
        self.fit_dims(model)

    def per_clip(self, views: Views) -> Mapping[str, Tensor]:
        """Return the embeddings of clips and captions."""
        return {"audio": getattr(views, self.view).embedding, "text": views.text.embedding}

    def forward(self, views: Views) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the average of the mean over the global clips and that over the global captions.

        It logs the scale, and the mean number of negatives of a clip.
        """
        batch, found = views.batch, views.per_clip(self)
        audio, text, pairs = found["audio"], found["text"], gather(batch.pairs)
        all_audio, all_text = self.nested(gather(audio)), self.nested(gather(text))
        clips, captions = gather(batch.clip_key), gather(batch.caption_key)
        scale = self.log_scale.exp()

        def of_clips(audio: Tensor, keys: Tensor) -> Tensor:
            positive = positives(keys, captions, pairs)
            return self.mean_loss(lambda a, t: cross_entropy(scale * a @ t.T, positive), audio, all_text)

        def of_captions(text: Tensor, keys: Tensor) -> Tensor:
            positive = positives(clips, keys, pairs).T
            return self.mean_loss(lambda t, a: cross_entropy(scale * t @ a.T, positive), text, all_audio)

        with torch.autocast(audio.device.type, enabled=False):  # bfloat16 would round logits of 100 to halves
            audio_to_text = checkpointed_chunks(of_clips, [audio, batch.clip_key], views.chunks)
            text_to_audio = checkpointed_chunks(of_captions, [text, batch.caption_key], views.chunks)
        views.note((audio_to_text + by_clip(text_to_audio, batch.clip, len(batch)).nan_to_num(0.0)) / 2)
        loss = (global_mean(audio_to_text) + global_mean(text_to_audio)) / 2
        against = negatives(batch.clip_key, clips, captions, pairs, views.chunks)
        return loss, {"scale": scale.detach(), "negatives": against}

    def constrain(self) -> None:
        """Keep the scale at or below its cap."""
        self.log_scale.clamp_(max=log(MAX_SCALE))

    def calibration(self) -> Calibration:
        """Return the probabilities of texts to belong to a clip: a softmax with the learned scale."""
        return Calibration("softmax", float(self.log_scale.detach().exp()))


def cross_entropy(logits: Tensor, positive: Tensor) -> Tensor:
    """Compute the cross-entropy of each row against equal probabilities for its positives.

    It is the loss of UniCL (arXiv 2204.03610) and the "outside" form of SupCon (arXiv 2004.11362, eq. 2). With one
    positive per row it is CLIP's.

    Args:
        logits: (n, C).
        positive: (n, C) bool.

    Returns:
        (n,). A row without positives gives 0.
    """
    count = positive.sum(1)
    mean = logits.masked_fill(~positive, 0).sum(1) / count.clamp(min=1)
    return (logits.logsumexp(1) - mean) * (count > 0)
