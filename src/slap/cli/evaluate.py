"""Evaluate a model by published benchmarks, and write metrics that can be compared and checked.

    slap evaluate runs/mine/best.ckpt --tasks paper --data corpora --out results.json
    slap evaluate exported --tasks retrieval/clotho zeroshot/esc50 --data corpora clotho=/data/clotho --out results.json
    slap evaluate clap-htsat-unfused --tasks retrieval/mine --manifest mine=test.csv --out results.json
    slap evaluate --list

MODEL is a checkpoint, a folder that `slap export` wrote, or the folder of a Hugging Face CLAP model. --tasks names
rows: TASK/DATASET; TASK or DATASET alone for all rows of it that there is data for; `paper` for those of the paper.
--data names folders in which each corpus has a folder, as published or as `slap prepare` wrote it, or single ones as
NAME=FOLDER. --manifest gives manifests of your own a NAME for --tasks (with labels for several tasks: TASK/NAME/LABEL);
NAME/train=PATH and NAME/val=PATH add the clips that tasks with training need.

Beside OUT stand OUT's name with .md and .tex (tables), a folder of plots, and a folder OUT.parts of embeddings: run the
same command again after an interruption, and only the rest is computed. Delete the folder when you need it no more.

Exit status: 0 all rows that were named ran; 3 some of them have no data or failed, as listed on stderr (under `failed`
of --json); 2 nothing ran; 130 interrupted. Rows that were not named one by one, as those of `paper`, are skipped where
there is no data for them, which is listed too (under `skipped`) and is no failure.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slap.cli.options import DONE, SOME_FAILED, add_allow_collapsed, add_batch, add_columns, add_common, add_weights
from slap.core.errors import UserError, printable, printable_text
from slap.datamodules.overlap import WAYS

if TYPE_CHECKING:
    from slap.evaluation.results import EvaluationResults

NOTHING, INTERRUPTED = 2, 130


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    many: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help="a checkpoint, a folder that slap.load reads, or `starter`"
    )
    parser.add_argument("--tasks", **many, metavar="ROW", help="rows to run: TASK/DATASET, TASK, DATASET or `paper`")
    parser.add_argument(
        "--data",
        **many,
        metavar="FOLDER",
        help="folders that hold a folder per corpus, or NAME=FOLDER for a single corpus",
    )
    parser.add_argument(
        "--manifest", **many, metavar="NAME=PATH", help="manifests of your own, each with a name for --tasks"
    )
    parser.add_argument("--out", type=Path, metavar="JSON", help="JSON file to write; tables and plots stand beside it")
    parser.add_argument(
        "--prompt-set", default="default", metavar="NAME", help="prompt set of zero-shot tasks (default: %(default)s)"
    )
    parser.add_argument("--prompts", **many, metavar="TOML", help="TOML files with prompt sets of your own")
    parser.add_argument(
        "--set", **many, metavar="TASK.OPTION=VALUE", help="options of tasks; the value is JSON or text"
    )
    parser.add_argument(
        "--train",
        **many,
        metavar="MANIFEST",
        help="manifests of the training data, to warn of evaluated clips among them",
    )
    parser.add_argument(
        "--overlap-by",
        nargs="+",
        default=["id", "origin"],
        choices=WAYS,
        help="how evaluated clips are compared with training data (default: id origin); the other two decode all audio",
    )
    add_columns(parser)
    parser.add_argument(
        "--workers",
        type=int,
        default=min(os.cpu_count() or 1, 16),
        metavar="N",
        help="processes that read headers of audio files (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="compute anew what OUT holds")
    add_allow_collapsed(parser, "evaluate")
    parser.add_argument("--no-plots", action="store_true", help="draw no plots")
    parser.add_argument("--list", action="store_true", help="list tasks, benchmarks and prompt sets, and stop")
    add_batch(parser)
    add_weights(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, write and print."""
    from slap.core.registry import load_plugins

    load_plugins(arguments.plugins)
    if arguments.list:
        print(listing([Path(path) for path in arguments.prompts]))
        return DONE
    for name, value in (("MODEL", arguments.model), ("--tasks", arguments.tasks), ("--out", arguments.out)):
        if not value:
            raise UserError(f"{name} is missing; see `slap evaluate --help`, and `slap evaluate --list` for the rows")
    if arguments.out.suffix != ".json" or arguments.out.is_dir():
        raise UserError(f"--out names a file that ends in .json, got {arguments.out}")
    try:
        return _evaluate(arguments)
    except KeyboardInterrupt:
        print("slap: interrupted; what is done is kept, the same command goes on", file=sys.stderr)
        return INTERRUPTED


def _evaluate(arguments: argparse.Namespace) -> int:
    from slap.core.progress import bar
    from slap.evaluation import evaluate
    from slap.evaluation.locate import sources_from_words
    from slap.evaluation.plan import options_from_words

    results = evaluate.run(
        arguments.model,
        arguments.tasks,
        sources_from_words(arguments.data, arguments.manifest),
        options=options_from_words(arguments.set),
        prompt_set=arguments.prompt_set,
        prompts=arguments.prompts,
        train=arguments.train,
        overlap_by=arguments.overlap_by,
        columns=arguments.columns,
        out=arguments.out,
        overwrite=arguments.overwrite,
        plots=not arguments.no_plots,
        batch_seconds=arguments.batch_seconds,
        workers=arguments.workers,
        device=arguments.device,
        trust=arguments.trust,
        weights=arguments.weights,
        allow_collapsed=arguments.allow_collapsed,
        progress=bar,
        say=lambda line: print(f"slap: {printable(line)}", file=sys.stderr),
    )
    _show(results, arguments)
    _tell_lost(results.record["results"])
    if not results.record["results"]:
        print("slap: nothing ran", file=sys.stderr)
        return NOTHING
    return SOME_FAILED if results.failed else DONE


def _show(results: EvaluationResults, arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(json.dumps(results.record, indent=2, ensure_ascii=False))
    elif results:
        print(printable_text(results.table()))
        beside = [arguments.out, arguments.out.with_suffix(".md"), arguments.out.with_suffix(".tex")]
        print("\nMore in " + ", ".join(map(str, beside)))


def _tell_lost(results: Sequence[Mapping[str, Any]]) -> None:
    """Say on stderr which results lack clips of their list, with the number by reason."""
    for result in results:
        lost = dict(result["counts"]["lost"])
        if result["counts"]["unusable"]:
            lost["unusable"] = result["counts"]["unusable"]
        if lost:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(lost.items()))
            print(f"slap: {result['task']}/{result['dataset']} is without some clips: {reasons}", file=sys.stderr)


def listing(files: Sequence[Path] = ()) -> str:
    """List tasks, benchmarks and prompt sets, as text.

    Args:
        files: TOML files with prompt sets of the user.
    """
    from slap.core.registry import plugins
    from slap.evaluation.benchmarks import datasets
    from slap.evaluation.plan import fits
    from slap.evaluation.prompts import PromptBook

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
