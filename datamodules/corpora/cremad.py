"""CREMA-D: 7,442 sentences spoken by 91 actors with one of six emotions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from slap.core.registry import register
from slap.datamodules.captions.template import templated
from slap.datamodules.corpora.base import Corpus
from slap.datamodules.corpora.csv_lists import rows
from slap.datamodules.manifests.clip import Clip, ManifestError

TEMPLATE = "a person is talking, feeling {label}"

EMOTIONS = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
LEVELS = {"LO": "low", "MD": "medium", "HI": "high"}  # and XX for no given level
SENTENCES = {
    "DFA": "Don't forget a jacket",
    "IEO": "It's eleven o'clock",
    "IOM": "I'm on my way to the meeting",
    "ITH": "I think I have a doctor's appointment",
    "ITS": "I think I've seen this before",
    "IWL": "I would like a new alarm clock",
    "IWW": "I wonder what this is about",
    "MTI": "Maybe tomorrow it will be cold",
    "TAI": "The airplane is almost full",
    "TIE": "That is exactly what happened",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}

EVAR = {
    "valid": (1009, 1011, 1022, 1034, 1039, 1047, 1066, 1070, 1082),
    "test": (
        *(1001, 1004, 1017, 1019, 1020, 1025, 1026, 1029, 1033, 1035),
        *(1042, 1044, 1050, 1053, 1056, 1058, 1060, 1069, 1083),
    ),
}
"""The actors of the split in EVAR's evar/metadata/cremad.csv; the other 63 are for training."""

SIZES = {"all": 7442, "train": 5155, "valid": 732, "test": 1551}


@register("cremad")
class CREMAD(Corpus):
    """Sentences that 91 actors speak with one of six emotions, 16 kHz: `AudioWAV/1001_DFA_ANG_XX.wav`.

    H. Cao et al., "CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset", IEEE Transactions on Affective
    Computing 5(4), 2014. Open Database License, from github.com/CheyneyComputerScience/CREMA-D (with Git LFS).

    There is no official split. `actors` "evar" is that of github.com/nttcslab/eval-audio-repr, where no actor is in two
    splits; its lists have 4 clips fewer than the corpus has of these actors. A file name consists of actor, sentence,
    emotion and level (1040_ITH_SAD_X lacks a letter). 1076_MTI_SAD_XX holds no sound.

    Args:
        root: folder with `AudioWAV` in it.
        labels: "emotion" for the task "cremad" alone; "all" also for "cremad_sentence", "cremad_level" and
            "cremad_actor".
        actors: "all" for the single split "all"; "evar" for the splits train, valid and test of EVAR.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("all",)

    def __init__(
        self, root: Path, labels: Literal["emotion", "all"] = "emotion", actors: Literal["all", "evar"] = "all"
    ) -> None:
        super().__init__(root)
        self.labels = labels
        self.actors = actors

    def splits(self) -> Sequence[str]:
        """Return the single split "all", or those of EVAR."""
        return self.SPLITS if self.actors == "all" else ("train", *EVAR)

    def clips(self, split: str) -> Iterator[Clip]:
        """Yield the clips in the order of `SentenceFilenames.csv`, or without that file in the order of their names."""
        for name in self._names():
            labels = _labels(name)
            if split != "all" and evar_split(int(labels["cremad_actor"])) != split:
                continue
            yield Clip(
                id=f"cremad/{name}",
                audio=self.root / "AudioWAV" / f"{name}.wav",
                captions=[templated(TEMPLATE, labels["cremad"])],
                fields=["template"],
                labels=labels if self.labels == "all" else {"cremad": labels["cremad"]},
                corpus="cremad",
                split=split,
                origin={"speaker": f"cremad {name[:4]}"},
            )

    def classes(self) -> Mapping[str, Sequence[str]]:
        """Return the six emotions."""
        return {"cremad": sorted(EMOTIONS.values())}

    def official(self, split: str) -> int:
        """Return 7,442 clips, or the size of EVAR's split."""
        return SIZES[split]

    def _names(self) -> list[str]:
        listed = self.root / "SentenceFilenames.csv"
        if listed.is_file():
            return [row["Filename"] for row in rows(listed, ("Filename",))]
        return sorted(path.stem for path in (self.root / "AudioWAV").glob("[!.]*.wav"))


def evar_split(actor: int) -> str:
    """Return the split of EVAR that an actor is in."""
    return next((split for split, actors in EVAR.items() if actor in actors), "train")


def _labels(name: str) -> dict[str, str]:
    """Return the labels in a clip's name."""
    parts = name.split("_")
    if len(parts) != 4 or parts[1] not in SENTENCES or parts[2] not in EMOTIONS or parts[3] not in {*LEVELS, "XX", "X"}:
        raise ManifestError(f"{name!r} is not named like 1001_DFA_ANG_XX (actor, sentence, emotion, level)")
    actor, sentence, emotion, level = parts
    labels = {"cremad": EMOTIONS[emotion], "cremad_sentence": SENTENCES[sentence], "cremad_actor": actor}
    return labels | ({"cremad_level": LEVELS[level]} if level in LEVELS else {})
