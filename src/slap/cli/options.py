"""Options that the commands that use a model share, and the report of files that could not be used.

Exit status of all of them: 0 done; 3 done, but for the files that are listed on stderr (and under `failed` of --json);
2 nothing was done, and the message says what to do. Files that were used, but about which there is a word to say (they
are silent, or were cut short), are listed on stderr (and under `notes` of --json) too, and leave the status as it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slap.core.errors import UserError, printable

if TYPE_CHECKING:
    from slap.core.decoding import Decoding
    from slap.inference.model import Model

DONE, SOME_FAILED = 0, 3

SHOWN = 20
"""Files that are listed on a terminal; --json lists all."""

PATHS = "files, folders (with their sub-folders), globs in quotes, or manifests (.csv, .tsv, .jsonl, .jsonl.gz)"


MODEL = (
    "the model: a checkpoint (.ckpt), a folder that `slap export` wrote, or `starter`, the small one that comes with "
    "the package"
)
"""Help of MODEL. No command has a default for it: what a model does not know, it gets wrong without a word."""


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add MODEL."""
    parser.add_argument("model", metavar="MODEL", help=MODEL)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options of all commands."""
    parser.add_argument(
        "--device", help="device that the model computes on, e.g. cpu or cuda:1 (default: a GPU if there is one)"
    )
    add_plugins(parser)
    parser.add_argument(
        "--trust",
        action="store_true",
        help="load a model even if its checksum is wrong, its weights are not finite or its files are links to "
        "elsewhere",
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Add --columns."""
    parser.add_argument(
        "--columns",
        metavar="MAPPING",
        type=columns_from_text,
        help="columns of tables whose names are not the known ones, e.g. '{audio: filepath, caption: title}'; null as "
        "the column says that there is none, e.g. '{start: null}'",
    )


def columns_from_text(text: str) -> dict[str, str | None]:
    """Return the mapping that an option spells in YAML.

    Raises:
        argparse.ArgumentTypeError: it is no mapping from known names to names of columns.
    """
    import yaml

    from slap.datamodules.manifests.columns import check_columns

    try:
        content = yaml.safe_load(text)
        if not isinstance(content, dict) or not all(isinstance(name, str | None) for name in content.values()):
            raise UserError(f"a mapping is written as '{{audio: filepath, caption: title}}', got {text}")
        check_columns(content)
    except (yaml.YAMLError, UserError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return content


def add_weights(parser: argparse.ArgumentParser, kept: str = "") -> None:
    """Add --weights; `kept` names what the option is read from where it is not given, which then is None."""
    parser.add_argument(
        "--weights",
        choices=("raw", "ema"),
        default=None if kept else "raw",
        help="weights of a checkpoint: raw as they were trained, or ema, their exponential moving averages "
        f"(default: {kept}raw)",
    )


def add_calibration(parser: argparse.ArgumentParser) -> None:
    """Add --calibration and --threshold."""
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        help="the calibration that `slap calibrate` wrote (default: the one beside the model, if there is one)",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="least probability, 0 to 1, of what is shown, so that nothing may be shown; for models trained with the "
        "sigmoid objective, and for calibrated ones (default: no threshold)",
    )


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Add --dtype."""
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="precision of the model; bfloat16 is faster where the processor or GPU has it (default: as saved)",
    )


def add_allow_collapsed(parser: argparse.ArgumentParser, verb: str) -> None:
    """Add --allow-collapsed, for a command that does something with a model."""
    parser.add_argument(
        "--allow-collapsed",
        action="store_true",
        help=f"{verb} the model even if it is collapsed: if it gives nearly the same embedding to all sounds or texts",
    )


def add_plugins(parser: argparse.ArgumentParser, before: str = "the model is loaded") -> None:
    """Add --plugins, which are imported before something."""
    parser.add_argument(
        "--plugins",
        nargs="+",
        action="extend",
        default=[],
        metavar="MODULE",
        help=f"modules or .py files that define plug-ins, imported before {before}",
    )


def add_batch(parser: argparse.ArgumentParser) -> None:
    """Add --batch-seconds."""
    parser.add_argument(
        "--batch-seconds",
        type=float,
        default=120.0,
        metavar="S",
        help="seconds of audio per batch (default: %(default)g)",
    )


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """Add the options of writing captions."""
    group = parser.add_argument_group("decoding of captions", "beam search or sampling; greedy with neither")
    group.add_argument(
        "--max-length", type=int, default=64, metavar="N", help="longest caption, in tokens (default: 64)"
    )
    group.add_argument("--beam", type=int, default=1, metavar="N", help="beam width; 1 is greedy (default: 1)")
    group.add_argument(
        "--length-penalty",
        type=float,
        default=1.0,
        metavar="X",
        help="with --beam: exponent of the length that scores are divided by; 0 prefers short captions (default: 1)",
    )
    group.add_argument(
        "--top-p",
        type=float,
        metavar="P",
        help="sample each token among the most probable ones that together have this probability; 1 is all tokens",
    )
    group.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="with --top-p: divisor of the logits; below 1 unlikely tokens become rarer (default: 1)",
    )
    group.add_argument(
        "--seed", type=int, default=0, metavar="N", help="with --top-p: seed of the random numbers (default: 0)"
    )


def decoding(arguments: argparse.Namespace) -> Decoding:
    """Return the decoding that the options of `add_decoding` ask for.

    Raises:
        ValueError: a value out of range, or options that have no effect together.
    """
    from slap.core.decoding import Decoding

    names = ("max_length", "beam", "length_penalty", "top_p", "temperature", "seed")
    return Decoding(**{name: getattr(arguments, name) for name in names})


def load(arguments: argparse.Namespace) -> Model:
    """Load the model that the options name."""
    import slap
    from slap.core.registry import load_plugins

    load_plugins(arguments.plugins)
    dtype = getattr(arguments, "dtype", None)
    return calibrated(
        slap.load(arguments.model, arguments.device, arguments.trust, dtype, arguments.weights), arguments
    )


def calibrated(model: Model, arguments: argparse.Namespace) -> Model:
    """Give a model the calibration that --calibration names, if it names one."""
    path = getattr(arguments, "calibration", None)
    if path is not None:
        from slap.inference.calibration_file import read_calibration

        model.calibration = read_calibration(path, model.name)
    return model


def add_overwrite(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option that allows replacing a file."""
    parser.add_argument("--overwrite", action="store_true", help=f"replace {what}, if it exists")


