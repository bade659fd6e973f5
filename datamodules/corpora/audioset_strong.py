"""AudioSet with strong labels: clips of 10 s from YouTube, with onset and offset of each of 456 kinds of sounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from slap.core.registry import register
from slap.core.units import Seconds
from slap.datamodules.captions.template import templated
from slap.datamodules.corpora.base import Corpus
from slap.datamodules.corpora.csv_lists import first_of, rows
from slap.datamodules.corpora.strong_labels import events_by_clip, phrase, phrases
from slap.datamodules.corpora.youtube import ID_LENGTH, Downloads
from slap.datamodules.manifests.clip import Clip, ManifestError

TEMPLATE = "the sound of {label}"
DURATION: Seconds = 10.0

COLUMNS = ("segment_id", "start_time_seconds", "end_time_seconds", "label")
NAMES = "mid_to_display_name.tsv"


@register("audioset_strong")
class AudioSetStrong(Corpus):
    """Clips of 10 s from YouTube with onsets and offsets of sounds: `audioset_train_strong.tsv`, `..._eval_strong.tsv`.

    S. Hershey et al., "The Benefit of Temporally-Strong Labels in Audio Event Classification", ICASSP 2021. The lists
    are CC BY 4.0, from research.google.com/audioset/download_strong.html, with `mid_to_display_name.tsv`; the audio
    belongs to the videos' owners and has to be downloaded from YouTube, where many clips are gone.

    The audio is found as for `audioset`, one file per clip. Segments are the events, with the display names in lower
    case as phrases; tags are the same names, of the task "audioset_strong", and captions come from a template. Events
    of a clip that is shorter than 10 s end with it.

    Args:
        root: folder with the lists, or with the folder `metadata` that holds them.
        audio: folder with the audio, in any sub-folders; None is ROOT.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("train", "eval")
    may_be_cut = True

    def __init__(self, root: Path, audio: Path | None = None) -> None:
        super().__init__(root)
        self.downloads = Downloads(self.root if audio is None else Path(audio))

    def clips(self, split: str) -> Iterator[Clip]:
        """Yield the clips of a split, in the order of its list."""
        name = f"audioset_{split}_strong.tsv"
        path = first_of(self.root, name, f"metadata/{name}")
        for segment, events in events_by_clip(path, COLUMNS, self._names()).items():
            youtube, start = _place(segment, path)
            names = phrases(events)
            yield Clip(
                id=f"audioset_strong/{segment}",
                audio=self.downloads.find(youtube, start, start + DURATION),
                captions=[templated(TEMPLATE, names)] if names else [],
                fields=["template"] if names else [],
                tags={"audioset_strong": names},
                corpus="audioset_strong",
                split=split,
                origin={"youtube": youtube},
                segments=events,
            )

    def classes(self) -> Mapping[str, Sequence[str]]:
        """Return the names of all sounds, in lower case."""
        return {"audioset_strong": list(dict.fromkeys(map(phrase, self._names().values())))}

    def _names(self) -> dict[str, str]:
        """Return the display name of each machine id. Example of a row: `/m/09x0r`, a tab, `Speech`."""
        path = first_of(self.root, NAMES, f"metadata/{NAMES}")
        listed = rows(path, ("mid", "display_name"), header=False, delimiter="\t")
        return {row["mid"]: row["display_name"] for row in listed}


def _place(segment: str, path: Path) -> tuple[str, Seconds]:
    """Split the id of a clip, e.g. `b0RFKhbpFJA_30000`, into the video and the begin of the clip in it.

    Raises:
        ManifestError: it is no such id.
    """
    youtube, _, milliseconds = segment.rpartition("_")
    if len(youtube) != ID_LENGTH or not milliseconds.isdigit():
        raise ManifestError(f"{path}: {segment!r} is no YouTube id with a begin in milliseconds, as b0RFKhbpFJA_30000")
    return youtube, int(milliseconds) / 1000
