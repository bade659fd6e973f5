"""From what `--tasks` says to the rows to run: a task on a data set each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slap.core.errors import suggest
from slap.evaluation.benchmarks import datasets
from slap.evaluation.published import paper_rows
from slap.evaluation.tasks.base import Task

PAPER = "paper"


@dataclass(frozen=True)
class EvalRow:
    """A task on a data set.

    Attributes:
        task: its name.
        dataset: the name of the data set or of a manifest.
        label: of a manifest with labels for several tasks, which of them; "" is the only one.
        asked: whether the row was named; one that was not is skipped where there is no data for it.
    """

    task: str
    dataset: str
    label: str = ""
    asked: bool = True

    def __str__(self) -> str:
        """As `--tasks` names it."""
        return "/".join(filter(None, (self.task, self.dataset, self.label)))


def rows_of(words: Sequence[str], tasks: Mapping[str, type[Task]], manifests: Sequence[str] = ()) -> list[EvalRow]:
    """The rows to run, each once, in the order in which they are asked for.

    Args:
        words: `paper`; TASK for all data sets that it can run on; DATASET for all tasks that can run on it;
            TASK/DATASET; TASK/MANIFEST/LABEL.
        tasks: those that there are, by name.
        manifests: the names that the user gave to manifests.

    Raises:
        ValueError: a word is none of these; lists what is valid.
    """
    found: dict[tuple[str, str, str], EvalRow] = {}
    for word in words:
        for row in _rows(word, tasks, manifests):
            key = (row.task, row.dataset, row.label)
            if key not in found or row.asked:
                found[key] = row
    return list(found.values())


def _rows(word: str, tasks: Mapping[str, type[Task]], manifests: Sequence[str]) -> list[EvalRow]:
    known = datasets()
    names = [*manifests, *known]
    if word == PAPER:
        pairs = dict.fromkeys((row.task, row.dataset) for row in paper_rows())
        return [EvalRow(task, dataset, asked=False) for task, dataset in pairs]
    if word in tasks:
        fitting = [name for name in names if name in manifests or fits(tasks[word], name)]
        return [EvalRow(word, name, asked=False) for name in fitting]
    if word in names:
        fitting = [task for task, kind in tasks.items() if word in manifests or fits(kind, word)]
        return [EvalRow(task, word, asked=False) for task in fitting]
    task, _, rest = word.partition("/")
    dataset, _, label = rest.partition("/")
    if not rest:
        raise ValueError(f"--tasks: {word!r} is no task and no data set; {suggest(word, [PAPER, *tasks, *names])}")
    if task not in tasks:
        raise ValueError(f"--tasks {word}: there is no task {task!r}; {suggest(task, tasks)}")
    if dataset not in names:
        raise ValueError(f"--tasks {word}: there is no data set {dataset!r}; {suggest(dataset, names)}")
    if dataset not in manifests and (reason := misfit(tasks[task], dataset)):
        raise ValueError(f"--tasks {word}: {reason}")
    return [EvalRow(task, dataset, label)]


def fits(task: type[Task], dataset: str) -> bool:
    """Whether a task can run on a data set that is known by name."""
    return not misfit(task, dataset)


def misfit(task: type[Task], dataset: str) -> str:
    """Why a task cannot run on a data set that is known by name; "" if it can."""
    found = datasets()[dataset]
    if found.use not in task.uses:
        return f"{dataset} has {found.use}, and the task needs {' or '.join(task.uses)}"
    if task.learns and not found.can_be_learnt:
        return f"{dataset} has neither folds nor a training split to learn from"
    return ""
