"""Evaluation tasks as plug-ins: a task turns a model and a data set into metrics.

    @register("nearest")
    class Nearest(Task):
        '''Similarity of a clip to the one after it.'''

        uses = ("labels",)

        def run(self, subject, data, progress):
            features = subject.features(data, progress)
            ...
            return result_of("nearest", subject, data, features, metrics, definitions)

`slap evaluate MODEL --tasks nearest/esc50` runs it then. Arguments of the constructor are options of the task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from slap.core.errors import UserError
from slap.core.progress import Progress
from slap.core.registry import add_kind
from slap.evaluation.eval_set import EvalSet, hash_of_ids
from slap.metrics.average_precision import MacroPrecision
from slap.metrics.bootstrap import MetricValue
from slap.metrics.finite import finite_rows, not_finite_line
from slap.metrics.paired import Answers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from slap.evaluation.evaluated_model import Embeddings, EvaluatedModel

Use = Literal["captions", "labels", "tags", "choices", "segments"]
"""Annotation that a task needs of clips: captions, one label each, any number of labels, questions, or segments."""


class UnavailableError(UserError):
    """No data for a row, or nothing here that can run it; the message says why."""


@dataclass
class TaskResult:
    """The metrics of one task on one data set, and what they depend on.

    Attributes:
        task: name of the task.
        dataset: name of the data set.
        split: the published split that was evaluated.
        metrics: the metrics, by name.
        definitions: how each metric is computed, in words, by its name.
        settings: all else that the metrics depend on: prompts, windows, options of the task; plain data.
        counts: `official`, `found`, `evaluated`; and `lost`, by reason.
        ids_sha256: hash of the ids of the clips that were evaluated, see `slap.evaluation.eval_set.hash_of_ids`.
        warnings: what a reader must know.
        per_class: for each class its name, metrics and number of clips; plain data.
        failed: the clips that could not be used, with the reason.
        files: text files beside the record, by name, e.g. the captions that were written.
        plots: drawings by the name of their file, made when they are asked for.
    """

    task: str
    dataset: str
    split: str
    metrics: dict[str, MetricValue]
    definitions: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    ids_sha256: str = ""
    warnings: list[str] = field(default_factory=list)
    per_class: list[dict[str, Any]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    plots: dict[str, Callable[[], Figure]] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """The metrics of a task on embedded clips, and what is behind each of them.

    Attributes:
        metrics: the metrics, by name.
        answers: by the name of a metric what is behind it, from which its change to another condition is computed.
        definitions: how each metric is computed, in words, by its name.
        settings: what the metrics depend on.
        warnings: what a reader must know.
    """

    metrics: Mapping[str, MetricValue]
    answers: Mapping[str, Answers | MacroPrecision]
    definitions: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()


class Task(ABC):
    """A way to evaluate models. `slap plugins` prints the first line of the docstring.

    Attributes:
        uses: annotations that it can use; it runs on the data sets that have one of these.
        learns: whether it trains something: then the set has clips of the parts "train" and, where the data set has
            one, "val" beside "test", or folds.
        headline: the metrics that tables on a terminal show; none stands for all.
        every_kind: whether it is run once for each kind of annotation that a manifest has.
        only_named: whether it runs only where its own name is among the rows that are asked for, as it takes long.
    """

    uses: ClassVar[tuple[Use, ...]]
    learns: ClassVar[bool] = False
    headline: ClassVar[tuple[str, ...]] = ()
    every_kind: ClassVar[bool] = False
    only_named: ClassVar[bool] = False

    @abstractmethod
    def run(self, subject: EvaluatedModel, data: EvalSet, progress: Progress) -> TaskResult:
        """Evaluate a model on a data set.

        Args:
            subject: the model.
            data: the clips.
            progress: makes progress bars.

        Raises:
            ValueError: the model or the data cannot be evaluated so; says why.
        """

    @classmethod
    def shows(cls, metric: str) -> bool:
        """Return whether tables on a terminal show a metric."""
        return not cls.headline or metric in cls.headline


def result_of(
    task: str,
    subject: EvaluatedModel,
    data: EvalSet,
    features: Embeddings,
    metrics: Mapping[str, MetricValue],
    definitions: Mapping[str, str],
    settings: Mapping[str, Any] | None = None,
) -> TaskResult:
    """Make a result with all that is the same for every task.

    Args:
        task: name of the task.
        subject: the model.
        data: the clips that were asked for.
        features: the clips that were evaluated.
        metrics: the metrics, by name.
        definitions: how each metric is computed, by its name.
        settings: what the metrics depend on beside windows and channels.
    """
    test = data.part("test")
    ids = {clip.id for clip in test.clips}
    failed = [(name, reason) for name, reason in features.failed if name in ids]
    evaluated = [data.clips[row].id for row in features.rows if data.clips[row].part == "test"]
    counts = {
        "official": data.official,
        "found": len(test.clips),
        "evaluated": len(evaluated),
        "lost": dict(data.lost),
        "unusable": len(failed),
    }
    return TaskResult(
        task=task,
        dataset=data.name,
        split=data.split,
        metrics=dict(metrics),
        definitions=dict(definitions),
        settings={**(settings or {}), **subject.handling(features)},
        counts=counts,
        ids_sha256=hash_of_ids(evaluated),
        warnings=[*data.warnings, *_shortfall(counts), *_not_finite(data, features)],
        failed=failed,
    )


def spread(sizes: Sequence[int]) -> str:
    """Write one number, or the least and the largest of several.

    Example:
        >>> spread([5, 5]), spread([2, 1, 4])
        ('5', '1 to 4')
    """
    return str(sizes[0]) if len(set(sizes)) == 1 else f"{min(sizes)} to {max(sizes)}"


def _not_finite(data: EvalSet, features: Embeddings) -> Sequence[str]:
    bad = (~finite_rows(features.embeddings)).nonzero().flatten().tolist()
    return [not_finite_line(data.clips[features.rows[i]].id for i in bad)] if bad else []


def _shortfall(counts: Mapping[str, Any]) -> Sequence[str]:
    official, evaluated = counts["official"], counts["evaluated"]
    if official is None or evaluated == official:
        return []
    return [f"{evaluated} clips were evaluated; the published list has {official}"]


add_kind("task", Task, plural="tasks", reserved={"task", "dataset"})
