"""GTZAN: 1,000 pieces of music of 30 s in 10 genres."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from slap.core.registry import register
from slap.datamodules.captions.template import templated
from slap.datamodules.corpora.base import Corpus
from slap.datamodules.manifests.clip import Clip

TEMPLATE = "a {label} song"

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")

SIZES = {"train": 443, "valid": 197, "test": 290}

FOLDERS = ("genres", "genres_original", "Data/genres_original", ".")


@register("gtzan")
class GTZAN(Corpus):
    """Music of 30 s in 10 genres, 100 pieces each: `genres/<genre>/<genre>.NNNNN.wav` (or `.au`).

    G. Tzanetakis and P. Cook, "Musical Genre Classification of Audio Signals", IEEE TSAP 10(5), 2002; its faults:
    B. L. Sturm, arXiv 1306.1461. No license is named. The original site is gone; copies are on
    huggingface.co/datasets/marsyas/gtzan and kaggle.com/datasets/andradaolteanu; in common copies jazz.00054 cannot be
    read.

    There is no official split. `subset` "filtered" is the fault-filtered one of 930 pieces, without repetitions, as
    torchaudio lists it (from github.com/jordipons/sklearn-audio-transfer-learning); "all" is one split of all 1,000.

    Args:
        root: folder with `genres` (or `genres_original`) in it, or that folder.
        subset: "filtered" for the fault-filtered train, valid and test; "all" for all pieces.
    """

    SPLITS: ClassVar[tuple[str, ...]] = tuple(SIZES)

    def __init__(self, root: Path, subset: Literal["filtered", "all"] = "filtered") -> None:
        super().__init__(root)
        self.subset = subset

    def splits(self) -> Sequence[str]:
        """Return the fault-filtered splits, or "all"."""
        return self.SPLITS if self.subset == "filtered" else ("all",)

    def clips(self, split: str) -> Iterator[Clip]:
        """Yield the pieces of a split, by genre and number."""
        places = [(self.root / name, genre) for name in FOLDERS for genre in GENRES]
        folder = next((place for place, genre in places if (place / genre).is_dir()), None)
        if folder is None:
            raise FileNotFoundError(f"there is no folder of genres, such as genres/{GENRES[0]}, in {self.root}")
        for name in _names(split):
            genre = name.split(".")[0]
            files = [folder / genre / f"{name}{suffix}" for suffix in (".wav", ".au")]
            yield Clip(
                id=f"gtzan/{name}",
                audio=next((file for file in files if file.exists()), files[0]),
                captions=[templated(TEMPLATE, genre)],
                fields=["template"],
                labels={"gtzan": genre},
                corpus="gtzan",
                split=split,
            )

    def classes(self) -> Mapping[str, Sequence[str]]:
        """Return the 10 genres."""
        return {"gtzan": GENRES}

    def official(self, split: str) -> int:
        """Return 443, 197 and 290 filtered pieces, or 1,000."""
        return SIZES.get(split, 1000)


def _names(split: str) -> list[str]:
    if split == "all":
        return [f"{genre}.{number:05d}" for genre in GENRES for number in range(100)]
    from torchaudio.datasets import gtzan  # here, since a list of corpora must not import torch

    listed: dict[str, list[str]] = {
        "train": gtzan.filtered_train,
        "valid": gtzan.filtered_valid,
        "test": gtzan.filtered_test,
    }
    return sorted(listed[split])
