"""AudioSet: 2 million clips of 10 s from YouTube, each with several of 527 kinds of sounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from slap.core.registry import register
from slap.datamodules.captions.template import templated
from slap.datamodules.corpora.base import Corpus
from slap.datamodules.corpora.csv_lists import first_of, rows
from slap.datamodules.corpora.youtube import Downloads
from slap.datamodules.manifests.clip import Clip, ManifestError

TEMPLATE = "the sound of {label}"

SIZES = {"balanced_train": 22_160, "unbalanced_train": 2_041_789, "eval": 20_371}


@register("audioset")
class AudioSet(Corpus):
    """Clips of 10 s from YouTube, each with some of 527 labels: `<split>_segments.csv` and `class_labels_indices.csv`.

    J. F. Gemmeke et al., "Audio Set: An ontology and human-labeled dataset for audio events", ICASSP 2017. The lists
    are CC BY 4.0, from research.google.com/audioset/download.html; the audio belongs to the videos' owners and has to
    be downloaded from YouTube, where many clips are gone.

    The audio is found below `audio` by the video's id, with the file names of common downloaders (`Y<id>.wav`,
    `<id>_30000_40000.flac`, ...). Tags are the display names, of the task "audioset"; captions come from a template.

    Args:
        root: folder with the lists, or with the folder `metadata` that holds them.
        audio: folder with the audio, in any sub-folders; None is ROOT.
    """

    SPLITS: ClassVar[tuple[str, ...]] = tuple(SIZES)

    def __init__(self, root: Path, audio: Path | None = None) -> None:
        super().__init__(root)
        self.downloads = Downloads(self.root if audio is None else Path(audio))

    def clips(self, split: str) -> Iterator[Clip]:
        """Yield the segments of a split, in the order of its list."""
        names = class_names(first_of(self.root, "class_labels_indices.csv", "metadata/class_labels_indices.csv"))
        path = first_of(self.root, f"{split}_segments.csv", f"metadata/{split}_segments.csv")
        columns = ("YTID", "start_seconds", "end_seconds", "positive_labels")
        for row in rows(path, columns, header=False, comment="#", skip_space=True):
            tags = display_names(row["positive_labels"], names, path)
            yield Clip(
                id=f"audioset/{row['YTID']}",
                audio=self.downloads.find(row["YTID"], float(row["start_seconds"]), float(row["end_seconds"])),
                captions=[templated(TEMPLATE, tags).lower()],
                fields=["template"],
                tags={"audioset": tags},
                corpus="audioset",
                split=split,
                origin={"youtube": row["YTID"]},
            )

    def classes(self) -> Mapping[str, Sequence[str]]:
        """Return the 527 display names of the ontology."""
        names = class_names(first_of(self.root, "class_labels_indices.csv", "metadata/class_labels_indices.csv"))
        return {"audioset": list(names.values())}

    def official(self, split: str) -> int:
        """Return the number of rows of the published list."""
        return SIZES[split]


def class_names(path: Path) -> dict[str, str]:
    """Read the display name of each class of AudioSet, by its machine id, in the official order.

    Example of a row: `0,/m/09x0r,"Speech"`.
    """
    return {row["mid"]: row["display_name"] for row in rows(path, ("index", "mid", "display_name"))}


def display_names(mids: str, names: dict[str, str], where: Path) -> list[str]:
    """Return the display names of machine ids with commas between them.

    Raises:
        ManifestError: a machine id is not among the classes.
    """
    try:
        return [names[mid] for mid in mids.split(",")]
    except KeyError as error:
        raise ManifestError(
            f"{where}: {error} is not one of the {len(names)} classes in class_labels_indices.csv"
        ) from error
