"""Where `slap prepare` wrote the splits of a corpus, by what they are used for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Role = Literal["train", "val", "test"]

SPLITS: dict[str, dict[Role, str]] = {
    "audiocaps": {"train": "train", "val": "val", "test": "test"},
    "clotho": {"train": "development", "val": "validation", "test": "evaluation"},
}


def splits_of(corpus: str, manifests: str | None) -> dict[Role, list[str]]:
    """The manifests of a corpus' published splits, whether they are there or not.

    Args:
        corpus: one of `SPLITS`.
        manifests: the folder; None is `manifests/` and the corpus' name.
    """
    folder = Path(manifests or f"manifests/{corpus}")
    return {role: [str(prepared(folder, split, corpus))] for role, split in SPLITS[corpus].items()}


def prepared(folder: Path, split: str, corpus: str) -> Path:
    """The manifest of a split.

    Raises:
        FileNotFoundError: the folder was not prepared; says by which command it is.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {folder} with the manifests of {corpus}: prepare it by "
            f"`slap prepare {corpus} ROOT {folder}`, or name the folder where they are by --data.manifests"
        )
    return folder / f"{split}.jsonl.gz"
