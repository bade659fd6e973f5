"""Judge a model by the field's benchmarks, and write figures that can be compared and checked.

    slap evaluate runs/mine/best.ckpt --tasks paper --data corpora --out results.json
    slap evaluate exported --tasks retrieval/clotho zeroshot/esc50 --data corpora clotho=/data/clotho --out results.json
    slap evaluate clap-htsat-unfused --tasks retrieval/mine --manifest mine=test.csv --out results.json
    slap evaluate --list

MODEL is a checkpoint, a folder that `slap export` wrote, or the folder of a Hugging Face CLAP model. --tasks names
rows: TASK/DATASET; TASK or DATASET alone for all rows of it that there is data for; `paper` for those of the paper.
--data names folders in which each corpus has a folder, as published or as `slap prepare` wrote it, or single ones as
NAME=FOLDER. A manifest of your own is judged as NAME (with labels for several tasks: TASK/NAME/LABEL); NAME/train=PATH
and NAME/val=PATH add what tasks that learn need.

Beside OUT stand OUT's name with .md and .tex (tables), a folder of plots, and a folder OUT.parts of embeddings: run the
same command again after an interruption, and what is done is not computed again. Delete it when you need it no more.

Exit status: 0 all rows that were named ran; 3 some of them have no data or failed, as listed on stderr (under `failed`
of --json); 2 nothing ran; 130 interrupted. Rows that were not named one by one, as those of `paper`, are skipped where
there is no data for them, which is listed too (under `skipped`) and is no failure.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slap.cli.options import DONE, SOME_FAILED, add_batch, add_common

if TYPE_CHECKING:
    from slap.evaluation.plan import EvalRow
    from slap.evaluation.runner import Located
    from slap.evaluation.tasks.base import Task

NOTHING, INTERRUPTED = 2, 130


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    many: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    parser.add_argument("model", metavar="MODEL", nargs="?", help="a checkpoint, or a folder that slap.load reads")
    parser.add_argument("--tasks", **many, metavar="ROW", help="what to run, see above")
    parser.add_argument("--data", **many, metavar="FOLDER", help="folders of corpora, or NAME=FOLDER")
    parser.add_argument("--manifest", **many, metavar="NAME=PATH", help="manifests of your own")
    parser.add_argument("--out", type=Path, metavar="JSON", help="the file to write")
    parser.add_argument("--prompt-set", default="default", metavar="NAME", help="of zero-shot (default: %(default)s)")
    parser.add_argument("--prompts", **many, metavar="TOML", help="files with prompt sets of your own")
    parser.add_argument(
        "--set", **many, metavar="TASK.OPTION=VALUE", help="options of tasks; the value is JSON or text"
    )
    parser.add_argument("--train", **many, metavar="MANIFEST", help="training data, to warn of what is judged on too")
    parser.add_argument(
        "--overlap-by",
        nargs="+",
        default=["id", "origin"],
        choices=("id", "origin", "content", "fingerprint"),
        help="how training data are compared (default: id origin); the other two decode all audio",
    )
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 16), metavar="N", help="read headers")
    parser.add_argument("--overwrite", action="store_true", help="make anew what OUT holds")
    parser.add_argument("--no-plots", action="store_true", help="draw nothing")
    parser.add_argument("--list", action="store_true", help="list tasks, data sets and prompt sets, and stop")
    add_batch(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Judge, write and print."""
    from slap.core.registry import load_plugins

    load_plugins(arguments.plugins)
    if arguments.list:
        from slap.evaluation.listing import listing

        print(listing([Path(path) for path in arguments.prompts]))
        return DONE
    for name, value in (("MODEL", arguments.model), ("--tasks", arguments.tasks), ("--out", arguments.out)):
        if not value:
            raise ValueError(f"{name} is missing; see `slap evaluate --help`, and `slap evaluate --list` for the rows")
    if arguments.out.suffix != ".json" or arguments.out.is_dir():
        raise ValueError(f"--out names a file that ends in .json, got {arguments.out}")
    try:
        return _evaluate(arguments)
    except KeyboardInterrupt:
        print("slap: interrupted; what is done is kept, the same command goes on", file=sys.stderr)
        return INTERRUPTED


def _evaluate(arguments: argparse.Namespace) -> int:
    import slap
    from slap.core.progress import bar
    from slap.core.registry import plugins
    from slap.evaluation import record as records
    from slap.evaluation.embedding_cache import EmbeddingCache
    from slap.evaluation.evaluated_model import EvaluatedModel
    from slap.evaluation.overlap import training_manifests
    from slap.evaluation.plan import rows_of
    from slap.evaluation.prompts import PromptBook
    from slap.evaluation.provenance import model_record
    from slap.evaluation.runner import EvaluationRun

    out: Path = arguments.out
    tasks: dict[str, type[Task]] = plugins("task")
    manifests = named_manifests(arguments.manifest)
    rows = rows_of(arguments.tasks, tasks, list(manifests))
    options = task_options(arguments.set, tasks)
    prompts = PromptBook.built_in(arguments.prompt_set, [Path(path) for path in arguments.prompts])
    known = {} if arguments.overwrite else records.read(out)
    work = out.with_name(f"{out.stem}.parts")
    if absent := [path for path in arguments.train if not Path(path).exists()]:
        raise FileNotFoundError(f"--train: there is no {absent[0]}")
    train = [Path(path) for path in arguments.train] or training_manifests(Path(arguments.model))
    data = Data(arguments, manifests, tasks, work, train)
    model = slap.load(arguments.model, device=arguments.device, trust=arguments.trust)
    store = EmbeddingCache(work / "embeddings", model.name, model.embedding_dim)
    evaluation = EvaluationRun(
        EvaluatedModel(model, prompts, arguments.batch_seconds, store),
        model_record(model, arguments.model),
        out,
        data.locate,
        lambda name: make_task(name, options),
        bar,
        options,
        not arguments.no_plots,
        lambda line: print(f"slap: {line}", file=sys.stderr),
        work / "rows",
    )
    if arguments.overwrite:
        shutil.rmtree(work / "rows", ignore_errors=True)
    record = evaluation.run(rows, known)
    _show(record, arguments, {name: task.headline for name, task in tasks.items() if task.headline})
    if not record["results"]:
        print("slap: nothing ran", file=sys.stderr)
        return NOTHING
    return SOME_FAILED if record["failed"] else DONE


