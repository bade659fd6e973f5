"""Auto-ACD: generated captions for clips of AudioSet and VGGSound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from slap.core.registry import register
from slap.datamodules.corpora.base import Corpus
from slap.datamodules.corpora.youtube import Downloads
from slap.datamodules.corpora.youtube_captions import captioned
from slap.datamodules.manifests.clip import Clip


@register("autoacd")
class AutoACD(Corpus):
    """Captions made from sound and picture for clips of AudioSet and VGGSound: `train.csv`, `test.csv`.

    L. Sun et al., "Auto-ACD: A Large-scale Dataset for Audio-Language Representation Learning", ACM Multimedia 2024,
    arXiv 2309.11500. About 1.9 million captions, from huggingface.co/datasets/Loie/Auto-ACD, which names no license;
    the audio has to be downloaded from YouTube.

    Leakage: it holds clips of AudioCaps' and VGGSound's test sets. `slap overlap` removes them from a training
    manifest.

    Args:
        root: folder with the lists.
        audio: folder with the audio of AudioSet and VGGSound, in any sub-folders, with any common file names; None
            is ROOT.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("train", "test")

    def __init__(self, root: Path, audio: Path | None = None) -> None:
        super().__init__(root)
        self.downloads = Downloads(self.root if audio is None else Path(audio))

    def clips(self, split: str) -> Iterator[Clip]:
        """Yield the captioned clips of a split, in the order of its list (columns `youtube_id,caption`)."""
        return captioned(self, "autoacd", split, self.root / f"{split}.csv", "youtube_id", self.downloads)
