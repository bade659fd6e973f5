"""A model of exported graphs in use.

n recordings, m texts, K labels, E shared dimension, W windows of a recording.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from slap.audio.recordings import Audio, recordings
from slap.core.calibration import Calibration
from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.core.windows import window_weights
from slap.inference.graph_record import GraphRecord
from slap.inference.scores import PROMPTS, Score, check_labels, check_texts, ranked, rule_of, templates_of
from slap.inference.stream import BATCH_SECONDS, NotFiniteError, Span, StreamItem, WindowJob, in_order, results, run
from slap.metrics.zero_shot import class_prompts
from slap.nn.tokenizer import Tokenizer


class OnnxModel:
    """The graphs of a model, with the names and meanings of `slap.inference.model.Model`; results are numpy arrays.

    Recordings are passed as there: a path, an open file, `(array, rate)` and what else `slap.audio.recordings` lists.

    Args:
        record: the facts about the graphs.
        audio: session of onnxruntime, one waveform to its embedding.
        text: likewise, the tokens of one text.
        tokenizer: of the texts; None if the model has none.

    Attributes:
        record: the same.
        calibration: the rule by which `classify` makes probabilities; None if the model has learned none.
    """

    def __init__(self, record: GraphRecord, audio: Any, text: Any, tokenizer: Tokenizer | None) -> None:
        self.record = record
        self.calibration: Calibration | None = record.calibration
        self._audio, self._text, self._tokenizer = audio, text, tokenizer

    @property
    def name(self) -> str:
        """The content hash of the model that was exported."""
        return self.record.name

    @property
    def sample_rate(self) -> int:
        """Of the audio that the model works on, Hz; other audio is resampled to it."""
        return self.record.sample_rate

    @property
    def max_seconds(self) -> Seconds:
        """The longest recording that is embedded in one pass."""
        return self.record.max_seconds

    @property
    def embedding_dim(self) -> int:
        """E."""
        return self.record.embedding_dim

    def embed_audio(self, audio: Audio | Iterable[Audio], *, batch: bool = False, channels: bool = False) -> np.ndarray:
        """Embed recordings: (n, E) float32, rows of length 1, in the order of the recordings.

        A silent recording has an embedding too, which says nothing about sounds, and a warning names it.

        Args:
            audio: the recordings.
            batch: each row of the one array that is passed is a recording.
            channels: two axes of an array are channels and samples, however many channels there are.

        Raises:
            AudioError: one of them cannot be used.
        """
        return self._rows(self._embedded(audio, batch, channels))

    def embed_text(self, texts: str | Sequence[str]) -> np.ndarray:
        """Embed texts: (m, E) float32, rows of length 1.

        Raises:
            ValueError: an empty text, one whose embedding is not finite or zeros, or a model without a tokenizer.
            TypeError: something else than text.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        check_texts(texts)
        if self._tokenizer is None or self.record.text is None:
            raise UserError("the model has no tokenizer: it was trained on audio alone, so it reads no texts")
        tokens = self._tokenizer.encode(texts, self.record.text.max_tokens)
        found = [self._run(self._text, np.array(ids, np.int64)) for ids in tokens]
        for text, row in zip(texts, found, strict=True):
            if not np.isfinite(row).all() or not row.any():
                raise UserError(f"the embedding of {text!r} is not finite, or zeros; are the model's weights whole?")
        return self._rows(found)

    def classify(
        self,
        audio: Audio | Iterable[Audio],
        labels: Sequence[str],
        prompts: str | Sequence[str] = PROMPTS,
        threshold: float | None = None,
        *,
        batch: bool = False,
        channels: bool = False,
    ) -> list[list[Score]]:
        """Rank labels for each recording, the best first; a silent recording has none, `[]`, and a warning names it.

        Args:
            audio: the recordings.
            labels: K different ones.
            prompts: templates with `{label}`; of several, a label's embedding is the mean direction.
            threshold: the least probability of a label, 0 to 1, so that a recording may have none of the labels, `[]`;
                None ranks all labels.
            batch: each row of the one array that is passed is a recording.
            channels: two axes of an array are channels and samples, however many channels there are.

        Raises:
            ValueError: no label, or one twice, or a prompt without `{label}`; a threshold for a model without
                probabilities of each label by itself.
            AudioError: one of the recordings cannot be used.
        """
        directions, rule = self.embed_labels(labels, prompts), rule_of(self.calibration, prompts, threshold)
        found = in_order(self._stream(audio, batch, channels))
        if not found:
            return []
        embeddings: list[np.ndarray] = results(found)
        ranks = ranked(np.stack(embeddings) @ directions.T, labels, rule, threshold)
        return [[] if item.silent else rank for item, rank in zip(found, ranks, strict=True)]

    def embed_labels(self, labels: Sequence[str], prompts: str | Sequence[str] = PROMPTS) -> np.ndarray:
        """Embed labels within prompts, (K, E); see `classify`."""
        check_labels(labels)
        groups = class_prompts(labels, templates_of(prompts))
        flat = self.embed_text([prompt for group in groups for prompt in group])
        return np.stack([unit(part.mean(0)) for part in np.split(flat, len(groups))])

    def similarity(
        self, audio: Audio | Iterable[Audio], texts: str | Sequence[str], *, batch: bool = False, channels: bool = False
    ) -> np.ndarray:
        """Compute the cosines between recordings and texts, (n, m)."""
        found: np.ndarray = self.embed_audio(audio, batch=batch, channels=channels) @ self.embed_text(texts).T
        return found

    def _embedded(self, audio: Audio | Iterable[Audio], batch: bool, channels: bool) -> list[np.ndarray]:
        return results(in_order(self._stream(audio, batch, channels)))

    def _stream(self, audio: Audio | Iterable[Audio], batch: bool, channels: bool) -> Iterable[StreamItem[np.ndarray]]:
        rate = self.sample_rate
        job = WindowJob(self._encode, joined, rate, self.record.window, round(BATCH_SECONDS * rate))
        return run(recordings(audio, batch, channels), job)

    def _encode(self, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [self._run(self._audio, clip) for clip in clips]

    def _run(self, session: Any, item: np.ndarray) -> np.ndarray:
        (found,) = session.run(None, {session.get_inputs()[0].name: item})
        if found.shape != (self.embedding_dim,):
            raise UserError(f"the graph gives {found.shape}, not the {self.embedding_dim} numbers of the record")
        row: np.ndarray = found.astype(np.float32, copy=False)
        return row

    def _rows(self, found: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack(found) if found else np.empty((0, self.embedding_dim), np.float32)


def joined(parts: Sequence[np.ndarray], spans: Sequence[Span]) -> np.ndarray:
    """Merge the embeddings of a recording's windows, (E,) each, into the recording's, as `slap.core.merging` does.

    Raises:
        NotFiniteError: it is not finite, or zeros.
    """
    whole = parts[0] if len(parts) == 1 else unit(np.array(window_weights(spans), np.float32) @ np.stack(parts))
    if not np.isfinite(whole).all() or not whole.any():
        raise NotFiniteError("has an embedding that is not finite, or zeros; are the model's weights whole?")
    return whole


def unit(vector: np.ndarray) -> np.ndarray:
    """Return a vector, (E,), scaled to length 1; one of zeros stays as it is."""
    scaled: np.ndarray = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return scaled