def _show(record: Mapping[str, Any], arguments: argparse.Namespace, headlines: Mapping[str, Sequence[str]]) -> None:
    from slap.metrics.tables import text

    if arguments.json:
        print(json.dumps(record, indent=2, ensure_ascii=False))
    elif record["results"]:
        print(text(record, headlines))
        beside = [arguments.out, arguments.out.with_suffix(".md"), arguments.out.with_suffix(".tex")]
        print("\nMore in " + ", ".join(map(str, beside)))


class Data:
    """Finds the clips of rows, each data set once.

    Args:
        arguments: of the command line.
        manifests: those of the user.
        tasks: all of them, by name.
        work: the folder for manifests of corpora in their official layouts.
        train: manifests of training data.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        manifests: Mapping[str, Mapping[Any, Path]],
        tasks: Mapping[str, type[Task]],
        work: Path,
        train: Sequence[Path],
    ) -> None:
        from slap.evaluation.data import Corpora

        pairs = [part.partition("=") for part in arguments.data if "=" in part]
        named = {name: Path(folder) for name, _, folder in pairs}
        roots = [Path(part) for part in arguments.data if "=" not in part]
        self.corpora = Corpora(roots, named, work / "manifests", arguments.workers)
        self.manifests, self.tasks, self.train = manifests, tasks, train
        self.ways, self.workers = set(arguments.overlap_by), arguments.workers
        self._warnings: dict[tuple[Path, ...], list[str]] = {}

    def locate(self, row: EvalRow) -> Located:
        """The clips of a row, and warnings about training data.

        Raises:
            UnavailableError: there are none.
        """
        from slap.evaluation.benchmarks import datasets
        from slap.evaluation.data import NoDataError, judged, judged_manifest
        from slap.evaluation.runner import UnavailableError

        task = self.tasks[row.task]
        try:
            if row.dataset in self.manifests:
                found, paths = judged_manifest(row.dataset, self.manifests[row.dataset], task.uses, row.label)
            else:
                found, paths = judged(self.corpora, datasets()[row.dataset], task.learns)
        except NoDataError as error:
            raise UnavailableError(str(error)) from error
        return found, self._overlap(tuple(paths))

    def _overlap(self, paths: tuple[Path, ...]) -> list[str]:
        from slap.evaluation.overlap import overlap_warnings

        if paths not in self._warnings:
            self._warnings[paths] = overlap_warnings(self.train, paths, self.ways, self.workers)
        return self._warnings[paths]


def make_task(name: str, options: Mapping[str, Mapping[str, Any]]) -> Task:
    """The task of a name.

    Raises:
        UnavailableError: there is none here.
    """
    from slap.core.registry import build, plugins
    from slap.evaluation.runner import UnavailableError

    if name not in plugins("task"):
        # Only rows of the paper come here.
        raise UnavailableError("its head is trained by a recipe and judged by `slap test`; a linear probe needs none")
    task: Task = build("task", name, options.get(name, {}))
    return task


def named_manifests(words: Sequence[str]) -> dict[str, dict[Any, Path]]:
    """From NAME=PATH, NAME/train=PATH and NAME/val=PATH to the manifests of each name, by part.

    Raises:
        ValueError: a word of another form, a name that a data set has, or a name without test clips.
        FileNotFoundError: there is no such manifest.
    """
    from slap.evaluation.benchmarks import datasets

    found: dict[str, dict[Any, Path]] = {}
    for word in words:
        name, equals, path = word.partition("=")
        name, _, part = name.partition("/")
        part = part or "test"
        if not equals or not name or not path or part not in ("train", "val", "test"):
            raise ValueError(f"--manifest {word}: write NAME=PATH, NAME/train=PATH or NAME/val=PATH")
        if name in datasets():
            raise ValueError(f"--manifest {word}: {name} is a data set of its own protocol; take another name")
        if not Path(path).exists():
            raise FileNotFoundError(f"--manifest {word}: there is no {path}")
        found.setdefault(name, {})[part] = Path(path)
    for name, parts in found.items():
        if "test" not in parts:
            raise ValueError(f"--manifest: {name} has no clips to judge on; add {name}=PATH")
    return found


def task_options(words: Sequence[str], tasks: Mapping[str, type[Task]]) -> dict[str, dict[str, Any]]:
    """From TASK.OPTION=VALUE to the options of each task.

    Raises:
        ValueError: a word of another form, or an unknown task or option.
    """
    from slap.core.errors import suggest
    from slap.core.registry import arguments

    found: dict[str, dict[str, Any]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        task, dot, option = name.partition(".")
        if not equals or not dot:
            raise ValueError(f"--set {word}: write TASK.OPTION=VALUE")
        if task not in tasks:
            raise ValueError(f"--set {word}: there is no task {task!r}; {suggest(task, tasks)}")
        if option not in arguments(tasks[task]):
            raise ValueError(
                f"--set {word}: {task} has no option {option!r}; {suggest(option, arguments(tasks[task]))}"
            )
        found.setdefault(task, {})
        try:
            found[task][option] = json.loads(value)
        except ValueError:
            found[task][option] = value
    return found
