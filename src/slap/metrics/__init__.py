"""Metrics as pure functions, and over them torchmetrics classes, with confidence intervals, tables and plots.

`RetrievalMetric`, `ZeroShotMetric` and `ClassifierMetric` fit any LightningModule or MetricCollection. They load on
first use, since importing torchmetrics takes long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slap.metrics.classifier_metric import ClassifierMetric as ClassifierMetric
    from slap.metrics.clip_metrics import RetrievalMetric as RetrievalMetric
    from slap.metrics.clip_metrics import ZeroShotMetric as ZeroShotMetric

__all__ = ["ClassifierMetric", "RetrievalMetric", "ZeroShotMetric"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'slap.metrics' has no attribute {name!r}")
    from slap.metrics import classifier_metric, clip_metrics

    return getattr(classifier_metric if name == "ClassifierMetric" else clip_metrics, name)
