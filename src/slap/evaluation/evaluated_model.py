"""Model under evaluation, and the embeddings of clips that several tasks share.

n clips, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from slap.audio.errors import AudioError
from slap.audio.recordings import Audio
from slap.audio.sources import AudioStream
from slap.core.progress import Progress
from slap.core.windows import hop_of
from slap.evaluation.embedding_cache import EmbeddingCache, Key, Known, stamp
from slap.evaluation.eval_set import EvalClip, EvalSet
from slap.evaluation.perturbations import Perturbation
from slap.evaluation.prompts import PromptBook
from slap.inference.model import Model
from slap.inference.stream import BATCH_SECONDS, NotFiniteError, opened


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The embeddings of those clips of a set that can be used.

    Attributes:
        rows: the number in the set of each, n, upwards.
        embeddings: (n, E) float32 on the CPU, rows of length 1; NaN where the model's is not finite, which ranks last.
        seconds: of each.
        failed: ids of the other clips, with the reason.
    """

    rows: list[int]
    embeddings: Tensor
    seconds: list[float]
    failed: list[tuple[str, str]]


class EvaluatedModel:
    """A model under evaluation, which computes each embedding once for all tasks.

    Args:
        model: from `slap.load`, or around a network that is being trained.
        prompts: the prompts of zero-shot tasks.
        batch_seconds: seconds of audio per batch.
        store: keeps embeddings on disk, so that an interrupted evaluation goes on; None keeps them in memory alone.
    """

    def __init__(
        self,
        model: Model,
        prompts: PromptBook | None = None,
        batch_seconds: float = BATCH_SECONDS,
        store: EmbeddingCache | None = None,
    ) -> None:
        self.model = model
        self.prompts = prompts or PromptBook.built_in()
        self.batch_seconds = batch_seconds
        self.store = store
        self._known: dict[Key, Known] = {}
        self._texts: dict[str, Tensor] = {}

    def features(self, data: EvalSet, progress: Progress, under: Perturbation | None = None) -> Embeddings:
        """Embed the clips of a set; those that another task asked for before are not computed again.

        Args:
            data: the clips.
            progress: makes progress bars.
            under: the condition under which the clips are embedded. A clip that is silent by itself cannot be used, as
                in training; under a condition it can.
        """
        keys = [(str(clip.audio), clip.id, "" if under is None else under.key) for clip in data.clips]
        if self.store is not None:
            self._known |= self.store.read([key for key in keys if key not in self._known])
        todo = [row for row, key in enumerate(keys) if key not in self._known]
        if todo:
            self._embed(data, todo, keys, progress, under)
        rows = [row for row, key in enumerate(keys) if not isinstance(self._known[key], str)]
        found: list[Any] = [self._known[keys[row]] for row in rows]
        embeddings = [embedding for _, embedding in found]
        return Embeddings(
            rows=rows,
            embeddings=torch.stack(embeddings) if rows else torch.empty(0, self.model.embedding_dim),
            seconds=[seconds for seconds, _ in found],
            failed=[(key[1], str(self._known[key])) for key in keys if isinstance(self._known[key], str)],
        )

    def _embed(
        self,
        data: EvalSet,
        todo: Sequence[int],
        keys: Sequence[Key],
        progress: Progress,
        under: Perturbation | None,
    ) -> None:
        bar = progress(len(todo), f"{data.name}: audio{'' if under is None else f', {under.name}'}", "clips")
        try:
            clips = [data.clips[row] for row in todo]
            audio: Any = [clip.audio for clip in clips] if under is None else (self._under(under, one) for one in clips)
            for done in self.model.stream(audio, self.batch_seconds):
                key = keys[todo[done.index]]
                if done.silent and under is None:
                    self._known[key] = f"{done.name}: {done.note}"
                elif done.result is not None:
                    self._known[key] = done.seconds, done.result
                elif isinstance(done.error, NotFiniteError):  # a fault of the model, not of the clip
                    self._known[key] = done.seconds, torch.full((self.model.embedding_dim,), torch.nan)
                else:
                    self._known[key] = str(done.error)
                if self.store is not None and stamp(key[0]):  # what has no stamp may be another one next time
                    self.store.add(key, self._known[key])
                bar.update()
        finally:
            bar.close()
            if self.store is not None:
                self.store.flush()

    def _under(self, under: Perturbation, clip: EvalClip) -> Audio | AudioStream:
        try:
            stream = opened(clip.audio, 0, self.model.sample_rate, hold=False)
        except AudioError:
            return clip.audio  # whose error is that of its embedding
        return under.of_stream(stream, self.model.sample_rate, clip.id)

    def text(self, texts: Sequence[str], progress: Progress, what: str = "text") -> Tensor:
        """Embed texts, (n, E), each different text once for all tasks; what is not finite stays so."""
        todo = [text for text in dict.fromkeys(texts) if text not in self._texts]
        bar = progress(len(todo), what, "texts")
        for start in range(0, len(todo), TEXTS):
            part = todo[start : start + TEXTS]
            self._texts.update(zip(part, self.model.encode_texts(part), strict=True))
            bar.update(len(part))
        bar.close()
        return torch.stack([self._texts[text] for text in texts])

    def handling(self, features: Embeddings) -> dict[str, Any]:
        """Describe how audio was treated, as plain data."""
        model = self.model
        window = round(model.max_seconds * model.sample_rate)
        long = sum(seconds > model.max_seconds for seconds in features.seconds)
        return {
            "windowing": {
                "window_seconds": model.max_seconds,
                "hop_seconds": hop_of(window) / model.sample_rate,
                "longer_clips": long,
                "rule": "a longer clip is the mean of overlapping windows, weighted by the samples each stands for; "
                "nothing is cropped or padded",
            },
            "channels": CHANNELS,
            "sample_rate": model.sample_rate,
        }


CHANNELS = "their mean; where channels cancel each other, the loudest one (slap.audio.mixing)"
"""Treatment of several channels, in words."""

TEXTS = 256
"""Texts between two steps of the progress bar."""
