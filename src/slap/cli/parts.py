"""Options of the commands that run in parts, as array jobs: `--part 3/64` for each part, then `--merge`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from slap.core.errors import UserError
from slap.core.parts import Part, has_parts, parts_folder


def add_parts(parser: Any) -> None:
    """Add --part and --merge to a parser of argparse or jsonargparse."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--part",
        type=_part,
        metavar="I/N",
        help="do the I-th of N parts, 1/N to N/N, e.g. as task I of an array job, and keep it in OUT.parts; the same "
        "command goes on after an interruption",
    )
    group.add_argument(
        "--merge", action="store_true", help="put the parts in OUT.parts together, to OUT, and remove them"
    )


def _part(text: str | Part) -> Part:
    try:
        return Part.of(str(text))  # jsonargparse asks again with what it got
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def refuse_beside_parts(out: Path) -> None:
    """Refuse to make an output in one piece while it is made in parts.

    Raises:
        UserError: there is a folder of its parts.
    """
    if has_parts(out):
        folder = parts_folder(out)
        raise UserError(
            f"{folder} holds parts of {out}: go on with --part, put them together with --merge, or remove that folder"
        )


def say_done(part: Part, out: Path, before: bool, about: str = "") -> None:
    """Print that a part is complete.

    Args:
        part: the part.
        out: the output that it belongs to.
        before: it was complete already.
        about: words about it.
    """
    state = "was complete before" if before else "complete"
    print(f"part {part} of {out}: {state}{f' ({about})' if about else ''}; after the last part, --merge")
