"""Guard of the metric that selects a checkpoint: it comes from validation, never from clips that are reported on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from slap.core.errors import UserError
from slap.datamodules.datamodule import AudioTextData
from slap.evaluation.benchmarks import datasets
from slap.evaluation.data import clips_of
from slap.evaluation.eval_set import EvalClip


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


def refuse_tested(monitor: str, evaluated: Sequence[EvalClip], data: AudioTextData) -> None:
    """Refuse to select a checkpoint by clips that the run is tested on: of the same id, or of the same audio.

    Args:
        monitor: name of the metric.
        evaluated: the clips that the metric is computed on.
        data: the data module, whose manifests of the split "test" are compared.

    Raises:
        ValueError: a clip is in both.
    """
    parts = [clips_of(path, "captions", "", "test", Counter(), data.columns) for path in data.manifests["test"]]
    found = [clip for part in parts for clip in part]
    ids, audio = {clip.id for clip in found}, {_place(clip) for clip in found}
    shared = [clip.id for clip in evaluated if clip.id in ids or _place(clip) in audio]
    if shared:
        raise UserError(
            f"the monitor {monitor} would select the checkpoint by clips that the run is tested on: {len(shared)} of "
            f"{len(evaluated)}, e.g. {shared[0]!r}; evaluate validation clips, or monitor another metric"
        )


def _place(clip: EvalClip) -> str:
    return str(Path(str(clip.audio)).absolute())