def check_free(path: Path, overwrite: bool) -> None:
    """Refuse to replace a file.

    Raises:
        ValueError: it exists, and replacing it was not asked for.
    """
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists; name another file, or replace it by --overwrite")


def plain(options: Sequence[str] | None, what: str) -> list[str]:
    """Return the words of an option that takes several, or one file with a word per line.

    Raises:
        ValueError: the file is empty, no text, or no .txt file.
        FileNotFoundError: it is not there.
    """
    from pathlib import Path

    from slap.datamodules.captions.validate import NO_TEXT, quoted
    from slap.datamodules.manifests.lines import text_lines

    words = list(options or [])
    if len(words) == 1 and words[0].endswith(".txt"):
        words = [line.strip() for _, line in text_lines(Path(words[0])) if line.strip()]
        if wrong := next(filter(NO_TEXT.search, words), None):
            raise UserError(f"{options[0]}: this is not UTF-8 text: {quoted(wrong)}")  # type: ignore[index]
    elif len(words) == 1 and Path(words[0]).is_file():
        raise UserError(f"{words[0]} is a file, and files with one of the {what} per line end in .txt")
    if not words:
        raise UserError(f"there are no {what}; give some, or a .txt file with one per line")
    return words


def tell(failed: Iterable[tuple[str, str]], notes: Iterable[tuple[str, str]] = ()) -> int:
    """List on stderr the files that could not be used and those to note; return the exit status.

    Args:
        failed: ids of files that could not be used, with messages.
        notes: ids of files that were used, with words about them.
    """
    failed, notes = list(failed), list(notes)
    _list("skipped", [reason for _, reason in failed])
    _list("note", [f"{name}: {note}" for name, note in notes])
    if failed:
        print(f"slap: {len(failed)} of the files could not be used", file=sys.stderr)
    if notes:
        print(f"slap: {len(notes)} of the files that were used have a note", file=sys.stderr)
    return SOME_FAILED if failed else DONE


def _list(what: str, lines: list[str]) -> None:
    for line in lines[:SHOWN]:
        print(f"slap: {what}: {printable(line)}", file=sys.stderr)
    if len(lines) > SHOWN:
        print(f"slap: {what}: and {len(lines) - SHOWN} more", file=sys.stderr)


def as_records(pairs: Iterable[tuple[str, str]], key: str) -> list[dict[str, str]]:
    """Return pairs of an id and a text as plain data, the text under a key."""
    return [{"id": name, key: text} for name, text in pairs]
