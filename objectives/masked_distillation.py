"""L_SSL of the paper (arXiv 2601.12594): at hidden patches the student predicts the output of the EMA teacher.

N patches, n of them hidden, D width of the encoder, d of the head's bottleneck, K prototypes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import log
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, log_softmax, normalize

from slap.core.distributed import all_sum, global_mean
from slap.core.errors import UserError
from slap.core.registry import register
from slap.model.contracts import ModelParts, Objective
from slap.model.views import Views, by_clip
from slap.nn.chunking import checkpointed_chunks
from slap.nn.layers import linear
from slap.objectives.head_sizes import width_of
from slap.objectives.patch_predictor import Predictor
from slap.objectives.sinkhorn import assign, balance

SAMPLE = 1024
"""Maximal number of patches per process from which `effective_rank` is computed."""

LARGEST_ENTROPY = 0.995
"""Limit of `teacher_entropy`, a share of log K (our choice): above it the teacher's targets are all but uniform."""

FEWEST = 1.5
"""Limit of the prototypes in use (our choice): below it all patches look alike to the teacher."""

FLATTEST = 1.01
"""Limit of `effective_rank` (our choice): below it less than half a percent of the features differs between patches."""


@register("masked_distillation")
class MaskedDistillation(Objective):
    """Cross-entropy from the teacher's to the student's prototype scores (paper: L_SSL; iBOT, arXiv 2111.07832).

    The paper states MLP heads, prototype scores and cross-entropy. The rest is our choice: the head of DINO
    (arXiv 2104.14294); the loss at the hidden patches only, as in iBOT, since the student sees the others; and
    Sinkhorn-Knopp on the teacher's side against collapse, as in SwAV, because it needs no running center that would
    have to be saved, and works from the first step.

    It logs three scalars. `teacher_entropy` is the mean entropy of the teacher's targets as a share of log K.
    `prototype_usage` is the number of prototypes in use, as a share of K: the exponential of the entropy of the shares
    of tokens for which a prototype has the highest score before Sinkhorn balances them. `effective_rank` is that of the
    teacher's features, see `effective_rank`. When features collapse, they go to 1, 1 / K and 1;
    `slap.training.callbacks.collapse_monitor` warns of this.

    Args:
        prototypes: K.
        hidden: width between the layers of the head. Default: 8/3 of the audio encoder's, in steps of 64; DINO's 2048
            for 768.
        bottleneck: width in which tokens and prototypes are compared. Default: 1/3 of the audio encoder's, in steps of
            64; DINO's 256 for 768.
        student_temperature: divides the student's cosines.
        teacher_temperature: divides the teacher's cosines; lower, so that the targets are sharper than the predictions
            (both as in SwAV).
        iterations: of Sinkhorn-Knopp.
        drop: leave hidden patches out of the student's encoder, instead of replacing them by a token, as in MAE (arXiv
            2111.06377): it computes fewer patches. A small predictor then fills them in for this loss alone.
        predictor_layers: with `drop`, number of blocks of the predictor.

    Raises:
        ValueError: an argument is out of range.
    """

    uses_teacher = True
    uses_text = False

    def __init__(
        self,
        prototypes: int = 4096,
        hidden: int | None = None,
        bottleneck: int | None = None,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.05,
        iterations: int = 3,
        drop: bool = False,
        predictor_layers: int = 2,
    ) -> None:
        super().__init__()
        if prototypes < 2:
            raise UserError(f"prototypes must be at least 2, or there is nothing to predict; got {prototypes}")
        if min(student_temperature, teacher_temperature) <= 0:
            raise UserError(f"temperatures must be positive, got {student_temperature} and {teacher_temperature}")
        if iterations < 1:
            raise UserError(f"iterations must be at least 1: without Sinkhorn the features collapse; got {iterations}")
        self.prototypes = prototypes
        self.hidden = hidden
        self.bottleneck = bottleneck
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.iterations = iterations
        self.drop, self.predictor_layers = drop, predictor_layers

    def setup(self, model: ModelParts) -> None:
        """Build the head, and let the teacher follow it.

        Raises:
            ValueError: the model hides no patches.
        """
        if model.mask_ratio <= 0:
            raise UserError(
                f"masked_distillation needs hidden patches: mask_ratio is {model.mask_ratio}, set it above 0"
            )
        width = model.audio.width
        hidden = width_of(width, 8 / 3) if self.hidden is None else self.hidden
        bottleneck = width_of(width, 1 / 3) if self.bottleneck is None else self.bottleneck
        self.head = PrototypeHead(width, hidden, bottleneck, self.prototypes)
        self.predictor = Predictor(width, self.predictor_layers) if self.drop else None
        assert model.teacher is not None  # the model makes one for every objective that declares `uses_teacher`
        model.teacher.track(self.head)

    def per_clip_no_grad(self, views: Views) -> Mapping[str, Tensor]:
        """Compute the teacher's output for each hidden patch, (n, d)."""
        rows = views.hidden_rows
        return {"teacher": self._teacher_head(views).embed(views.teacher.tokens.values[rows])}

    def per_clip(self, views: Views) -> Mapping[str, Tensor]:
        """Compute the student's prediction for each hidden patch, (n, d)."""
        rows = views.hidden_rows
        # No row is hidden twice, so the gradient of this selection needs no sorting, unlike that of indexing.
        return {"student": self.head.embed(self._student(views).index_select(0, rows))}

    def _student(self, views: Views) -> Tensor:
        """Return the student's output for all patches, (N, D)."""
        if self.predictor is None:
            return views.masked.tokens.values
        predicted: Tensor = self.predictor(views.visible.tokens, views.patches, views.hidden)
        return predicted

    def forward(self, views: Views) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the mean over the hidden patches of all processes, 0 if there are none; logs signs of a collapse."""
        found = views.per_clip(self)
        compute = self._at_once if views.chunks == 1 else self._in_chunks
        losses, tally = compute(found["student"], found["teacher"], views)
        rows = views.hidden_rows
        views.note(by_clip(losses, views.outline.item[rows], len(views.outline)))
        signs = collapse_signs(all_sum(tally))
        return global_mean(losses), {**signs, "effective_rank": effective_rank(found["teacher"])}

    def _at_once(self, student: Tensor, teacher: Tensor, views: Views) -> tuple[Tensor, Tensor]:
        """Compute the losses of the hidden patches, (n,), and their tally, see `tally_of`."""
        with torch.no_grad():
            scores = self._scores(teacher, views)
            targets = assign(scores, balance(lambda: [scores], self.iterations))
        return self._losses(student, targets), tally_of(scores, targets)

    def _in_chunks(self, student: Tensor, teacher: Tensor, views: Views) -> tuple[Tensor, Tensor]:
        """Compute the same without holding all scores, (n, K): each chunk is computed again whenever it is needed."""

        @torch.no_grad()
        def chunks() -> Iterator[Tensor]:
            return (self._scores(chunk, views) for chunk in teacher.tensor_split(views.chunks))

        columns = balance(chunks, self.iterations)

        def losses(student: Tensor, teacher: Tensor) -> Tensor:
            with torch.no_grad():
                targets = assign(self._scores(teacher, views), columns)
            return self._losses(student, targets)

        with torch.no_grad():
            tally = torch.stack([tally_of(scores, assign(scores, columns)) for scores in chunks()]).sum(0)
        return checkpointed_chunks(losses, [student, teacher], views.chunks), tally

    def _losses(self, student: Tensor, targets: Tensor) -> Tensor:
        predictions = self.head.scores(student) / self.student_temperature
        return -(targets * log_softmax(predictions, dim=1)).sum(1)

    def _scores(self, teacher: Tensor, views: Views) -> Tensor:
        return self._teacher_head(views).scores(teacher) / self.teacher_temperature

    def _teacher_head(self, views: Views) -> PrototypeHead:
        return cast("PrototypeHead", views.teacher_of(self.head))

    def health_check(self, logged: Mapping[str, float]) -> str | None:
        """Describe the collapse of the teacher's features, if the logged scalars show one."""
        if not logged["effective_rank"]:
            return None  # no patch was hidden
        signs = []
        if logged["teacher_entropy"] > LARGEST_ENTROPY:
            signs.append(f"the teacher's targets are all but uniform (teacher_entropy {logged['teacher_entropy']:.4f})")
        if logged["prototype_usage"] * self.prototypes < FEWEST:
            used = logged["prototype_usage"] * self.prototypes
            signs.append(f"{used:.2f} of {self.prototypes} prototypes are used")
        if logged["effective_rank"] < FLATTEST:
            signs.append(f"the teacher's features span {logged['effective_rank']:.4f} directions (effective_rank)")
        return "; ".join(signs) or None


