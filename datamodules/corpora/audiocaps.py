"""AudioCaps: clips of AudioSet, 10 s long, with captions by people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from slap.core.registry import register
from slap.core.units import Seconds
from slap.datamodules.corpora.base import Corpus
from slap.datamodules.corpora.csv_lists import first_of, rows
from slap.datamodules.corpora.youtube import Downloads
from slap.datamodules.manifests.clip import Clip, ManifestError

COLUMNS = ("audiocap_id", "youtube_id", "start_time", "caption")

LENGTH: Seconds = 10.0

COUNTS = {"v1": {"train": 49_838, "val": 495, "test": 975}, "v2": {"val": 495, "test": 975}}
"""Numbers of clips. For version 2's training list only the number of captions is published, 91,256."""


@register("audiocaps")
class AudioCaps(Corpus):
    """Clips of AudioSet, up to 10 s, one caption each for training and five for validation and test.

    C. D. Kim, B. Kim, H. Lee, G. Kim, "AudioCaps: Generating Captions for Audios in The Wild", NAACL 2019. The captions
    (MIT) are at github.com/cdjkim/audiocaps: `dataset/*.csv`, and version 2 of 2025 in `dataset2.0/*.csv`; lists beside
    the audio, `train.csv` and so on, are found too. The audio has to be downloaded from YouTube, where many clips are
    gone: a common copy has 49,274, 494 and 957 of version 1.

    Audio may lie in any sub-folders, named `Y<youtube id>`, `<youtube id>`, `<youtube id>_<start>`,
    `<youtube id>_<start>_<end>` in seconds or milliseconds, or after the `audiocap_id` of any of its captions.

    Version 2 has the clips of version 1's validation and test sets with edited captions: metrics of the two versions
    cannot be compared.

    Args:
        root: folder with the lists.
        version: version of the captions.
        audio: folder with the audio; None is ROOT.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def __init__(self, root: Path, version: Literal["v1", "v2"] = "v1", audio: Path | None = None) -> None:
        super().__init__(root)
        self.version = version
        self.downloads = Downloads(self.root if audio is None else Path(audio))

    def clips(self, split: str) -> Iterator[Clip]:
        """Yield the clips of a split, in the order of their first captions; all captions of a clip in order."""
        folder = "dataset" if self.version == "v1" else "dataset2.0"
        path = first_of(self.root, f"{folder}/{split}.csv", f"{split}.csv")
        captions: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for row in rows(path, COLUMNS):
            if not row["caption"].strip():
                self.leave_out("empty caption", f"{row['audiocap_id']} of {row['youtube_id']}")
                continue
            clip = captions.setdefault((row["youtube_id"], row["start_time"]), [])
            clip.append((row["audiocap_id"], row["caption"].strip()))
        for (youtube, start), written in captions.items():
            try:
                begin = float(start)
            except ValueError as error:
                raise ManifestError(f"{path}: start_time of {youtube} must be seconds, got {start!r}") from error
            yield Clip(
                id=f"audiocaps/{youtube}_{start}",
                audio=self._file(youtube, begin, [number for number, _ in written]),
                captions=[text for _, text in written],
                fields=["caption"] * len(written),
                corpus="audiocaps",
                split=split,
                origin={"youtube": youtube},
            )

    def official(self, split: str) -> int | None:
        """Return 49,838, 495 or 975 clips for version 1; 495 or 975 for version 2, None for its training split."""
        return COUNTS[self.version].get(split)

    def _file(self, youtube: str, start: Seconds, numbers: list[str]) -> Path:
        named = (self.downloads.named(number) for number in numbers)
        found = self.downloads.find(youtube, start, start + LENGTH)
        return found if found.is_file() else next(filter(None, named), found)
