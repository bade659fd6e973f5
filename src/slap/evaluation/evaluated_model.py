"""Model under evaluation, and the embeddings of clips that several tasks share.

n clips, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from slap.core.progress import Progress
from slap.core.windows import hop_of
from slap.evaluation.embedding_cache import EmbeddingCache, stamp
from slap.evaluation.eval_set import EvalSet
from slap.evaluation.prompts import PromptBook
from slap.inference.embedder import BATCH_SECONDS
from slap.inference.model import Model
from slap.inference.stream import NotFiniteError


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
        self._known: dict[tuple[str, str], tuple[float, Tensor] | str] = {}

    def features(self, data: EvalSet, progress: Progress) -> Embeddings:
        """Embed the clips of a set; those that another task asked for before are not computed again."""
        keys = [(str(clip.audio), clip.id) for clip in data.clips]
        if self.store is not None:
            self._known |= self.store.read([key for key in keys if key not in self._known])
        todo = [row for row, key in enumerate(keys) if key not in self._known]
        if todo:
            self._embed(data, todo, keys, progress)
        rows = [row for row, key in enumerate(keys) if not isinstance(self._known[key], str)]
        found: list[Any] = [self._known[keys[row]] for row in rows]
        embeddings = [embedding for _, embedding in found]
        return Embeddings(
            rows=rows,
            embeddings=torch.stack(embeddings) if rows else torch.empty(0, self.model.embedding_dim),
            seconds=[seconds for seconds, _ in found],
            failed=[(key[1], str(self._known[key])) for key in keys if isinstance(self._known[key], str)],
        )

    def _embed(self, data: EvalSet, todo: Sequence[int], keys: Sequence[tuple[str, str]], progress: Progress) -> None:
        bar = progress(len(todo), f"{data.name}: audio", "clips")
        try:
            for done in self.model.stream([data.clips[row].audio for row in todo], self.batch_seconds):
                key = keys[todo[done.index]]
                if done.result is not None:
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

    def text(self, texts: Sequence[str], progress: Progress, what: str = "text") -> Tensor:
        """Embed texts, (n, E), each different text once; what is not finite stays so."""
        unique = list(dict.fromkeys(texts))
        bar = progress(len(unique), what, "texts")
        parts = []
        for start in range(0, len(unique), TEXTS):
            parts.append(self.model.encode_texts(unique[start : start + TEXTS]))
            bar.update(len(parts[-1]))
        bar.close()
        place = {text: row for row, text in enumerate(unique)}
        return torch.cat(parts)[torch.tensor([place[text] for text in texts])]

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
            "channels": "averaged",
            "sample_rate": model.sample_rate,
        }


TEXTS = 256
"""Texts between two steps of the progress bar."""
