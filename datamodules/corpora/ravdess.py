"""RAVDESS: two sentences, spoken and sung by 24 actors with one of eight emotions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import ClassVar, Literal

from slap.core.registry import register
from slap.datamodules.captions.template import templated
from slap.datamodules.corpora.base import Corpus
from slap.datamodules.manifests.clip import Clip

TEMPLATES = {"speech": "a person is talking, feeling {label}", "song": "a person is singing, feeling {label}"}

CHANNELS = {"speech": "01", "song": "02"}
FOLDERS = {"speech": "Audio_Speech_Actors_01-24", "song": "Audio_Song_Actors_01-24"}
EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
SUNG = EMOTIONS[:6]
INTENSITIES = ("normal", "strong")  # neutral is normal only
STATEMENTS = ("Kids are talking by the door", "Dogs are sitting by the door")
SILENT_SINGER = 18  # there are no songs of this actor

SIZES = {"speech": 1440, "song": 1012}


@register("ravdess")
class RAVDESS(Corpus):
    """Two sentences that 24 actors speak and sing with emotions, 48 kHz: `Actor_NN/03-01-06-01-02-01-12.wav`.

    S. R. Livingstone and F. A. Russo, "The Ryerson Audio-Visual Database of Emotional Speech and Song", PLoS ONE 13(5),
    2018. CC BY-NC-SA 4.0, from zenodo.org/records/1188976, the files `Audio_Speech_Actors_01-24.zip` and
    `Audio_Song_Actors_01-24.zip`.

    The list of clips follows from the design of the corpus. There is no official split into training and test; the
    splits are its two parts, "speech" and "song".

    Args:
        root: folder with the folders of the actors, or with `Audio_Speech_Actors_01-24` and
            `Audio_Song_Actors_01-24` in it.
        labels: "emotion" for the task "ravdess" alone; "all" also for "ravdess_intensity", "ravdess_statement",
            "ravdess_actor" and "ravdess_gender".
    """

    SPLITS: ClassVar[tuple[str, ...]] = tuple(SIZES)

    def __init__(self, root: Path, labels: Literal["emotion", "all"] = "emotion") -> None:
        super().__init__(root)
        self.labels = labels

    def clips(self, split: str) -> Iterator[Clip]:
        """Yield the clips of speech or song, by actor."""
        unpacked = self.root / FOLDERS[split]
        folder = unpacked if unpacked.is_dir() else self.root
        for codes in _codes(split):
            name, labels = "-".join(codes), _labels(codes)
            yield Clip(
                id=f"ravdess/{name}",
                audio=folder / f"Actor_{codes[6]}" / f"{name}.wav",
                captions=[templated(TEMPLATES[split], labels["ravdess"])],
                fields=["template"],
                labels=labels if self.labels == "all" else {"ravdess": labels["ravdess"]},
                corpus="ravdess",
                split=split,
                origin={"speaker": f"ravdess {labels['ravdess_actor']}"},
            )

    def classes(self) -> Mapping[str, Sequence[str]]:
        """Return the eight emotions; songs have the first six."""
        return {"ravdess": EMOTIONS}

    def official(self, split: str) -> int:
        """Return 1,440 spoken or 1,012 sung clips."""
        return SIZES[split]


def _codes(split: str) -> Iterator[tuple[str, ...]]:
    """Yield the seven numbers of each name: modality, channel, emotion, intensity, statement, repetition, actor."""
    emotions = EMOTIONS if split == "speech" else SUNG
    for actor, emotion, intensity, statement, repetition in product(
        range(1, 25), range(1, len(emotions) + 1), (1, 2), (1, 2), (1, 2)
    ):
        if not (emotion == 1 and intensity == 2) and not (split == "song" and actor == SILENT_SINGER):
            numbers = (emotion, intensity, statement, repetition, actor)
            yield ("03", CHANNELS[split], *(f"{number:02d}" for number in numbers))


def _labels(codes: tuple[str, ...]) -> dict[str, str]:
    """Return the labels in a name."""
    emotion, intensity, statement, _, actor = (int(code) for code in codes[2:])
    return {
        "ravdess": EMOTIONS[emotion - 1],
        "ravdess_intensity": INTENSITIES[intensity - 1],
        "ravdess_statement": STATEMENTS[statement - 1],
        "ravdess_actor": codes[6],
        "ravdess_gender": "male" if actor % 2 else "female",
    }
