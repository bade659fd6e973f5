"""VGGSound: 200,000 clips of 10 s from YouTube with one of 309 labels each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from slap.core.registry import register
from slap.datamodules.captions.template import templated
from slap.datamodules.corpora.base import Corpus, words
from slap.datamodules.corpora.csv_lists import rows
from slap.datamodules.corpora.youtube import Downloads
from slap.datamodules.manifests.clip import Clip, ManifestError

TEMPLATE = "the sound of {label}"

SIZES = {"train": 183_730, "test": 15_446}


@register("vggsound")
class VGGSound(Corpus):
    """Clips of 10 s from YouTube with a visible sound source, each with one of 309 labels: `vggsound.csv`.

    H. Chen et al., "VGGSound: A Large-scale Audio-Visual Dataset", ICASSP 2020. CC BY 4.0, from
    robots.ox.ac.uk/~vgg/data/vggsound; the audio has to be downloaded from YouTube, or from
    huggingface.co/datasets/Loie/VGGSound.

    The audio is found below `audio` as `<id>_<start, six digits>.wav` or by other common file names. Labels contain
    commas ("bird chirping, tweeting"). Captions come from a template.

    Args:
        root: folder with the list.
        audio: folder with the audio, in any sub-folders; None is ROOT.
    """

    SPLITS: ClassVar[tuple[str, ...]] = tuple(SIZES)

    def __init__(self, root: Path, audio: Path | None = None) -> None:
        super().__init__(root)
        self.downloads = Downloads(self.root if audio is None else Path(audio))

    def clips(self, split: str) -> Iterator[Clip]:
        """Yield the clips of a split, in the order of the list, which has no header."""
        path = self.root / "vggsound.csv"
        for row in rows(path, ("youtube", "start", "label", "split"), header=False):
            if row["split"] not in SIZES:
                raise ManifestError(f"{path}: {row['youtube']} is in the split {row['split']!r}, not in train or test")
            if row["split"] != split:
                continue
            start, label = float(row["start"]), words(row["label"])
            yield Clip(
                id=f"vggsound/{row['youtube']}_{start:06.0f}",
                audio=self.downloads.find(row["youtube"], start, start + 10),
                captions=[templated(TEMPLATE, label)],
                fields=["template"],
                labels={"vggsound": label},
                corpus="vggsound",
                split=split,
                origin={"youtube": row["youtube"]},
            )

    def classes(self) -> Mapping[str, Sequence[str]]:
        """Return the 309 labels of the whole list."""
        rows_of = rows(self.root / "vggsound.csv", ("youtube", "start", "label", "split"), header=False)
        return {"vggsound": sorted({words(row["label"]) for row in rows_of})}

    def official(self, split: str) -> int:
        """Return the number of rows of the published list for a split, 199,176 in total."""
        return SIZES[split]
