"""Metrics as pure functions, and over them torchmetrics classes, with confidence intervals, tables and plots.

`RetrievalMetric`, `ZeroShotMetric`, `ChoiceMetric` and `ClassifierMetric` fit any LightningModule or MetricCollection.
They load on first use, since importing torchmetrics takes long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slap.metrics.choice_metric import ChoiceMetric as ChoiceMetric
    from slap.metrics.classifier_metric import ClassifierMetric as ClassifierMetric
    from slap.metrics.clip_metrics import RetrievalMetric as RetrievalMetric
    from slap.metrics.clip_metrics import ZeroShotMetric as ZeroShotMetric

__all__ = ["ChoiceMetric", "ClassifierMetric", "RetrievalMetric", "ZeroShotMetric"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'slap.metrics' has no attribute {name!r}")
    from slap.metrics import choice_metric, classifier_metric, clip_metrics

    home = {"ChoiceMetric": choice_metric, "ClassifierMetric": classifier_metric}
    return getattr(home.get(name, clip_metrics), name)
