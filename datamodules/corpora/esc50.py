"""ESC-50: 2,000 environmental sounds of 5 s in 50 classes and 5 folds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from slap.core.registry import register
from slap.datamodules.captions.template import templated
from slap.datamodules.corpora.base import Corpus, words
from slap.datamodules.corpora.csv_lists import rows
from slap.datamodules.manifests.clip import Clip

TEMPLATE = "the sound of {label}"

COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")


@register("esc50")
class ESC50(Corpus):
    """Environmental sounds of 5 s, 44.1 kHz, mono, 40 per class: `audio/*.wav` and `meta/esc50.csv`.

    K. J. Piczak, "ESC: Dataset for Environmental Sound Classification", ACM Multimedia 2015. CC BY-NC 3.0, the subset
    ESC-10 CC BY 3.0. Get it from github.com/karolpiczak/ESC-50.

    There are no splits, only folds; clips cut from one Freesound recording share a fold. The task of the labels has the
    name of the subset, and labels are words: "crying baby" for `crying_baby`.

    Args:
        root: folder with `audio` and `meta` in it.
        subset: "esc50" for all 50 classes, "esc10" for the 10 classes of ESC-10.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("all",)

    def __init__(self, root: Path, subset: Literal["esc50", "esc10"] = "esc50") -> None:
        super().__init__(root)
        self.subset = subset

    def clips(self, split: str) -> Iterator[Clip]:
        """Yield the clips in the order of `meta/esc50.csv`."""
        for row in rows(self.root / "meta" / "esc50.csv", COLUMNS):
            if self.subset == "esc10" and row["esc10"] != "True":
                continue
            label = words(row["category"])
            yield Clip(
                id=f"esc50/{Path(row['filename']).stem}",
                audio=self.root / "audio" / row["filename"],
                captions=[templated(TEMPLATE, label)],
                fields=["template"],
                labels={self.subset: label},
                corpus="esc50",
                split=split,
                fold=int(row["fold"]),
                origin={"freesound": row["src_file"]},
            )

    def classes(self) -> Mapping[str, Sequence[str]]:
        """Return the 50 or 10 classes of the list."""
        return {self.subset: sorted({clip.labels[self.subset] for clip in self.clips("all")})}

    def official(self, split: str) -> int:  # noqa: ARG002
        """Return 2,000 clips, or 400 for ESC-10."""
        return 400 if self.subset == "esc10" else 2000
