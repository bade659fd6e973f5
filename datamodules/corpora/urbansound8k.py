"""UrbanSound8K: 8,732 urban sounds of up to 4 s in 10 classes and 10 folds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from slap.core.registry import register
from slap.datamodules.captions.template import templated
from slap.datamodules.corpora.base import Corpus, words
from slap.datamodules.corpora.csv_lists import rows
from slap.datamodules.manifests.clip import Clip

TEMPLATE = "the sound of {label}"

CLASSES = (
    *("air conditioner", "car horn", "children playing", "dog bark", "drilling", "engine idling", "gun shot"),
    *("jackhammer", "siren", "street music"),
)

COLUMNS = ("slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class")


@register("urbansound8k")
class UrbanSound8K(Corpus):
    """Urban sounds of up to 4 s from Freesound, in 10 folds: `audio/fold*/*.wav` and `metadata/UrbanSound8K.csv`.

    J. Salamon, C. Jacoby and J. P. Bello, "A Dataset and Taxonomy for Urban Sound Research", ACM Multimedia 2014.
    CC BY-NC 3.0, from urbansounddataset.weebly.com/urbansound8k.html.

    There are no splits, only folds, which must not be redrawn: clips cut from one recording share a fold. Sample rates,
    bit depths and channels are those of the recordings. Labels are words ("dog bark" for `dog_bark`).

    Args:
        root: folder with `audio` and `metadata` in it.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("all",)

    def clips(self, split: str) -> Iterator[Clip]:
        """Yield the rows of `metadata/UrbanSound8K.csv`, in order; its times refer to the whole recording."""
        for row in rows(self.root / "metadata" / "UrbanSound8K.csv", COLUMNS):
            label = words(row["class"])
            yield Clip(
                id=f"urbansound8k/{Path(row['slice_file_name']).stem}",
                audio=self.root / "audio" / f"fold{row['fold']}" / row["slice_file_name"],
                captions=[templated(TEMPLATE, label)],
                fields=["template"],
                labels={"urbansound8k": label},
                corpus="urbansound8k",
                split=split,
                fold=int(row["fold"]),
                origin={"freesound": row["fsID"]},
            )

    def classes(self) -> Mapping[str, Sequence[str]]:
        """Return the 10 classes."""
        return {"urbansound8k": CLASSES}

    def official(self, split: str) -> int:  # noqa: ARG002
        """Return 8,732 clips."""
        return 8732
