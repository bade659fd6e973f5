"""DESED: clips of 10 s from homes, real and synthetic, with onset and offset of each of 10 kinds of sounds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from slap.core.registry import register
from slap.core.segments import Rows
from slap.datamodules.captions.template import templated
from slap.datamodules.corpora.base import Corpus
from slap.datamodules.corpora.csv_lists import first_of, rows
from slap.datamodules.corpora.strong_labels import events_by_clip, phrase, phrases
from slap.datamodules.manifests.clip import Clip

TEMPLATE = "the sound of {label}"
NO_EVENT = "the sound of a home"
"""Caption of a clip without any of the events: all are from homes."""

CLASSES = (
    *("Alarm_bell_ringing", "Blender", "Cat", "Dishes", "Dog", "Electric_shaver_toothbrush", "Frying"),
    *("Running_water", "Speech", "Vacuum_cleaner"),
)

PLACES = {
    "weak": (("train/weak.tsv", "train/weak"),),
    "synthetic": (
        ("train/synthetic21_train/soundscapes.tsv", "train/synthetic21_train/soundscapes"),
        ("train/synthetic20/soundscapes.tsv", "train/synthetic20/soundscapes"),
        ("train/synthetic.tsv", "train/synthetic"),
    ),
    "strong_label_real": (("train/audioset_strong.tsv", "train/strong_label_real"),),
    "synthetic_validation": (
        ("validation/synthetic21_validation/soundscapes.tsv", "validation/synthetic21_validation/soundscapes"),
        ("validation/synthetic20/soundscapes.tsv", "validation/synthetic20/soundscapes"),
    ),
    "validation": (("validation/validation.tsv", "validation/validation"), ("validation/validation.tsv", "validation")),
    "public": (("eval/public.tsv", "eval/public"),),
}
"""For each split the list below `metadata` and the folder below `audio`, of each release that has it, newest first."""

SIZES = {"weak": 1_578, "validation": 1_168, "public": 692}

COLUMNS = ("filename", "onset", "offset", "event_label")


@register("desed")
class DESED(Corpus):
    """Clips of 10 s from homes, real and synthetic, with onsets and offsets of 10 kinds of sounds: `metadata`, `audio`.

    N. Turpault et al., "Sound event detection in domestic environments with weakly labeled data and soundscape
    synthesis", DCASE 2019; R. Serizel et al., "Sound event detection in synthetic domestic environments", ICASSP 2020.
    From github.com/turpaultn/DESED, zenodo.org/records/3588172 (public evaluation) and zenodo.org/records/6026841
    (synthetic); each file has a Creative Commons license of its own.

    The splits are the lists in the folder: `weak`, whose labels have no times, `synthetic` (of DCASE 2021, 2020 or
    2019), `strong_label_real`, `synthetic_validation`, `validation` and `public`, the public evaluation set. The clips
    of `unlabel_in_domain` have neither labels nor captions: train with their folder as `unlabelled`.

    Segments are the events, with labels as words for phrases ("alarm bell ringing"). Tags are the same, of the task
    "desed"; captions come from a template.

    Args:
        root: folder with `audio` and `metadata` in it, or with the folder `dataset` that holds these.
    """

    SPLITS: ClassVar[tuple[str, ...]] = tuple(PLACES)
    may_be_cut = True

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        if not (self.root / "metadata").is_dir() and (self.root / "dataset" / "metadata").is_dir():
            self.root = self.root / "dataset"

    def splits(self) -> Sequence[str]:
        """Return the splits whose list is in the folder; all if none is."""
        there = [name for name, places in PLACES.items() if any(self._list(list_).is_file() for list_, _ in places)]
        return there or self.SPLITS

    def clips(self, split: str) -> Iterator[Clip]:
        """Yield the clips of a split, in the order in which its list first names them."""
        places = [(list_, folder) for list_, folder in PLACES[split] if self._list(list_).is_file()] or PLACES[split]
        listed, folder = next(((a, b) for a, b in places if (self.root / "audio" / b).is_dir()), places[0])
        path = self._list(listed)
        if split == "weak":
            for row in rows(path, ("filename", "event_labels"), delimiter="\t"):
                names = [phrase(label) for label in row["event_labels"].split(",")]
                yield self._clip(split, folder, row["filename"], names, None)
            return
        for name, events in events_by_clip(path, COLUMNS).items():
            yield self._clip(split, folder, name, phrases(events), events)

    def _list(self, name: str) -> Path:
        return first_of(self.root, f"metadata/{name}")

    def _clip(self, split: str, folder: str, name: str, names: Sequence[str], events: Rows | None) -> Clip:
        stem = re.sub(r"\.(wav|jams)$", "", name)  # lists of soundscapes may name their recipes
        youtube = re.fullmatch(r"Y?([\w-]{11})_\d+(?:\.\d+)?_\d+(?:\.\d+)?", stem, re.ASCII)
        return Clip(
            id=f"desed/{split}/{stem}",
            audio=self.root / "audio" / folder / f"{stem}.wav",
            captions=[templated(TEMPLATE, list(names)) if names else NO_EVENT],
            fields=["template"],
            tags={"desed": list(names)},
            corpus="desed",
            split=split,
            origin={"youtube": youtube[1]} if youtube else {},
            segments=events,
        )

    def classes(self) -> Mapping[str, Sequence[str]]:
        """Return the ten kinds of sounds."""
        return {"desed": [phrase(name) for name in CLASSES]}

    def official(self, split: str) -> int | None:
        """Return the published number of clips; None for splits that differ from release to release."""
        return SIZES.get(split)
