"""Speech Commands V2: 105,829 spoken words of 1 s, 35 words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from slap.core.registry import register
from slap.datamodules.captions.template import templated
from slap.datamodules.corpora.base import Corpus
from slap.datamodules.manifests.clip import Clip, ManifestError

TEMPLATE = "a person says {label}"

WORDS = (
    *("backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four", "go", "happy"),
    *("house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right", "seven", "sheila", "six"),
    *("stop", "three", "tree", "two", "up", "visual", "wow", "yes", "zero"),
)

SIZES = {"train": 84_843, "validation": 9_981, "test": 11_005}

LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}


@register("speechcommands")
class SpeechCommands(Corpus):
    """Spoken words of up to 1 s, 35 of them, 16 kHz: `<word>/<speaker>_nohash_<n>.wav` and two lists.

    P. Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition", arXiv 1804.03209. CC BY 4.0, from
    download.tensorflow.org/data/speech_commands_v0.02.tar.gz.

    Version 2, all 35 words. "validation" and "test" are `validation_list.txt` and `testing_list.txt`; "train" consists
    of all other files without `_background_noise_`. It has no list, so a missing file is noticed only by the number of
    clips. Lhotse's "test" is another one, of 12 classes.

    Args:
        root: folder with the words' folders and the lists in it.
    """

    SPLITS: ClassVar[tuple[str, ...]] = tuple(SIZES)

    def clips(self, split: str) -> Iterator[Clip]:
        """Yield the recordings of a split, in the order of its list, or by name."""
        listed = {name: self._listed(path) for name, path in LISTS.items()}
        held_out = {*listed["validation"], *listed["test"]}
        names = listed[split] if split in listed else [name for name in self._present() if name not in held_out]
        for name in names:
            word = name.split("/")[0]
            yield Clip(
                id=f"speechcommands/{name.removesuffix('.wav')}",
                audio=self.root / name,
                captions=[templated(TEMPLATE, word)],
                fields=["template"],
                labels={"speechcommands": word},
                corpus="speechcommands",
                split=split,
                origin={"speaker": f"speechcommands {name.split('/')[1].split('_')[0]}"},
            )

    def classes(self) -> Mapping[str, Sequence[str]]:
        """Return the 35 words."""
        return {"speechcommands": WORDS}

    def official(self, split: str) -> int:
        """Return the published number of recordings."""
        return SIZES[split]

    def _listed(self, list_name: str) -> list[str]:
        path = self.root / list_name
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}, which is part of the corpus")
        names = path.read_text(encoding="utf-8").split()
        for number, name in enumerate(names, start=1):
            if name.split("/")[0] not in WORDS:
                raise ManifestError(
                    f"{path}, line {number}: {name!r} is not a file of one of the 35 words, like yes/ab12_nohash_0.wav"
                )
        return names

    def _present(self) -> Iterator[str]:
        for word in WORDS:
            yield from (f"{word}/{path.name}" for path in sorted((self.root / word).glob("[!.]*_nohash_*.wav")))
