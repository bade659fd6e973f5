"""Evaluation from Python: `slap.evaluate(model, tasks, data)`; the command `slap evaluate` is the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from slap.core.errors import UserError, printable
from slap.core.progress import Progress, silent
from slap.core.registry import plugins
from slap.evaluation import record as records
from slap.evaluation.embedding_cache import EmbeddingCache
from slap.evaluation.evaluated_model import EvaluatedModel
from slap.evaluation.locate import DataSource, Locator, Sources, StrPath, sources_of
from slap.evaluation.overlap import training_columns, training_manifests
from slap.evaluation.plan import checked_options, make_task, rows_of
from slap.evaluation.prompts import PromptBook
from slap.evaluation.results import EvaluationResults
from slap.evaluation.runner import EvaluationRun, quiet
from slap.inference.collapse import refuse_collapsed
from slap.inference.load import load
from slap.inference.model import Model
from slap.inference.stream import BATCH_SECONDS
from slap.model.network import Weights

PARTS = ("rows", "embeddings", "manifests")
"""Names of the folders in that of the parts, which is beside the record."""


def evaluate(
    model: StrPath | Model, tasks: Sequence[str], data: DataSource | Sources = (), **options: Any
) -> EvaluationResults:
    """Evaluate a model by tasks on data.

    Args:
        model: a checkpoint, an exported folder or the name of a model, as `slap.load` takes them; or a loaded model.
        tasks: rows as on the command line: TASK/DATA, TASK or DATA alone for all rows of it that there is data for,
            or "paper". `slap evaluate --list` lists tasks and benchmarks.
        data: folders of corpora, manifests, or either by name, see `slap.evaluation.locate.sources_of`.
        **options: any other option of `run`, e.g. `prompt_set`, `out` or `device`.

    Returns:
        The metrics by `<task>/<data>/<metric>`, which can be printed, indexed and made into rows.

    Raises:
        ValueError: a task, a name or an option is unknown, or no row could be run; says why.
        FileNotFoundError: the model, a folder or a manifest is not there.

    Example:
        Metrics of clips of your own, with 95 % intervals::

            results = slap.evaluate("runs/mine/best.ckpt", ["retrieval/mine", "zeroshot/esc50"],
                                    data={"mine": "test.csv", "esc50": "/data/ESC-50"})
            print(results)
            results["retrieval/mine/t2a_R@10"].value
            results.to_pandas()
    """
    results = run(model, tasks, data, **options)
    if not results.record["results"]:
        reasons = "; ".join(f"{row['row']}: {row['reason']}" for row in [*results.failed, *results.skipped])
        raise UserError(f"nothing was evaluated: {reasons or 'no row was asked for'}")
    return results


def run(
    model: StrPath | Model,
    tasks: Sequence[str],
    data: DataSource | Sources = (),
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    prompt_set: str = "default",
    prompts: Sequence[StrPath] = (),
    train: Sequence[StrPath] = (),
    overlap_by: Sequence[str] = ("id", "origin"),
    columns: Mapping[str, str | None] | None = None,
    out: StrPath | None = None,
    overwrite: bool = False,
    plots: bool = False,
    batch_seconds: float = BATCH_SECONDS,
    workers: int = 0,
    device: str | None = None,
    trust: bool = False,
    weights: Weights = "raw",
    allow_collapsed: bool = False,
    progress: Progress = silent,
    say: Callable[[str], None] = quiet,
) -> EvaluationResults:
    """Run rows; one that cannot be run stops no other, and is listed among `failed` or `skipped` of the results.

    Args:
        model: as for `evaluate`.
        tasks: as for `evaluate`.
        data: as for `evaluate`.
        options: options of tasks, by task.
        prompt_set: name of the prompt set of zero-shot classification.
        prompts: TOML files with prompt sets of your own.
        train: manifests of the training data, to warn of evaluated clips among them. Default: those that the
            configuration beside a checkpoint names.
        overlap_by: how training data are compared: "id" and "origin", which take no time, "content", "fingerprint".
        columns: columns of your tables whose names are not the known ones, {known name: column or None}. Default: those
            that the configuration beside a checkpoint names.
        out: the JSON file to write; tables and plots stand beside it, and what takes long is kept for another run.
            Default: nothing is written.
        overwrite: whether to compute anew what `out` holds.
        plots: whether to draw plots beside `out`.
        batch_seconds: seconds of audio per batch.
        workers: processes that read headers of corpora in their official layouts.
        device: device of the model, e.g. "cuda:1". Default: a GPU if there is one.
        trust: whether to load a saved model whose checksum or links are wrong.
        weights: the weights of a checkpoint, "raw" or "ema", see `slap.load`.
        allow_collapsed: evaluate a collapsed model too, which gives nearly the same embedding to all inputs.
        progress: makes progress bars.
        say: receives a line for each event.

    Raises:
        ValueError: a task, a name or an option is unknown, or the model is collapsed.
        FileNotFoundError: the model, a folder or a manifest is not there.
    """
    out = None if out is None else Path(out)
    known_tasks = plugins("task")
    sources = sources_of(data)
    rows = rows_of(tasks, known_tasks, list(sources.manifests))
    options = checked_options(options or {}, known_tasks)
    book = PromptBook.built_in(prompt_set, [Path(path) for path in prompts])
    _check_free(out)
    known = {} if overwrite or out is None else records.read(out)
    if absent := [path for path in train if not Path(path).exists()]:
        raise FileNotFoundError(f"--train: there is no {absent[0]}")
    with TemporaryDirectory(prefix="slap-") as temporary:
        work = Path(temporary) if out is None else _work(out)
        path = "in memory" if isinstance(model, Model) else str(model)
        manifests = [Path(name) for name in train] or training_manifests(Path(path))
        columns = training_columns(Path(path)) if columns is None else columns
        locator = Locator(sources, known_tasks, work, manifests, overlap_by, workers, columns)
        loaded = model if isinstance(model, Model) else load(model, device=device, trust=trust, weights=weights)
        refuse_collapsed(loaded, "evaluated", allow_collapsed)
        store = None if out is None else EmbeddingCache(work / "embeddings", loaded.name, loaded.embedding_dim)
        if overwrite:
            shutil.rmtree(work / "rows", ignore_errors=True)
        evaluation = EvaluationRun(
            subject=EvaluatedModel(loaded, book, batch_seconds, store),
            model=records.model_record(loaded, path),
            out=out,
            locate=locator.locate,
            task=lambda name: make_task(name, options),
            progress=progress,
            options=options,
            draw=plots,
            say=say,
            kept=None if out is None else work / "rows",
            parts=locator.rows,
        )
        return EvaluationResults(evaluation.run(rows, known))


def _check_free(out: Path | None) -> None:
    """Refuse to replace tables that stand where those of a new record would be written, or to write among other files.

    Raises:
        ValueError: tables exist without their record, or the folder of the parts holds other things.
    """
    if out is None:
        return
    taken = [] if out.exists() else [out.with_suffix(kind) for kind in (".md", ".tex")]
    for path in taken:
        if path.exists():
            raise UserError(f"{path} exists, and the tables of {out} would replace it; name another file as --out")
    work = _work(out)
    others = sorted(path.name for path in work.iterdir() if path.name not in PARTS) if work.is_dir() else []
    if others:
        raise UserError(
            f"{work}, where parts of an evaluation are kept, holds {printable(others[0])}; name another file as --out, "
            "or move that folder"
        )


def _work(out: Path) -> Path:
    return out.with_name(f"{out.stem}.parts")
