"""FSD50K: 51,197 clips from Freesound, each with several of 200 kinds of sounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from slap.core.registry import register
from slap.datamodules.captions.template import templated
from slap.datamodules.corpora.base import Corpus, words
from slap.datamodules.corpora.csv_lists import rows
from slap.datamodules.manifests.clip import Clip, ManifestError

TEMPLATE = "the sound of {label}"

SIZES = {"train": 36_796, "val": 4_170, "eval": 10_231}


@register("fsd50k")
class FSD50K(Corpus):
    """Sounds of 0.3 to 30 s from Freesound, each with some of 200 labels of AudioSet's ontology: `FSD50K.*` folders.

    E. Fonseca et al., "FSD50K: an Open Dataset of Human-Labeled Sound Events", IEEE/ACM TASLP 30, 2022. CC BY 4.0 as a
    whole, each clip under a Creative Commons license of its own, from zenodo.org/records/4060432.

    The splits are those of `FSD50K.ground_truth`: "train" and "val" of the development set, and "eval". Tags are words
    ("Electric guitar" for `Electric_guitar`), of the task "fsd50k"; captions come from a template.

    Args:
        root: folder with `FSD50K.dev_audio`, `FSD50K.eval_audio` and `FSD50K.ground_truth` in it.
    """

    SPLITS: ClassVar[tuple[str, ...]] = tuple(SIZES)

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.truth = self.root / "FSD50K.ground_truth"

    def clips(self, split: str) -> Iterator[Clip]:
        """Yield the clips of a split, in the order of its list."""
        vocabulary = {
            row["name"] for row in rows(self.truth / "vocabulary.csv", ("index", "name", "mid"), header=False)
        }
        part = "eval" if split == "eval" else "dev"
        path = self.truth / f"{part}.csv"
        for row in rows(path, ("fname", "labels", "mids", *(["split"] if part == "dev" else []))):
            if part == "dev" and row["split"] != split:
                continue
            names = row["labels"].split(",")
            if unknown := [name for name in names if name not in vocabulary]:
                raise ManifestError(f"{path}: clip {row['fname']} has the label {unknown[0]!r}, not in vocabulary.csv")
            tags = [words(name) for name in names]
            yield Clip(
                id=f"fsd50k/{row['fname']}",
                audio=self.root / f"FSD50K.{part}_audio" / f"{row['fname']}.wav",
                captions=[templated(TEMPLATE, tags).lower()],
                fields=["template"],
                tags={"fsd50k": tags},
                corpus="fsd50k",
                split=split,
                origin={"freesound": row["fname"]},
            )

    def classes(self) -> Mapping[str, Sequence[str]]:
        """Return the 200 labels of the vocabulary."""
        known = rows(self.truth / "vocabulary.csv", ("index", "name", "mid"), header=False)
        return {"fsd50k": [words(row["name"]) for row in known]}

    def official(self, split: str) -> int:
        """Return the number of rows of the published list."""
        return SIZES[split]
