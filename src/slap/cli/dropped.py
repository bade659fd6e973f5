"""A table of embeddings that would lose rows, because their inputs are not named again."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slap.core.errors import UserError, printable

if TYPE_CHECKING:  # it imports numpy, and the help of all commands imports this
    from slap.audio.sources import Input


def check_dropped(arguments: argparse.Namespace, items: list[Input], known: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to drop rows of the table, unless their files are gone from a folder that is named.

    Args:
        arguments: those of the command.
        items: the inputs that are named.
        known: by id, the rows of the table and its parts.

    Raises:
        ValueError: rows would be lost.
    """
    named = {item.id for item in items}
    folders = [folder for folder in map(Path, arguments.paths) if folder.is_dir()]
    lost = [
        name
        for name, row in known.items()
        if name not in named
        and (Path(row["path"]).exists() or not any(Path(row["path"]).is_relative_to(folder) for folder in folders))
    ]
    if lost and not arguments.prune:
        raise UserError(
            f"{arguments.out} has rows of {len(lost)} inputs that are not named here, {printable(lost[0])} among them, "
            "and they would be lost: name all inputs, name another file as --out, or drop those rows by --prune"
        )
