"""SigLIP's loss: every clip and caption of the global batch is a yes-no question of its own.

B clips and C captions of the global batch, E shared dimension; n clips of this process.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from slap.core.calibration import Calibration
from slap.core.distributed import gather, global_mean
from slap.core.registry import register
from slap.model.contracts import Objective
from slap.model.views import Views, student_view
from slap.nn.chunking import checkpointed_chunks
from slap.objectives.positive_pairs import positives


@register("sigmoid")
class Sigmoid(Objective):
    """Pairwise sigmoid loss (SigLIP, arXiv 2303.15343), a choice in place of `contrastive`.

    Our choice, beyond SigLIP's one caption per image: captions that clips share, and all captions of a clip, are
    positives, see `positives`.

    Args:
        scale: of the cosines, at the start; learnt as its logarithm.
        bias: of the logits, at the start. Far below 0, because nearly all pairs are negatives.
        view: of the audio, as for `contrastive`.
    """

    def __init__(self, scale: float = 10.0, bias: float = -10.0, view: str = "full") -> None:
        super().__init__()
        self.view = student_view(view)
        if scale <= 0:
            raise ValueError(f"scale must be positive, since its logarithm is learnt; got {scale}")
        self.log_scale = nn.Parameter(torch.tensor(log(scale)))
        self.bias = nn.Parameter(torch.tensor(float(bias)))

    def per_clip(self, views: Views) -> Mapping[str, Tensor]:
        """The embeddings of both sides."""
        return {"audio": getattr(views, self.view).embedding, "text": views.text.embedding}

    def forward(self, views: Views) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum over all pairs, divided by the global number of clips; logs scale and bias."""
        batch, found = views.batch, views.per_clip(self)
        audio, all_text, pairs = found["audio"], gather(found["text"]), gather(batch.pairs)
        captions, scale = gather(batch.caption_key), self.log_scale.exp()

        def of_clips(audio: Tensor, keys: Tensor) -> Tensor:
            return pair_losses(scale * audio @ all_text.T + self.bias, positives(keys, captions, pairs)).sum(1)

        with torch.autocast(audio.device.type, enabled=False):  # as for `contrastive`: the logits are large
            losses = checkpointed_chunks(of_clips, [audio, batch.clip_key], views.chunks)
        views.note(losses)
        loss = global_mean(losses)
        return loss, {"scale": scale.detach(), "bias": self.bias.detach().clone()}

    def calibration(self) -> Calibration:
        """Whether a text belongs to a clip: a sigmoid with the learnt scale and bias."""
        return Calibration("sigmoid", float(self.log_scale.detach().exp()), float(self.bias.detach()))


def pair_losses(logits: Tensor, positive: Tensor) -> Tensor:
    """-log of the probability of the right answer for each pair (SigLIP, eq. 1).

    Args:
        logits: (n, C).
        positive: (n, C) bool.

    Returns:
        (n, C).
    """
    return -logsigmoid(torch.where(positive, logits, -logits))
