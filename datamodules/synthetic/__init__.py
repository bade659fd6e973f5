"""A synthetic corpus, made on first use: captioned sounds of 0.6 to 10 s, the same from the same seed.

Training clips are single sounds of twelve kinds and three lengths. Their order, number, length and overlap is learned
from scenes, which `slap.datamodules.augment.scenes` composes anew of each training batch. Validation and test clips are
synthesized anew, see `slap.datamodules.synthetic.held_out`.

The corpus consists of the manifests `train.jsonl`, `val.jsonl` and `test.jsonl`, of 16-bit WAV files, and of its
arguments:

    corpus.json              the arguments; written last, so that it exists only when the corpus is complete
    train/00000.wav          single sounds, also of val and test
    test/scene-0000.wav      scenes with captions
    test/order-0000.wav      scenes with a question; also count, duration and overlap
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.datamodules.datamodule import AudioTextData
from slap.datamodules.manifests.clip import Clip, write_manifest
from slap.datamodules.synthetic.held_out import held_out_clips
from slap.datamodules.synthetic.singles import SINGLES, write_single
from slap.datamodules.synthetic.words import PROMPT, TASK, scene_words, training_captions

VERSION = 2
"""Version of the corpus; raise it when the same arguments give another corpus, so that older ones are replaced."""

SCENES = {"probability": 0.9, "twins": 0.9}
"""Scenes of training batches by default."""

MARKER = "corpus.json"
SPLITS = ("train", "val", "test")


class SyntheticData(AudioTextData):
    """Batches of the synthetic corpus, which is written on first use.

    Args:
        folder: folder of the corpus.
        train: number of clips to train on, single sounds with up to three captions.
        val: number of single sounds for validation during training, of captioned scenes, and of questions of each kind:
            order, count, duration, overlap.
        test: likewise for the test.
        max_duration: seconds of audio per batch, per process.
        augment: augmentation of training clips: names, each with its arguments or null: crop, event_crop, filter,
            gain, mix, mixup, noise, reverb, scenes, speed, ...; default: scenes of nearly all
            clips, with twins where there is room. Scenes know the words of the sounds.
        seed: seed of the corpus, and of order, captions and augmentation in training.
        **options: any other option of `AudioTextData`.
    """

    def __init__(
        self,
        folder: str | Path,
        train: int = 2000,
        val: int = 60,
        test: int = 240,
        max_duration: Seconds = 100.0,
        augment: Mapping[str, Mapping[str, Any] | None] | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        train_manifest, val_manifest, test_manifest = (Path(folder) / f"{split}.jsonl" for split in SPLITS)
        super().__init__(
            train=train_manifest,
            val=val_manifest,
            test=test_manifest,
            max_duration=max_duration,
            max_clip=None,  # no clip is long
            prompts={TASK: PROMPT},
            augment=_with_words({"scenes": SCENES} if augment is None else augment),
            seed=seed,
            **options,
        )
        self.folder, self.clips = Path(folder), (train, val, test)

    def prepare_data(self) -> None:
        """Write the corpus; Lightning calls this once per machine."""
        write_corpus(self.folder, *self.clips, self.seed)


def _with_words(augment: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Mapping[str, Any] | None]:
    known = {"words": scene_words()}
    return {name: {**known, **(given or {})} if name == "scenes" else given for name, given in augment.items()}


def write_corpus(folder: str | Path, train: int = 2000, val: int = 60, test: int = 240, seed: int = 0) -> None:
    """Write the corpus, unless it exists already.

    It is made beside `folder` and moved there when it is complete. A corpus with other arguments is replaced.

    Args:
        folder: folder of the corpus.
        train: number of training clips, single sounds with up to three captions.
        val: size of the held-out part for validation during training, see `held_out_clips`.
        test: size of the held-out part for the test. Clips of different parts may show the same, but no sound is in
            two parts.
        seed: seed of the corpus; the same seed gives the same files.

    Raises:
        FileExistsError: `folder` holds something else than such a corpus.
        ValueError: a split is too small.
    """
    folder = Path(folder)
    arguments = json.dumps({"version": VERSION, "train": train, "val": val, "test": test, "seed": seed})
    if _made_with(folder) == arguments:
        return
    if folder.exists() and any(folder.iterdir()) and _made_with(folder) is None:
        raise FileExistsError(
            f"{folder} holds files but no {MARKER}, so it is no synthetic corpus; name another folder"
        )
    if train < 1:
        raise UserError(f"train must be at least 1 clip, got train={train}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as work:
        part = Path(work) / "new"
        for split, size in zip(SPLITS, (train, val, test), strict=True):
            write = _training_clips if split == "train" else held_out_clips
            clips = write(part / split, size, random.Random(f"{split} {seed}"))
            write_manifest(part / f"{split}.jsonl", clips)
        (part / MARKER).write_text(arguments)
        if folder.exists():
            folder.rename(Path(work) / "old")
        part.rename(folder)  # so that it never holds an incomplete corpus


def _made_with(folder: Path) -> str | None:
    marker = folder / MARKER
    return marker.read_text() if marker.is_file() else None


def _training_clips(folder: Path, size: int, rng: random.Random) -> Iterator[Clip]:
    """Write single sounds one after the other, and yield the clip of each."""
    folder.mkdir(parents=True)
    for number in range(size):
        kind, length = rng.choice(SINGLES)
        texts = training_captions(kind, length, rng)
        yield write_single(folder / f"{number:05d}.wav", kind, length, texts, rng)