class PrototypeHead(nn.Module):
    """Three linear layers, length 1, and cosines with learned prototypes (DINO, arXiv 2104.14294), without biases.

    Args:
        width: D.
        hidden: width between the layers.
        bottleneck: width of the last layer.
        prototypes: K.
    """

    entrances = ("embed", "scores")  # see slap.training.fsdp

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.enter = linear(width, hidden)
        self.middle = linear(hidden, hidden)
        self.leave = linear(hidden, bottleneck)
        # No linear layer, so that weight decay leaves it alone: only its directions count.
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck) * bottleneck**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Compute cosines, (n, D) -> (n, K), at least float32."""
        return self.scores(self.embed(x))

    def embed(self, x: Tensor) -> Tensor:
        """Project patches, (n, D) -> (n, d), each of length 1, at least float32."""
        x = self.leave(gelu(self.middle(gelu(self.enter(x)))))
        with torch.autocast(x.device.type, enabled=False):  # a low temperature magnifies what bfloat16 rounds away
            return normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=1)

    def scores(self, x: Tensor) -> Tensor:
        """Compute cosines with the prototypes, (n, d) -> (n, K)."""
        with torch.autocast(x.device.type, enabled=False):
            return x @ normalize(self.prototypes.to(x.dtype), dim=1).T


@torch.no_grad()
def effective_rank(features: Tensor) -> Tensor:
    """Compute the number of directions that features spread over: 1 when all are alike, up to d; 0 without features.

    It is the participation ratio of the eigenvalues e of the second moment of features of length 1,
    (sum e)^2 / sum e^2. Its computation needs no eigenvalues, so it costs little and adds up over processes.

    Args:
        features: (n, d), of which at most `SAMPLE` per process are used.
    """
    some = features[:: -(-len(features) // SAMPLE) or 1]
    with torch.autocast(some.device.type, enabled=False):
        some = normalize(some.to(torch.promote_types(some.dtype, torch.float32)), dim=1)
        moment = all_sum(some.T @ some)
    return moment.trace().square() / moment.square().sum().clamp(min=torch.finfo(moment.dtype).tiny)


@torch.no_grad()
def tally_of(scores: Tensor, targets: Tensor) -> Tensor:
    """Count for some tokens what `collapse_signs` needs; tallies add up over chunks and processes.

    Args:
        scores: (n, K) before Sinkhorn, which would hide that few prototypes are in use.
        targets: (n, K) after Sinkhorn.

    Returns:
        (1 + K,): the sum of the targets' entropies, and the number of tokens for which each prototype has the highest
        score.
    """
    firsts = scores.new_zeros(scores.shape[1]).index_add_(0, scores.argmax(1), scores.new_ones(len(scores)))
    return torch.cat([torch.special.entr(targets).sum()[None], firsts])


@torch.no_grad()
def collapse_signs(tally: Tensor) -> dict[str, Tensor]:
    """Compute the scalars to log about the teacher, over the tokens of all processes; 0 without tokens.

    Args:
        tally: (1 + K,), see `tally_of`.

    Returns:
        `teacher_entropy` and `prototype_usage`, see `MaskedDistillation`.
    """
    firsts, prototypes = tally[1:], len(tally) - 1
    count = firsts.sum().clamp(min=1)
    usage = torch.special.entr(firsts / count).sum().exp() * (firsts.sum() > 0)
    return {"teacher_entropy": tally[0] / count / log(prototypes), "prototype_usage": usage / prototypes}
