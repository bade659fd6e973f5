"""What an objective shows whose head classifies clips, so that it can be judged: see `slap.training.head_figures`.

B clips, K classes.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from slap.core.batch import Batch
    from slap.model.views import View


class Classifier:
    """An objective that classifies; a mix-in beside `Objective`.

    A model all of whose objectives are heads is judged by them alone: its text encoder learns nothing.

    Attributes:
        task: whose labels it learns.
        classes: names of the K classes.
        multi_label: whether a clip may have several labels.
    """

    task: str
    classes: tuple[str, ...]
    multi_label: bool

    @abstractmethod
    def scores(self, view: View) -> Tensor:
        """Scores of the classes, (B, K), from a view of the audio; the highest is the most probable."""

    @abstractmethod
    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The share of each class in each clip, (B, K), and which clips have labels of the task, (B,) bool."""
