"""The plan of an evaluation: rows, each a task on a data set, and the tasks with their options."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slap.core.errors import UserError, suggest
from slap.core.registry import arguments, build, plugins
from slap.evaluation.benchmarks import datasets
from slap.evaluation.published import paper_rows
from slap.evaluation.tasks.base import Task, UnavailableError, Use

PAPER = "paper"


@dataclass(frozen=True)
class EvalRow:
    """A task on a data set.

    Attributes:
        task: its name.
        dataset: the name of the data set or of a manifest.
        label: of a manifest with labels for several tasks, which of them; "" is the only one.
        asked: whether a word named this row by itself; one that was not is skipped where there is no data for it.
        use: the kind of annotation of a manifest, where a task is run for each; None is what the task can use.
    """

    task: str
    dataset: str
    label: str = ""
    asked: bool = True
    use: Use | None = None

    def __str__(self) -> str:
        """Name the row as `--tasks` does."""
        return "/".join(filter(None, (self.task, self.dataset, self.label)))


def rows_of(words: Sequence[str], tasks: Mapping[str, type[Task]], manifests: Sequence[str] = ()) -> list[EvalRow]:
    """Return the rows to run, each once, in the order in which they are asked for.

    Args:
        words: `paper`; TASK for all data sets that it can run on; DATASET for all tasks that can run on it, but those
            that run only by their name; TASK/DATASET; TASK/MANIFEST/LABEL. For TASK may stand the first part of the
            names of several, e.g. `robust`.
        tasks: all tasks, by name.
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
        usual = {task: kind for task, kind in tasks.items() if not kind.only_named}
        fitting = [task for task, kind in usual.items() if word in manifests or fits(kind, word)]
        return [EvalRow(task, word, asked=False) for task in fitting]
    task, rest = _split(word, tasks)
    family = [name for name in tasks if task not in tasks and name.startswith(f"{task}/")]
    if family:
        more = f"/{rest}" if rest else ""
        return [row for name in family for row in _rows(name + more, tasks, manifests)]
    dataset, _, label = rest.partition("/")
    if not rest:
        raise UserError(f"--tasks: {word!r} is no task and no data set; {suggest(word, [PAPER, *tasks, *names])}")
    if task not in tasks:
        raise UserError(f"--tasks {word}: there is no task {task!r}; {suggest(task, tasks)}")
    if dataset not in names:
        raise UserError(f"--tasks {word}: there is no data set {dataset!r}; {suggest(dataset, names)}")
    if dataset not in manifests and (reason := misfit(tasks[task], dataset)):
        raise UserError(f"--tasks {word}: {reason}")
    return [EvalRow(task, dataset, label)]


def _split(word: str, tasks: Mapping[str, type[Task]]) -> tuple[str, str]:
    """Split a row into its task, whose name may have slashes itself, and the rest."""
    known = [task for task in tasks if word.startswith(f"{task}/")]
    task = max(known, key=len) if known else word.partition("/")[0]
    return task, word.removeprefix(task).removeprefix("/")


def fits(task: type[Task], dataset: str) -> bool:
    """Return whether a task can run on a benchmark."""
    return not misfit(task, dataset)


def misfit(task: type[Task], dataset: str) -> str:
    """Return why a task cannot run on a benchmark; "" if it can."""
    found = datasets()[dataset]
    if found.use not in task.uses:
        return f"{dataset} has {found.use}, and the task needs {' or '.join(task.uses)}"
    if task.learns and not found.has_training:
        return f"{dataset} has neither folds nor a training split to learn from"
    return ""


def checked_options(
    options: Mapping[str, Mapping[str, Any]], tasks: Mapping[str, type[Task]]
) -> dict[str, dict[str, Any]]:
    """Return the options of tasks after a check.

    Args:
        options: values by task and option.
        tasks: all tasks, by name.

    Raises:
        ValueError: there is no such task or option; lists what is valid.
    """
    for task, values in options.items():
        if task not in tasks:
            raise UserError(f"--set {task}: there is no task {task!r}; {suggest(task, tasks)}")
        valid = arguments(tasks[task])
        for option in values:
            if option not in valid:
                raise UserError(f"--set {task}.{option}: {task} has no option {option!r}; {suggest(option, valid)}")
    return {task: dict(values) for task, values in options.items()}


def options_from_words(words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the options of tasks that TASK.OPTION=VALUE sets; a value is JSON or text.

    Raises:
        ValueError: a word has another form.
    """
    found: dict[str, dict[str, Any]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        task, dot, option = name.partition(".")
        if not equals or not dot:
            raise UserError(f"--set {word}: write TASK.OPTION=VALUE")
        own = found.setdefault(task, {})
        try:
            own[option] = json.loads(value)
        except ValueError:
            own[option] = value
    return found


def make_task(name: str, options: Mapping[str, Mapping[str, Any]]) -> Task:
    """Make a task with its options.

    Raises:
        UnavailableError: there is no such task here, which is so for some rows of the paper alone.
    """
    if name not in plugins("task"):
        raise UnavailableError("a recipe trains its head and `slap test` evaluates it; a linear probe needs neither")
    task: Task = build("task", name, options.get(name, {}))
    return task
