"""Train and test fold by fold, and print the mean over folds.

Each fold is a run of its own below OUT, trained by `slap fit` and tested by `slap test` in processes of their own; all
other options are those of `slap fit`:

    slap crossval runs/esc50 --folds 1 2 3 4 5 --recipe classification --data.corpus esc50 --model.start best.ckpt

ends in one table, also as OUT/crossval.json and OUT/crossval.md. Interrupted, the same command goes on: folds that were
tested are not run again, and one that was being trained is continued.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slap.core.errors import UserError
from slap.core.files import atomic_write

if TYPE_CHECKING:
    from slap.metrics.bootstrap import MetricValue

RESULTS, CONFIG = "fold.json", "config.yaml"
"""The metrics of a fold, and what it was run with."""

ARGUMENTS = "crossval_arguments.json"
"""What the folds of a folder are trained with: other options would make another table."""

FOLD = "--data.fold"

Slap = Callable[[Sequence[str]], int]
"""Runs `slap` with arguments and gives its exit status."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.usage = "slap crossval OUT --folds N N ... --recipe RECIPE [options of `slap fit`]"
    parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="OUT --folds N N ... [options]", help="see above"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run all folds.

    Returns:
        0, or the exit status of the run that failed.

    Raises:
        ValueError: options are missing or contradict each other, or OUT holds folds with other options.
    """
    parser = argparse.ArgumentParser(prog="slap crossval", allow_abbrev=False, add_help=False, exit_on_error=False)
    parser.add_argument("--folds", type=int, nargs="+")
    given = list(arguments.arguments)
    try:
        asked, rest = parser.parse_known_args(given[1:])
    except argparse.ArgumentError as error:
        raise UserError(f"slap crossval: {error}") from error
    if not given or given[0].startswith("-") or not asked.folds or not rest:
        raise UserError("slap crossval needs OUT, --folds and the options of `slap fit`; see `slap crossval --help`")
    if len(set(asked.folds)) < max(len(asked.folds), 2):
        raise UserError(f"--folds takes two or more different folds, got {asked.folds}")
    taken = [name for name in rest if name.split("=")[0] in (FOLD, "--trainer.out", "--ckpt_path")]
    if taken:
        raise UserError(f"slap crossval sets {', '.join(taken)} itself, for each fold; leave it out")
    return crossval(asked.folds, Path(given[0]), rest, _in_a_process)


def crossval(folds: Sequence[int], out: Path, options: Sequence[str], slap: Slap) -> int:
    """Train and test each fold that is not done yet; then print and write the table.

    Args:
        folds: to test on, one after the other.
        out: the folder of all runs.
        options: of `slap fit`.
        slap: runs a command.
    """
    _claim(out, options)
    for fold in folds:
        folder = out / f"fold{fold}"
        if (folder / RESULTS).is_file():
            print(f"fold {fold} is done, see {folder}")
            continue
        more = ["--ckpt_path", "last"] if folder.is_dir() else []
        print(f"fold {fold}: {folder}", flush=True)
        status = slap(["fit", *options, FOLD, str(fold), "--trainer.out", str(folder), *more])
        if not status:
            best = "best" if (folder / "best.ckpt").is_file() else "last"  # the last, without a fold for validation
            status = slap(["test", "--config", str(folder / CONFIG), "--ckpt_path", best])
        if not status:
            _keep(folder)
        if status:
            print(f"fold {fold} failed with status {status}; the same command goes on from here", file=sys.stderr)
            return status
    results = {fold: _read(out / f"fold{fold}" / RESULTS) for fold in folds}
    together = summary(results)
    text = table(results, together)
    record = {"folds": results, "mean": {name: asdict(result) for name, result in together.items()}}
    (out / "crossval.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (out / "crossval.md").write_text(text + "\n", encoding="utf-8")
    print(f"\n{text}\n\nMore in {out / 'crossval.md'}")
    return 0


def summary(results: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> dict[str, MetricValue]:
    """Compute the mean over folds of each metric, with Nadeau and Bengio's 95 % interval over folds.

    Args:
        results: metrics of each fold, as `slap test` writes them.

    Raises:
        ValueError: the folds have different metrics.
    """
    import torch

    from slap.metrics.runs import mean_over_folds

    names = list(next(iter(results.values())))
    for fold, found in results.items():
        if set(found) != set(names):
            raise UserError(f"fold {fold} has the metrics {', '.join(found)}, another one {', '.join(names)}")
    together = {}
    for name in names:
        own = [results[fold][name] for fold in sorted(results)]
        values = torch.tensor([result["value"] / 100 for result in own], dtype=torch.float64)
        chance, best = (sum(result[key] for result in own) / len(own) for key in ("chance", "best"))
        together[name] = mean_over_folds(values, chance, sum(result["count"] for result in own), best)
    return together


def table(results: Mapping[int, Mapping[str, Mapping[str, Any]]], together: Mapping[str, MetricValue]) -> str:
    """Write a Markdown table: a row per metric, with its mean and its value in each fold.

    Example:
        >>> from slap.metrics.bootstrap import MetricValue
        >>> folds = {1: {"classification_accuracy": {"value": 80.0}}, 2: {"classification_accuracy": {"value": 90.0}}}
        >>> print(table(folds, {"classification_accuracy": MetricValue(85.0, 80.0, 90.0, 10.0, 160)}))
        | metric | mean over folds | 95 % interval over folds | chance | best | clips | fold 1 | fold 2 |
        |---|---:|---:|---:|---:|---:|---:|---:|
        | classification, accuracy | 85.0 | 80.0 to 90.0 | 10.0 | 100.0 | 160 | 80.0 | 90.0 |
    """
    from slap.metrics.tables import cells, markdown_table, readable

    heads = ["metric", "mean over folds", "95 % interval over folds", "chance", "best", "clips"]
    heads += [f"fold {fold}" for fold in results]
    rows = [
        [readable(name), *cells(mean), *(f"{found[name]['value']:.1f}" for found in results.values())]
        for name, mean in together.items()
    ]
    return markdown_table(heads, rows)


def _claim(out: Path, options: Sequence[str]) -> None:
    """Note in a folder what its folds are trained with.

    Raises:
        ValueError: it holds folds that were trained otherwise.
    """
    path = out / ARGUMENTS
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        if known != list(options):
            raise UserError(f"{out} holds folds that were made with `{' '.join(known)}`; name another folder")
        return
    there = [name for name in ("crossval.json", "crossval.md") if (out / name).exists()]
    if there:
        raise UserError(f"{out} holds {there[0]}, which no folds recorded there have made; name another folder")
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(list(options)) + "\n", encoding="utf-8")


def _keep(folder: Path) -> None:
    """Keep the metrics of a fold's test apart from tests on other clips, which the folder may hold too."""
    newest = max(folder.glob("test/*/results.json"), key=lambda path: path.stat().st_mtime_ns)
    metrics = json.loads(newest.read_text(encoding="utf-8"))["metrics"]
    with atomic_write(folder / RESULTS) as file:
        file.write(json.dumps(metrics, indent=2) + "\n")


def _read(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _in_a_process(arguments: Sequence[str]) -> int:
    return subprocess.run([sys.executable, "-m", "slap", *arguments], check=False).returncode
