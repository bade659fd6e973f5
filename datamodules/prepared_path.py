"""Paths of the manifests that `slap prepare` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Role = Literal["train", "val", "test"]
"""The use of a manifest."""


def prepared(folder: Path, split: str, corpus: str) -> Path:
    """Return the manifest of a split.

    Args:
        folder: the folder that `slap prepare` wrote.
        split: name of the split.
        corpus: the arguments of `slap prepare` that prepare it, for the message.

    Raises:
        FileNotFoundError: the folder was not prepared; names the command that does it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {folder} with the manifests of {corpus}: prepare it by "
            f"`slap prepare {corpus} ROOT {folder}`, or name the folder where they are by --data.manifests"
        )
    return folder / f"{split}.jsonl.gz"
