"""Turn a corpus into manifests, and report missing audio.

ROOT holds the corpus as its authors publish it; the manifests, one per split, are written to OUT:

    slap prepare esc50 data/ESC-50-master manifests/esc50
    slap prepare audiocaps data/audiocaps manifests/audiocaps --splits train val
    slap prepare esc50 --help

The last command lists the options of a corpus. OUT/report.json holds, for each split, the numbers of clips of the
official list that were found, those of them that were cut short, and that are missing, unreadable, truncated, empty or
duplicated, and for all splits the files that hold the same bytes under different names; OUT/durations.png shows the
durations. The same command, given again after an interruption, continues; a split that is complete is not made again,
unless with --overwrite.

The tasks of an array job read the headers of a part of the files each, and one command writes the manifests:

    slap prepare csv data/tables manifests/mine --part 3/64
    slap prepare csv data/tables manifests/mine --merge
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slap.cli.parts import add_parts, refuse_beside_parts
from slap.cli.prepare_parts import journals_of, plan_of, prepare_one_part
from slap.core.errors import UserError, printable_text, suggest
from slap.core.files import atomic_write
from slap.core.parts import Part, Parts
from slap.datamodules.prepare import REPORT

if TYPE_CHECKING:
    from slap.datamodules.prepare.known_files import KnownFiles

PLOT = "durations.png"
VERSION = 2
"""Version of the report; a report of another version is not continued."""

UNKNOWN = re.compile(r"unrecognized arguments: (--[^\s=]+)")

ROLES = {
    "train": ("train", "training", "development", "dev", "all"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing", "evaluation", "eval"),
}
"""The uses of splits in training, and the names of splits for each use."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments; the options depend on the corpus."""
    import slap.datamodules.corpora  # noqa: F401  registers the built-in ones
    from slap.core.registry import registered

    parser.usage = "slap prepare CORPUS ROOT OUT [--splits SPLIT ...] [--plugins MODULE ...] [options of the corpus]"
    help_ = "corpus to prepare, its folder, folder for manifests, and options of the corpus"
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="CORPUS ROOT OUT [options]", help=help_)
    lines = [f"  {name:<16} {about(corpus)}" for name, corpus in registered("corpus").items()]
    parser.epilog = "\n".join(["corpora:", *lines])


def about(corpus: type) -> str:
    """Return the first line of the docstring of a corpus."""
    return (corpus.__doc__ or "").strip().split("\n")[0]


def run(arguments: argparse.Namespace) -> int:
    """Prepare the corpus.

    Returns:
        0; 1 if no clip was found; 130 if interrupted.

    Raises:
        ValueError: the corpus, an option or a split is unknown; lists the valid ones. Or OUT holds something else.
        FileNotFoundError: ROOT, or a list of the corpus, does not exist.
    """
    from slap.core.registry import find, load_module

    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--plugins", nargs="+", action="extend", default=[])
    asked, rest = first.parse_known_args(arguments.arguments)
    for module in asked.plugins:
        load_module(module)
    if not rest or rest[0].startswith("-"):
        raise UserError(f"name the corpus first, as in `slap prepare esc50 ROOT OUT`; {_corpora()}")
    options = _parse(rest[0], find("corpus", rest[0]), rest[1:])
    return _prepare(rest[0], **options)


def _corpora() -> str:
    from slap.core.registry import plugins

    return f"there are {', '.join(plugins('corpus'))}"


