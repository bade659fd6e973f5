"""Embeddings of any sounds and texts by a model that embeds windows: the base of `slap.inference.model.Model`.

n recordings, m texts, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from slap.audio.recordings import Audio, recordings
from slap.core.errors import UserError
from slap.inference.backend import AudioTextModel
from slap.inference.jobs import samples_of
from slap.inference.stream import StreamItem, embed, in_order, results
from slap.metrics.finite import sound_rows

BATCH_SECONDS = 120.0
"""Seconds of audio per batch; more is faster on a GPU, less takes less memory."""


class Embedder:
    """A model that embeds recordings of any length, and texts.

    Args:
        backend: the model proper.
    """

    def __init__(self, backend: AudioTextModel) -> None:
        self.backend = backend

    @property
    def name(self) -> str:
        """A content hash: equal for equal weights."""
        return self.backend.name

    @property
    def sample_rate(self) -> int:
        """Of the audio that the model works on, Hz; other audio is resampled to it."""
        return self.backend.sample_rate

    @property
    def max_seconds(self) -> float:
        """The longest recording that is embedded in one pass."""
        return self.backend.max_seconds

    @property
    def embedding_dim(self) -> int:
        """E."""
        return self.backend.embedding_dim

    def stream(
        self,
        audio: Audio | Iterable[Audio],
        batch_seconds: float = BATCH_SECONDS,
        *,
        batch: bool = False,
        channels: bool = False,
    ) -> Iterator[StreamItem[Tensor]]:
        """Embed many recordings; yield each when it is done, those that cannot be used with their errors.

        Files are decoded ahead in threads, and each is opened once, see `slap.inference.stream`.

        Args:
            audio: the recordings, see `slap.audio.recordings`; a generator is asked for 512 at a time.
            batch_seconds: seconds of audio per batch.
            batch: each row of the one array that is passed is a recording.
            channels: two axes of an array are channels and samples, however many channels there are.
        """
        found = recordings(audio, batch, channels)
        sizes = samples_of(self.backend, batch_seconds)
        return embed(found, self.backend.encode_audio, self.sample_rate, *sizes)

    def embed_audio(
        self,
        audio: Audio | Iterable[Audio],
        batch_seconds: float = BATCH_SECONDS,
        *,
        batch: bool = False,
        channels: bool = False,
    ) -> Tensor:
        """Embed recordings: (n, E) float32 on the CPU, rows of length 1, in the order of the recordings.

        A silent recording has an embedding too, which says nothing about sounds, and a warning names it; for the
        arguments see `stream`.

        Raises:
            AudioError: one of them cannot be used.
        """
        rows = results(in_order(self.stream(audio, batch_seconds, batch=batch, channels=channels)))
        return torch.stack(rows) if rows else torch.empty(0, self.embedding_dim)

    def embed_text(self, texts: str | Sequence[str]) -> Tensor:
        """Embed texts: (m, E) float32 on the CPU, rows of length 1.

        Raises:
            ValueError: an empty text, or one whose embedding is not finite.
            TypeError: something else than text.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        found = self.encode_texts(texts)
        bad = [text for text, sound in zip(texts, sound_rows(found).tolist(), strict=True) if not sound]
        if bad:
            raise UserError(
                f"{len(bad)} of {len(texts)} texts have an embedding that is not finite, or zeros, e.g. {bad[0]!r}; "
                "are the model's weights whole?"
            )
        return found

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed texts as `embed_text` does, but leave numbers that are not finite to the caller, as evaluation does."""
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"text {i} is a {type(text).__name__}, not a str")
            if not text.strip():
                raise UserError(f"text {i} is empty")
        return self.backend.encode_text(texts) if texts else torch.empty(0, self.embedding_dim)

    def similarity(
        self,
        audio: Audio | Iterable[Audio],
        texts: str | Sequence[str],
        *,
        batch: bool = False,
        channels: bool = False,
    ) -> Tensor:
        """Compute the cosines between recordings and texts, (n, m); for the arguments see `stream`."""
        return self.embed_audio(audio, batch=batch, channels=channels) @ self.embed_text(texts).T

    def score_pairs(
        self,
        audio: Audio | Iterable[Audio],
        texts: str | Sequence[str],
        *,
        batch: bool = False,
        channels: bool = False,
    ) -> Tensor:
        """Compute the cosine of each recording and the text in its place, (n,); for the arguments see `stream`.

        A silent recording has NaN, and a warning names it: no text fits silence better than another.

        Raises:
            ValueError: other than one text per recording, or a text that `embed_text` refuses.
            AudioError: one of the recordings cannot be used.
        """
        words = [texts] if isinstance(texts, str) else list(texts)
        directions = self.embed_text(words)
        found = in_order(self.stream(audio, batch=batch, channels=channels))
        if len(found) != len(words):
            raise UserError(f"each recording needs one text; got {len(found)} recordings and {len(words)} texts")
        if not found:
            return torch.empty(0)
        silent = torch.tensor([item.silent for item in found])
        return (torch.stack(results(found)) * directions).sum(1).masked_fill(silent, torch.nan)
