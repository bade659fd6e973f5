"""A synthetic corpus, made on first use: captioned sounds of 0.3 to 12 s, the same from the same seed.

It consists of the manifests `train.jsonl`, `val.jsonl` and `test.jsonl`, of 16-bit WAV files, and of its arguments:

    corpus.json         the arguments; written last, so that it exists only when the corpus is complete
    train/00000.wav
"""

from __future__ import annotations

import json
import shutil
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.datamodules.datamodule import AudioTextData
from slap.datamodules.manifests.clip import Clip, write_manifest
from slap.datamodules.synthetic.captions import Scene, describe
from slap.datamodules.synthetic.scenes import held_out_scenes, labels, random_scene, render
from slap.datamodules.synthetic.sounds import SAMPLE_RATE, Sound

VERSION = 1
"""Version of the corpus; raise it when the same arguments give another corpus, so that older ones are replaced."""

MARKER = "corpus.json"
SPLITS = ("train", "val", "test")

PROMPTS = {"event": "the sound of {label}", "order": "the sound of {label}", "duration": "a {label} sound"}
"""The zero-shot tasks of the held-out clips, see `scenes.labels`, with their prompts."""

CAPTIONS = 3
"""Captions per training clip, in different words; held-out clips have one."""

MENTION = 0.75
"""Share of the training captions that name the length of a short or long sound. Held-out captions always do, so that
each fits one clip only."""


class SyntheticData(AudioTextData):
    """Batches of the synthetic corpus, which is written on first use.

    Args:
        folder: folder of the corpus.
        train: number of clips to train on, each with up to three captions.
        val: number of held-out clips for validation during training.
        test: number of held-out clips for the test, all of different scenes.
        max_duration: seconds of audio per batch, per process.
        seed: seed of the corpus, and of order, captions and augmentation in training.
        **options: any other option of `AudioTextData`.
    """

    def __init__(
        self,
        folder: str | Path,
        train: int = 3000,
        val: int = 120,
        test: int = 300,
        max_duration: Seconds = 100.0,
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
            prompts=PROMPTS,
            seed=seed,
            **options,
        )
        self.folder, self.clips = Path(folder), (train, val, test)

    def prepare_data(self) -> None:
        """Write the corpus; Lightning calls this once per machine."""
        write_corpus(self.folder, *self.clips, self.seed)


def write_corpus(folder: str | Path, train: int = 3000, val: int = 120, test: int = 300, seed: int = 0) -> None:
    """Write the corpus, unless it exists already.

    It is made beside `folder` and moved there when it is complete. A corpus with other arguments is replaced.

    Args:
        folder: folder of the corpus.
        train: number of training clips, of random scenes, each with three captions.
        val: number of held-out clips for validation during training, see `held_out_scenes`.
        test: number of held-out clips for the test. Clips of different splits may show the same scene, but no two clips
            have the same samples.
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
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)  # of an interrupted write
    for split, stream in zip(SPLITS, np.random.default_rng(seed).spawn(len(SPLITS)), strict=True):
        if split == "train":
            scenes = [random_scene(stream) for _ in range(train)]
        else:
            scenes = held_out_scenes(val if split == "val" else test, stream)
        write_manifest(part / f"{split}.jsonl", _clips(part, split, scenes, stream))
    (part / MARKER).write_text(arguments)
    _replace(folder, part)


def _made_with(folder: Path) -> str | None:
    marker = folder / MARKER
    return marker.read_text() if marker.is_file() else None


def _replace(folder: Path, part: Path) -> None:
    """Replace `folder` by `part`, so that it never holds an incomplete corpus."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _clips(root: Path, split: str, scenes: Sequence[Scene], stream: Generator) -> Iterator[Clip]:
    """Write the WAV files one after the other, and yield the clip of each."""
    (root / split).mkdir(parents=True)
    for i, (scene, rng) in enumerate(zip(scenes, stream.spawn(len(scenes)), strict=True)):
        sound = render(scene, rng)
        path = root / split / f"{i:05d}.wav"
        _write_wav(path, sound)
        captions = (
            [describe(scene, rng, MENTION) for _ in range(CAPTIONS)] if split == "train" else [describe(scene, rng)]
        )
        yield Clip(
            f"{split}-{i:05d}", path, list(dict.fromkeys(captions)), labels(scene), duration=len(sound) / SAMPLE_RATE
        )


def _write_wav(path: Path, sound: Sound) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((sound * 32767).round().astype("<i2").tobytes())
