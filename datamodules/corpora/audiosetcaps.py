"""AudioSetCaps: 6 million generated captions for clips of AudioSet, VGGSound and YouTube-8M."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from slap.core.registry import register
from slap.datamodules.corpora.base import Corpus
from slap.datamodules.corpora.csv_lists import first_of
from slap.datamodules.corpora.youtube import Downloads
from slap.datamodules.corpora.youtube_captions import captioned
from slap.datamodules.manifests.clip import Clip

LISTS = {
    "audioset": ("AudioSetCaps_caption.csv", 1_910_920),
    "vggsound": ("VGGSound_AudioSetCaps_caption.csv", 182_189),
    "youtube8m": ("YouTube-8M_AudioSetCaps_caption.csv", 4_023_990),
}
"""The list of captions and its published number of rows for each split, which is a source of audio."""


@register("audiosetcaps")
class AudioSetCaps(Corpus):
    """Captions from audio and language models for 10 s clips of AudioSet, VGGSound and YouTube-8M: `*_caption.csv`.

    J. Bai et al., "AudioSetCaps: An Enriched Audio-Caption Dataset using Automated Generation Pipeline with Large Audio
    and Language Models", arXiv 2411.18953. The captions are CC BY 4.0, from huggingface.co/datasets/baijs/AudioSetCaps;
    the audio has to be downloaded from YouTube.

    Leakage: it holds clips of AudioCaps' and VGGSound's test sets and of AudioSet's evaluation set. `slap overlap`
    removes them from a training manifest.

    Args:
        root: folder with the lists, or with the folder `Dataset` that holds them.
        audio: folder with the audio, in any sub-folders, with any common file names; None is ROOT.
    """

    SPLITS: ClassVar[tuple[str, ...]] = tuple(LISTS)

    def __init__(self, root: Path, audio: Path | None = None) -> None:
        super().__init__(root)
        self.downloads = Downloads(self.root if audio is None else Path(audio))

    def clips(self, split: str) -> Iterator[Clip]:
        """Yield the captioned clips of a source, in the order of its list (columns `id,caption`)."""
        name, _ = LISTS[split]
        path = first_of(self.root, name, f"Dataset/{name}")
        return captioned(self, "audiosetcaps", split, path, "id", self.downloads)

    def official(self, split: str) -> int:
        """Return the published number of captions."""
        return LISTS[split][1]
