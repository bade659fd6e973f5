"""What `slap evaluate --list` prints: tasks, data sets and prompt sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slap.core.registry import plugins
from slap.evaluation.benchmarks import datasets
from slap.evaluation.plan import fits
from slap.evaluation.prompts import PromptBook


def listing(files: Sequence[Path] = ()) -> str:
    """The list, as text.

    Args:
        files: with prompt sets of the user.
    """
    tasks = plugins("task")
    lines = ["tasks"]
    lines += [f"  {name:<16} {(task.__doc__ or '').strip().splitlines()[0]}" for name, task in tasks.items()]
    lines += ["", "data sets, and the tasks that run on them"]
    for name, dataset in datasets().items():
        fitting = ", ".join(task for task, kind in tasks.items() if fits(kind, name))
        lines.append(f"  {name:<16} {dataset.about} ({fitting})")
    lines += ["", "prompt sets"]
    for name, found in PromptBook.built_in(more=files).sets.items():
        lines.append(f"  {name:<16} {found.about}")
        if found.general is not None:
            lines.append(f"  {'':<16}   {found.general.plain()}")
        lines += [f"  {'':<16}   {dataset}: {wording.plain()}" for dataset, wording in found.own.items()]
    return "\n".join(lines)
