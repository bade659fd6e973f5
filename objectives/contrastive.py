"""L_CLAP: a clip's embedding picks out its captions among all captions of the global batch, and the reverse.

B clips and C captions of the global batch, E shared dimension; n rows of this process.
"""

from __future__ import annotations

from math import log

import torch
from torch import Tensor, nn

from slap.calibration import Calibration
from slap.contracts import Objective
from slap.distributed import gather, global_mean
from slap.objectives.positives import positives
from slap.registry import register
from slap.views import Views, by_clip, student_view

MAX_SCALE = 100.0
"""The cap on the scale of the logits that CLIP (arXiv 2103.00020) sets, to keep training stable."""


@register("contrastive")
class Contrastive(Objective):
    """Symmetric contrastive loss with several positives (paper: L_CLAP; CLIP, arXiv 2103.00020).

    The paper does not say what it does with captions that clips share, or with several captions of a clip. We take all
    of them for positives, see `positives`, and give each an equal part of the probability, see `cross_entropy`.

    The cap on the scale acts in the forward pass, so its gradient is exact: 0 beyond the cap, where the scale rests.

    Args:
        temperature: at the start; the logits are cosines divided by it. Learnt as the logarithm of its inverse.
        view: of the audio; `full` (our choice, the paper does not say) or `masked`, which hides what the masked view
            hides and shares that view's pass, so that a step costs less.
    """

    def __init__(self, temperature: float = 0.07, view: str = "full") -> None:
        super().__init__()
        self.view = student_view(view)
        if temperature < 1 / MAX_SCALE:
            raise ValueError(
                f"temperature must be at least {1 / MAX_SCALE}, since the scale is capped; got {temperature}"
            )
        self.log_scale = nn.Parameter(torch.tensor(-log(temperature)))

    def forward(self, views: Views) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean over the global clips and the mean over the global captions, averaged; logs the scale."""
        batch, audio, text = views.batch, getattr(views, self.view).embedding, views.text.embedding
        pairs = gather(batch.pairs)
        of_clips = positives(batch.clip_key, gather(batch.caption_key), pairs)
        of_captions = positives(gather(batch.clip_key), batch.caption_key, pairs).T
        scale = self.log_scale.exp().clamp(max=MAX_SCALE)
        with torch.autocast(audio.device.type, enabled=False):  # bfloat16 would round logits of 100 to halves
            audio_to_text = cross_entropy(scale * audio @ gather(text).T, of_clips)
            text_to_audio = cross_entropy(scale * text @ gather(audio).T, of_captions)
        views.note((audio_to_text + by_clip(text_to_audio, batch.clip, len(batch)).nan_to_num(0.0)) / 2)
        loss = (global_mean(audio_to_text) + global_mean(text_to_audio)) / 2
        return loss, {"scale": scale.detach()}

    def calibration(self) -> Calibration:
        """Which of some texts belongs to a clip: a softmax with the learnt scale."""
        return Calibration("softmax", float(self.log_scale.detach().exp().clamp(max=MAX_SCALE)))


def cross_entropy(logits: Tensor, positive: Tensor) -> Tensor:
    """Cross-entropy of each row against equal probabilities for its positives.

    That is the loss of UniCL (arXiv 2204.03610) and the "outside" form of SupCon (arXiv 2004.11362, eq. 2). With one
    positive a row it is CLIP's.

    Args:
        logits: (n, C).
        positive: (n, C) bool.

    Returns:
        (n,). A row without positives gives 0.
    """
    count = positive.sum(1)
    mean = logits.masked_fill(~positive, 0).sum(1) / count.clamp(min=1)
    return (logits.logsumexp(1) - mean) * (count > 0)
