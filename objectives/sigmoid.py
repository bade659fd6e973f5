"""SigLIP's loss (arXiv 2303.15343): a binary decision for every pair of a clip and a caption of the global batch.

B clips and C captions of the global batch, E shared dimension; n clips of this process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from slap.core.calibration import Calibration
from slap.core.distributed import gather, global_mean
from slap.core.errors import UserError
from slap.core.registry import register
from slap.model.contracts import ModelParts, Objective
from slap.model.views import Views, student_view
from slap.nn.chunking import checkpointed_chunks
from slap.nn.precision import FullPrecision
from slap.objectives.matryoshka import Matryoshka
from slap.objectives.positive_pairs import negatives, positives


@register("sigmoid")
class Sigmoid(Matryoshka, FullPrecision, Objective):
    """Pairwise sigmoid loss (SigLIP, arXiv 2303.15343), an alternative to `contrastive`.

    SigLIP has one caption per image. It is our choice that captions shared by several clips, and all captions of one
    clip, are positives, see `positives`.

    Args:
        scale: initial factor on the cosines; its logarithm is learned.
        bias: initial bias of the logits. It is far below 0, because nearly all pairs are negatives.
        view: the view of the audio, as for `contrastive`.
        matryoshka: numbers of leading dimensions over which the loss is averaged, as for `contrastive`.

    Raises:
        ValueError: the scale is not positive, there is no such view, or leading dimensions make no sense.
    """

    def __init__(
        self,
        scale: float = 10.0,
        bias: float = -10.0,
        view: str = "full",
        matryoshka: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.view = student_view(view)
        self.nest(matryoshka)
        if scale <= 0:
            raise UserError(f"scale must be positive, since its logarithm is learned; got {scale}")
        self.log_scale = nn.Parameter(torch.tensor(log(scale)))
        self.bias = nn.Parameter(torch.tensor(float(bias)))

    def setup(self, model: ModelParts) -> None:
        """Check the leading dimensions against the model's embeddings."""
        self.fit_dims(model)

    def per_clip(self, views: Views) -> Mapping[str, Tensor]:
        """Return the embeddings of clips and captions."""
        return {"audio": getattr(views, self.view).embedding, "text": views.text.embedding}

    def forward(self, views: Views) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the sum over all pairs, divided by the global number of clips; logs scale, bias and negatives."""
        batch, found = views.batch, views.per_clip(self)
        audio, all_text, pairs = found["audio"], self.nested(gather(found["text"])), gather(batch.pairs)
        captions, scale = gather(batch.caption_key), self.log_scale.exp()

        def of_clips(audio: Tensor, keys: Tensor) -> Tensor:
            positive = positives(keys, captions, pairs)

            def of_pairs(a: Tensor, t: Tensor) -> Tensor:
                return pair_losses(scale * a @ t.T + self.bias, positive).sum(1)

            return self.mean_loss(of_pairs, audio, all_text)

        with torch.autocast(audio.device.type, enabled=False):  # as for `contrastive`: the logits are large
            losses = checkpointed_chunks(of_clips, [audio, batch.clip_key], views.chunks)
        views.note(losses)
        loss = global_mean(losses)
        against = negatives(batch.clip_key, gather(batch.clip_key), captions, pairs, views.chunks)
        return loss, {"scale": scale.detach(), "bias": self.bias.detach().clone(), "negatives": against}

    def calibration(self) -> Calibration:
        """Return the probability that a text belongs to a clip: a sigmoid with the learned scale and bias."""
        return Calibration("sigmoid", float(self.log_scale.detach().exp()), float(self.bias.detach()))


def pair_losses(logits: Tensor, positive: Tensor) -> Tensor:
    """Compute -log of the probability of the right decision for each pair (SigLIP, eq. 1).

    Args:
        logits: (n, C).
        positive: (n, C) bool.

    Returns:
        (n, C).
    """
    return -logsigmoid(torch.where(positive, logits, -logits))
