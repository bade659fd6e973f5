"""MusicCaps: 5,521 clips of music of 10 s with captions by musicians."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from slap.core.registry import register
from slap.datamodules.corpora.base import Corpus
from slap.datamodules.corpora.csv_lists import rows
from slap.datamodules.corpora.youtube import Downloads
from slap.datamodules.manifests.clip import Clip, ManifestError

SIZES = {"train": 2_663, "eval": 2_858}

COLUMNS = ("ytid", "start_s", "end_s", "aspect_list", "caption", "is_audioset_eval")


@register("musiccaps")
class MusicCaps(Corpus):
    """Music of 10 s from AudioSet, each with a text and a list of aspects by a musician: `musiccaps-public.csv`.

    A. Agostinelli et al., "MusicLM: Generating Music From Text", arXiv 2301.11325. CC BY-SA 4.0, from
    kaggle.com/datasets/googleai/musiccaps; the audio has to be downloaded from YouTube.

    A clip has two captions, of the fields "caption" and "aspects" (the aspects, with commas between them). The clips
    are part of AudioSet, half of them of its evaluation set: the column `is_audioset_eval` defines the splits.

    Args:
        root: folder with the list.
        audio: folder with the audio, in any sub-folders, with any common file names; None is ROOT.
    """

    SPLITS: ClassVar[tuple[str, ...]] = tuple(SIZES)

    def __init__(self, root: Path, audio: Path | None = None) -> None:
        super().__init__(root)
        self.downloads = Downloads(self.root if audio is None else Path(audio))

    def clips(self, split: str) -> Iterator[Clip]:
        """Yield the clips of a split, in the order of the list."""
        path = self.root / "musiccaps-public.csv"
        for row in rows(path, COLUMNS):
            if (row["is_audioset_eval"].strip().lower() == "true") != (split == "eval"):
                continue
            texts = {"caption": row["caption"].strip(), "aspects": ", ".join(_aspects(row["aspect_list"], path))}
            texts = {field: text for field, text in texts.items() if text}
            yield Clip(
                id=f"musiccaps/{row['ytid']}",
                audio=self.downloads.find(row["ytid"], float(row["start_s"]), float(row["end_s"])),
                captions=list(texts.values()),
                fields=list(texts),
                corpus="musiccaps",
                split=split,
                origin={"youtube": row["ytid"]},
            )

    def official(self, split: str) -> int:
        """Return the published number of clips."""
        return SIZES[split]


def _aspects(text: str, where: Path) -> list[str]:
    """Parse the aspects of a cell like `['low quality', "80's strings"]`, which is a Python list."""
    try:
        found = ast.literal_eval(text)
    except (SyntaxError, ValueError) as error:
        raise ManifestError(f"{where}: this list of aspects cannot be read: {text[:80]!r}") from error
    return [str(aspect).strip() for aspect in found]
