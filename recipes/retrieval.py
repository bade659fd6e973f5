"""Fine-tuning for retrieval on AudioCaps or Clotho, by their published splits, selected on validation.

Prepare the corpus first, `slap prepare audiocaps ROOT manifests/audiocaps`. Each training clip comes with one of its
captions, evaluation takes all five. Clotho's validation and evaluation are two splits; test is the second one.
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

from slap.datamodules import AudioTextData
from slap.evaluation.benchmarks import manifests_of
from slap.recipes import finetune
from slap.recipes._corpora import CAPTIONED_STEPS, CaptionedCorpus
from slap.training.module import SLAP

LINKS = {"trainer.corpus": "data.corpus"}


def model(warmup_steps: int = 200, **options: Any) -> SLAP:
    """Begin from a trained model, as `finetune` does.

    Args:
        warmup_steps: optimizer steps of linear warm-up.
        **options: any other option of `finetune.model`.
    """
    return finetune.model(warmup_steps=warmup_steps, **options)


def data(
    corpus: CaptionedCorpus = "audiocaps", manifests: str | None = None, max_duration: float = 1280.0, **options: Any
) -> AudioTextData:
    """Read the three published splits.

    Args:
        corpus: audiocaps or clotho.
        manifests: the folder that `slap prepare` wrote; default: `manifests/` and the name of the corpus.
        max_duration: seconds of audio per batch, per process; 1,280 s are 128 clips of AudioCaps.
        **options: any other option of `finetune.data`.
    """
    splits = manifests_of(corpus, manifests)
    made = finetune.data(
        train=splits["train"], val=splits["val"], test=splits["test"], max_duration=max_duration, **options
    )
    made.own_captions_only = True  # as the published protocol has it
    return made


def trainer(
    corpus: CaptionedCorpus = "audiocaps",
    out: str = "runs/retrieval",
    max_steps: int | None = None,
    **options: Any,
) -> Trainer:
    """Train for ten to twenty epochs.

    Args:
        corpus: audiocaps or clotho; it decides `max_steps`.
        out: the run's folder.
        max_steps: optimizer steps; default: 4,000 for AudioCaps, 1,500 for Clotho.
        **options: any other option of `finetune.trainer`.
    """
    steps = CAPTIONED_STEPS[corpus] if max_steps is None else max_steps
    return finetune.trainer(out=out, max_steps=steps, **options)
