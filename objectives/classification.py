"""Classification by a linear head on the audio encoder, with one label per clip or any number of labels.

B clips, n of them with labels, K classes, D width of what the head reads, E shared dimension.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from slap.core.batch import Batch
from slap.core.distributed import all_sum, world_size
from slap.core.errors import UserError
from slap.core.packed import Packed
from slap.core.registry import register
from slap.model.contracts import Classifier, ModelParts, Objective, TrainingClips
from slap.model.views import View, Views, student_view

FEATURES = ("embedding", "tokens")


@register("classification")
class Classification(Objective, Classifier):
    """Cross-entropy of a clip's label, or binary cross-entropy of each class where clips may have several labels.

    Labels come from the label columns of manifests, by `Batch.shares`, so soft labels, as from mixup, are targets as
    they are. Clips without a label of the task do not count. The paper fine-tunes on ESC-50, Speech Commands and
    AudioSet without saying how; the head is our choice: a layer norm and a linear layer, as in linear probing.

    Args:
        task: the task that gives the labels, in the column `label` (the default), `label_<task>` or `tags_<task>` of
            the manifest.
        classes: names of the K classes. Default: those of the training clips, in alphabetical order.
        multi_label: whether a clip may have several labels.
        features: input of the head: the clip's `embedding`, or the mean of its dense `tokens`.
        label_smoothing: share of the target that is spread over the classes; only with one label per clip.
        dropout: dropout on the input of the head.
        view: the view of the audio, `full` or `masked`, as for `contrastive`.

    Raises:
        ValueError: an argument is out of range, or there are fewer than two classes.
    """

    uses_text = False

    def __init__(
        self,
        task: str = "label",
        classes: Sequence[str] | None = None,
        multi_label: bool = False,
        features: Literal["embedding", "tokens"] = "embedding",
        label_smoothing: float = 0.0,
        dropout: float = 0.0,
        view: str = "full",
    ) -> None:
        super().__init__()
        if features not in FEATURES:
            raise UserError(f"features must be one of {', '.join(FEATURES)}; got {features!r}")
        if not 0 <= label_smoothing < 1 or (multi_label and label_smoothing):
            raise UserError(
                f"label_smoothing must be from 0 to below 1, and 0 with several labels per clip; got {label_smoothing}"
            )
        if not 0 <= dropout < 1:
            raise UserError(f"dropout must be from 0 to below 1, got {dropout}")
        self.task, self.multi_label, self.features = task, multi_label, features
        self.classes = () if classes is None else self._checked(classes)
        self.label_smoothing, self.view = label_smoothing, student_view(view)
        self.dropout = nn.Dropout(dropout)

    def setup(self, model: ModelParts) -> None:
        """Build the layer norm, and the linear layer if the classes are known."""
        self.width = model.embedding_dim if self.features == "embedding" else model.audio.width
        self.norm = nn.LayerNorm(self.width)
        self.linear: nn.Linear | None = None
        if self.classes:
            self._build(self.classes)

    def prepare(self, clips: TrainingClips) -> None:
        """Learn the names of the classes, unless they were given.

        Raises:
            ValueError: the training clips have no labels of the task, or several each without `multi_label`.
        """
        if self.classes:
            return
        labels = clips.labels(self.task)
        several = next((names for names in labels if len(names) > 1), None)
        if several and not self.multi_label:
            raise UserError(
                f"clips have several labels of the task {self.task!r}, e.g. {', '.join(several)}: set multi_label"
            )
        names = sorted({name for names in labels for name in names})
        if not names:
            raise UserError(
                f"no training clip has a label of the task {self.task!r}: its manifest needs the column `label` "
                "for the task 'label', or `label_<task>`, or `tags_<task>` for several labels per clip"
            )
        self._build(names)

    def portable(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments with the classes."""
        return {**options, "classes": list(self.classes)} if self.classes else dict(options)

    def forward(self, views: Views) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the mean over the clips with labels on all processes; logs the share that is classified right."""
        scores = self.scores(getattr(views, self.view))
        targets, known = self.targets(views.batch)
        targets, known = (part.to(scores.device, non_blocking=True) for part in (targets, known))
        with torch.autocast(scores.device.type, enabled=False):
            scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
            losses = self._losses(scores, targets.to(scores.dtype))
        views.note(losses.masked_fill(~known, torch.nan))
        # As `global_mean` of the clips with labels, without waiting for the device to count them.
        right = (scores.detach().argmax(1) == targets.argmax(1)) & known & scores.isfinite().all(1)
        hits, count = all_sum(torch.stack([right.sum(), known.sum()]))
        loss = losses.masked_fill(~known, 0.0).sum() * world_size() / count.clamp(min=1)
        return loss, {} if self.multi_label else {"accuracy": hits / count.clamp(min=1)}

    def scores(self, view: View) -> Tensor:
        """Compute logits of the classes, (B, K), from a view of the audio.

        Raises:
            RuntimeError: the classes are not known yet.
        """
        if self.linear is None:
            raise RuntimeError(
                f"the head has no classes yet: training learns them, or give classes=[...] of {self.task!r}"
            )
        read = view.embedding if self.features == "embedding" else mean_of(view.tokens)
        logits: Tensor = self.linear(self.dropout(self.norm(read)))
        return logits

    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the share of each class in each clip, (B, K), and which clips have labels of the task, (B,) bool.

        Raises:
            ValueError: a clip has a label that is none of the classes.
        """
        place = {name: number for number, name in enumerate(self.classes)}
        shares = batch.shares(self.task)
        targets = torch.zeros(len(batch), len(self.classes))
        for clip, labels in enumerate(shares):
            for name, share in (labels or {}).items():
                if name not in place:
                    raise UserError(
                        f"clip {batch.ids[clip]!r} has the {self.task} label {name!r}, "
                        f"but the classes are {', '.join(self.classes)}"
                    )
                targets[clip, place[name]] = share
        return targets, torch.tensor([labels is not None for labels in shares], dtype=torch.bool)

    def _losses(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each clip, (B, K) and (B, K) -> (B,)."""
        if self.multi_label:
            return binary_cross_entropy_with_logits(scores, targets, reduction="none").mean(1)
        return cross_entropy(scores, targets, reduction="none", label_smoothing=self.label_smoothing)

    def _build(self, classes: Sequence[str]) -> None:
        self.classes = self._checked(classes)
        self.linear = nn.Linear(self.width, len(self.classes)).to(self.norm.weight)
        nn.init.zeros_(self.linear.bias)
        nn.init.normal_(self.linear.weight, std=0.01)  # so that training begins with even chances

    @staticmethod
    def _checked(classes: Sequence[str]) -> tuple[str, ...]:
        names = tuple(classes)
        if isinstance(classes, str) or len(names) < 2 or len(set(names)) < len(names):
            raise UserError(f"classes must be a list of two or more different names, got {classes!r}")
        return names

    # -- the classes travel with the weights --------------------------------------------------------------------------

    def get_extra_state(self) -> Tensor:
        """Return the names of the classes as bytes, which weights-only loading and safetensors accept."""
        return torch.tensor(list(json.dumps(self.classes).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the classes of a checkpoint.

        Raises:
            ValueError: other classes were given to the constructor.
        """
        names = tuple(json.loads(bytes(state.tolist())))
        if self.classes and names and names != self.classes:
            raise UserError(f"the checkpoint classifies {', '.join(names)}; asked for were {', '.join(self.classes)}")
        if names and not self.classes:
            self._build(names)


def mean_of(tokens: Packed) -> Tensor:
    """Compute the mean of each clip's features, (N, D) -> (B, D)."""
    sums = tokens.values.new_zeros(len(tokens), tokens.values.shape[1]).index_add_(0, tokens.item, tokens.values)
    return sums / tokens.lengths[:, None].to(sums.dtype)
