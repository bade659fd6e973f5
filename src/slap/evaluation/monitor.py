"""Guard of the metric that selects a checkpoint: it comes from validation, never from clips that are reported on."""

from __future__ import annotations

from collections.abc import Sequence

from slap.core.errors import UserError
from slap.datamodules.datamodule import AudioTextData
from slap.datamodules.manifests.read import read_manifest
from slap.evaluation.benchmarks import datasets


def check_monitor(monitor: str) -> None:
    """Refuse to select a checkpoint by anything but validation.

    Args:
        monitor: name of the metric: `val/...`, or `eval/<task>/<data set>/<metric>` of the callback `Evaluate`.

    Raises:
        ValueError: it is another metric, or one of a published data set.
    """
    parts = monitor.split("/")
    own_manifest = parts[0] == "eval" and len(parts) in (4, 5) and parts[2] not in datasets()
    if not (monitor.startswith("val/") or own_manifest):
        raise UserError(
            "the best checkpoint is selected on validation: monitor must begin with val/, or be a metric of the "
            "callback Evaluate on a manifest of yours, not on the test set of a published data set; "
            f"got {monitor!r}"
        )


def refuse_published(monitor: str, dataset: str) -> None:
    """Refuse to select a checkpoint by the published test of a benchmark.

    Raises:
        ValueError: the data set is a benchmark.
    """
    if dataset in datasets():
        raise UserError(
            f"the monitor {monitor} would select the checkpoint by the published test of {dataset}, whose metrics "
            "are then too high; give Evaluate a manifest of its validation split, as NAME=PATH, and monitor that"
        )


def refuse_tested(monitor: str, evaluated: Sequence[str], tested: set[str]) -> None:
    """Refuse to select a checkpoint by clips that the run is tested on.

    Args:
        monitor: name of the metric.
        evaluated: ids of the clips that the metric is computed on.
        tested: ids of the test clips.

    Raises:
        ValueError: a clip is in both.
    """
    shared = [name for name in evaluated if name in tested]
    if shared:
        raise UserError(
            f"the monitor {monitor} would select the checkpoint by clips that the run is tested on: {len(shared)} of "
            f"{len(evaluated)}, e.g. {shared[0]!r}; evaluate validation clips, or monitor another metric"
        )


def test_ids(data: AudioTextData) -> set[str]:
    """Return the ids of the clips that a data module tests on."""
    return {cut.id for path in data.manifests["test"] for cut in read_manifest(path, max_bad=1.0)}
