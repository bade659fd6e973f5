"""Clotho: Freesound recordings of 15 to 30 s with five captions each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from slap.core.registry import register
from slap.datamodules.corpora.base import Corpus
from slap.datamodules.corpora.csv_lists import first_of, rows
from slap.datamodules.manifests.clip import Clip

CAPTIONS = tuple(f"caption_{n}" for n in range(1, 6))


@register("clotho")
class Clotho(Corpus):
    """Recordings of 15 to 30 s from Freesound, 44.1 kHz, each with five captions by different people.

    K. Drossos, S. Lipping, T. Virtanen, "Clotho: An Audio Captioning Dataset", ICASSP 2020; version 2.1, whose test set
    is the split "evaluation". Captions under the Tampere University license (not commercial), audio under a Creative
    Commons license per clip. Get it from zenodo.org/records/4783391: `clotho_captions_*.csv`, `clotho_metadata_*.csv`,
    and the audio unpacked to `development/`, `validation/`, `evaluation/`; the folders `clotho_audio_files/` and
    `clotho_csv_files/` of aac-datasets are found too.

    Some file names have double or leading spaces, so names are compared exactly as they are. The metadata, in
    ISO-8859-1, name the Freesound recording that a clip is from; without them a clip has no origin.

    Args:
        root: folder with the lists and the audio.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("development", "validation", "evaluation")

    def clips(self, split: str) -> Iterator[Clip]:
        """Yield the clips of a split, in the order of its list of captions."""
        sounds = self._sounds(split)
        folders = (self.root / split, self.root / "clotho_audio_files" / split)
        folder = next((path for path in folders if path.is_dir()), folders[0])
        for row in rows(self._list("captions", split), ("file_name", *CAPTIONS)):
            captions = [row[column].strip() for column in CAPTIONS if row[column].strip()]
            if not captions:
                self.leave_out("no caption", row["file_name"])
                continue
            sound = sounds.get(row["file_name"])
            yield Clip(
                id=f"clotho/{split}/{row['file_name']}",
                audio=folder / row["file_name"],
                captions=captions,
                fields=["caption"] * len(captions),
                corpus="clotho",
                split=split,
                origin={"freesound": sound} if sound else {},
            )

    def official(self, split: str) -> int:
        """Return 3,839, 1,045 and 1,045 clips."""
        return 3839 if split == "development" else 1045

    def _list(self, kind: str, split: str) -> Path:
        name = f"clotho_{kind}_{split}.csv"
        return first_of(self.root, name, f"clotho_csv_files/{name}")

    def _sounds(self, split: str) -> dict[str, str]:
        """Read the Freesound id of each file from the metadata, if they have it."""
        path = self._list("metadata", split)
        if not path.is_file():
            return {}
        known = rows(path, ("file_name", "sound_id"), encoding="iso-8859-1")
        return {row["file_name"]: row["sound_id"].strip() for row in known if row["sound_id"].strip().isdigit()}
