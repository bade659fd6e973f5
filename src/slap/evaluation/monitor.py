"""Guard of the metric that selects a checkpoint: it comes from validation, never from the test set of a benchmark."""

from __future__ import annotations

from slap.core.errors import UserError
from slap.evaluation.benchmarks import datasets


def check_monitor(monitor: str) -> None:
    """Refuse to select a checkpoint by anything but validation.

    Args:
        monitor: name of the metric: `val/...`, or `eval/<task>/<data set>/<metric>` of the callback `Evaluate`.

    Raises:
        ValueError: it is another metric, or one of a published data set.
    """
    parts = monitor.split("/")
    own_manifest = parts[0] == "eval" and len(parts) == 4 and parts[2] not in datasets()
    if not (monitor.startswith("val/") or own_manifest):
        raise UserError(
            "the best checkpoint is selected on validation: monitor must begin with val/, or be a metric of the "
            "callback Evaluate on a manifest of yours, not on the test set of a published data set; "
            f"got {monitor!r}"
        )
