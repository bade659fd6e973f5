"""Run tasks of the MTEB benchmarks: MAEB, for sounds and their texts, and what it is made of.

    slap mteb exported --tasks UrbanSound8KT2ARetrieval RavdessZeroshot --out results
    slap mteb exported --benchmark MAEB --out results

The library mteb downloads the data of each task from the Hugging Face hub, which takes many gigabytes; `slap evaluate`
is the command for data of your own. Results are kept in --out as mteb does, one JSON per task, and a task that is there
already is not run again. A line is the task, its main metric and the value; metrics and protocols are mteb's.

Exit status: 0 done; 2 nothing was done.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from slap.cli.options import add_common, add_dtype, add_model, add_weights, load
from slap.core.errors import UserError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(parser)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--tasks", nargs="+", metavar="NAME", help="tasks to run, by their names in mteb")
    chosen.add_argument("--benchmark", metavar="NAME", help="benchmark of mteb whose tasks are run, e.g. MAEB")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to keep the results in")
    parser.add_argument(
        "--name",
        metavar="ORGANIZATION/NAME",
        help="name of the model in the results (default: slap/ and the hash of its weights)",
    )
    add_dtype(parser)
    add_weights(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and print."""
    from slap.evaluation.mteb_model import MtebModel, run_tasks

    model = MtebModel(load(arguments), arguments.name)
    tasks = _tasks(arguments)
    metric = {task.metadata.name: task.metadata.main_score for task in tasks}
    found = run_tasks(model, tasks, arguments.out)
    if arguments.json:
        print(json.dumps([one.to_dict() for one in found], indent=2))
    for one in [] if arguments.json else found:
        print(f"{one.task_name}  {metric[one.task_name]}  {one.get_score():.4f}")
    return 0


def _tasks(arguments: argparse.Namespace) -> list[Any]:
    import mteb

    try:
        return list(
            mteb.get_benchmark(arguments.benchmark).tasks if arguments.benchmark else mteb.get_tasks(arguments.tasks)
        )
    except KeyError as error:
        raise UserError(f"mteb has no such task or benchmark: {error.args[0]}") from error