def _parse(name: str, corpus: type, given: Sequence[str]) -> dict[str, Any]:
    """Return the command's own arguments, and in `options` those of the corpus.

    Raises:
        ValueError: an argument is unknown, missing or of the wrong type.
    """
    import jsonargparse

    from slap.core.registry import arguments

    parser = jsonargparse.ArgumentParser(prog=f"slap prepare {name}", description=corpus.__doc__, exit_on_error=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("root", metavar="ROOT", type=Path, help="folder of the corpus, as published")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder for the manifests and the report")
    parser.add_argument("--splits", nargs="+", type=str, metavar="SPLIT", help="splits to prepare (default: all)")
    workers = min(os.cpu_count() or 1, 16)
    help_ = "number of processes that read headers of audio; 0 reads in the main process"
    parser.add_argument("--workers", type=int, default=workers, metavar="N", help=help_)
    parser.add_argument("--overwrite", action="store_true", help="replace the manifests in OUT")
    add_parts(parser)
    parser.add_class_arguments(corpus, skip={"root"})
    try:
        parsed = parser.parse_args(list(given)).as_dict()
    except argparse.ArgumentError as error:
        own = [name for name in arguments(corpus) if name != "root"]
        valid = [f"--{option}" for option in ("splits", "workers", "overwrite", "part", "merge", "plugins", *own)]
        unknown = UNKNOWN.search(str(error))
        more = f"; {suggest(unknown[1], valid)}" if unknown else ""
        raise UserError(f"slap prepare {name}: {error}{more}") from error
    options = {key: parsed.pop(key) for key in list(parsed) if key in arguments(corpus) and key != "root"}
    return {**parsed, "corpus": corpus, "options": options}


def _prepare(
    name: str,
    corpus: type,
    root: Path,
    out: Path,
    splits: list[str] | None,
    workers: int,
    overwrite: bool,
    part: Part | None,
    merge: bool,
    options: dict[str, Any],
) -> int:
    from slap.datamodules.prepare.report import as_text

    source = corpus(root.resolve(), **options)
    valid = list(source.splits())
    for split in valid:
        if not re.fullmatch(r"\w[\w. +-]*", split):  # they become names of files
            raise UserError(f"{name} in {root} has the split {split!r}; use letters, digits and `_ . + -` only")
    for split in splits or ():
        if split not in valid:
            raise UserError(f"{name} has no split {split!r} in {root}; {suggest(split, valid)}")
    settings = {name_: value for name_, value in sorted(options.items()) if value is not None}
    made = {"version": VERSION, "corpus": name, "root": str(root.resolve()), "options": _plain(settings)}
    wanted = list(dict.fromkeys(splits or valid))
    if part is not None:
        return prepare_one_part(source, wanted, out, made, workers, part)
    parts = Parts(out, plan_of(made, wanted))
    journals = journals_of(parts, wanted) if merge else {}
    if not merge:
        refuse_beside_parts(out)
    report = _open(out, made, overwrite)
    report["classes"] = {task: list(names) for task, names in source.classes().items()}
    _save(out, report)  # at once: OUT belongs to this command from now on
    source.out = out
    try:
        for split in wanted:
            manifest = out / f"{split}.jsonl.gz"
            again = split in report["splits"] and (manifest.is_file() or not report["splits"][split]["found"])
            if not again:
                from slap.datamodules.prepare.split import prepare_split  # imports Lhotse

                report["splits"][split] = prepare_split(source, split, manifest, workers, parts=journals.get(split))
                _save(out, report)
            done = " (prepared before; --overwrite prepares it again)" if again else ""
            print(printable_text(as_text(f"{name}, {split}: {manifest}{done}", report["splits"][split])) + "\n")
            if not again:
                report.pop("identical", None)
        found = {split: out / f"{split}.jsonl.gz" for split in report["splits"] if report["splits"][split]["found"]}
        _compare(out, report, found, [one.known() for one in journals.values()])
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues from here")
        return 130
    _draw(out, report)
    if merge:
        parts.remove()
    print(_summary(out, found, name))
    return 0 if found else 1


def _compare(out: Path, report: dict[str, Any], found: dict[str, Path], known: Sequence[KnownFiles]) -> None:
    """Add the files of equal content to the report, and print them."""
    from slap.datamodules.prepare.contents import identical
    from slap.datamodules.prepare.report import identical_text

    if "identical" not in report:
        report["identical"] = identical(found, known)
        _save(out, report)
    if text := identical_text(report["identical"]):
        print(f"{printable_text(text)}\n")


def _plain(value: Any) -> Any:
    """Return options as they are read back from JSON, for comparison with those of another run."""
    return json.loads(json.dumps(value, default=str))


def _open(out: Path, made: dict[str, Any], overwrite: bool) -> dict[str, Any]:
    """Return the report in OUT if it is of the same command, else a new one.

    Raises:
        ValueError: OUT holds manifests of something else.
    """
    path = out / REPORT
    report: dict[str, Any] = {}
    if path.is_file():
        with suppress(ValueError):  # a damaged report counts as none
            report = json.loads(path.read_text(encoding="utf-8"))
    there = sorted(file.name for file in out.glob("*.jsonl.gz"))
    foreign = [] if "splits" in report else [file.name for file in (path, out / PLOT) if file.exists()]
    if foreign:
        raise UserError(f"{out} holds {foreign[0]}, which slap prepare has not written; name another folder")
    if overwrite:
        for split in report.get("splits", {}):
            for kind in ("", ".index", ".blocks", ".headers"):
                (out / f"{split}.jsonl.gz{kind}").unlink(missing_ok=True)
        (out / PLOT).unlink(missing_ok=True)
    elif report and {key: report.get(key) for key in made} != made:
        other = {key: report.get(key) for key in made if report.get(key) != made[key]}
        raise UserError(
            f"{out} was prepared with {_listed(other)}, not {_listed({key: made[key] for key in other})}; "
            "name another folder, or give --overwrite"
        )
    elif there and not report:
        raise UserError(f"{out} holds {', '.join(there[:3])} but no {REPORT} of slap prepare; name another folder")
    else:
        return report or {**made, "splits": {}}
    return {**made, "splits": {}}


def _listed(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value!r}" for key, value in settings.items())


def _save(out: Path, report: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / REPORT) as file:
        file.write(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def _draw(out: Path, report: dict[str, Any]) -> None:
    from slap.datamodules.prepare.report import draw

    if any(record["found"] for record in report["splits"].values()):
        draw(report["corpus"], report["splits"]).savefig(out / PLOT)


OWN = ("folder", "csv", "jsonl")
"""Corpora of the user's own, which are small beside those that the recipe `base` is made for."""


def _summary(out: Path, found: dict[str, Path], corpus: str) -> str:
    """Return the paths of the files and the next command."""
    if not found:
        return f"no clip was found; {out / REPORT} names the first files that were looked for"
    roles: dict[str, Path] = {}
    for role, names in ROLES.items():
        named = [split for name in names for split in found if split == name or split.startswith(f"{name}_")]
        if named:
            roles[role] = found[named[0]]
    files = f"{out / REPORT}, {out / PLOT}"
    if "train" in roles:
        options = " ".join(f"--data.{role} '[{path}]'" for role, path in roles.items() if role != "test")
        return f"{files}\nTrain on it: slap fit --recipe {'own_data' if corpus in OWN else 'base'} {options}"
    test = roles.get("test") or next(iter(found.values()))
    options = f"--config RUN/config.yaml --ckpt_path best --data.test '[{test}]'"
    return f"{files}\nEvaluate a model on it: slap test {options}"
