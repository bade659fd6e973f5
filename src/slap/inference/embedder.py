"""Embeddings of any sounds and texts by a model that embeds windows: the base of `slap.inference.model.Model`.

n recordings, m texts, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from slap.audio.recordings import Audio, recordings
from slap.core.compact import compact, known_type
from slap.core.errors import UserError
from slap.core.units import EmbeddingType
from slap.inference.backend import AudioTextModel, Nested
from slap.inference.embedding import embed
from slap.inference.jobs import samples_of
from slap.inference.scores import check_texts
from slap.inference.stream import BATCH_SECONDS, StreamItem, in_order, results
from slap.metrics.finite import sound_rows


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
        dim: int | None = None,
        dtype: EmbeddingType = "float32",
    ) -> Iterator[StreamItem[Tensor]]:
        """Embed many recordings; yield each when it is done, those that cannot be used with their errors.

        Files are decoded ahead in threads, and each is opened once, see `slap.inference.stream`.

        Args:
            audio: the recordings, see `slap.audio.recordings`; a generator is asked for 512 at a time.
            batch_seconds: seconds of audio per batch.
            batch: each row of the one array that is passed is a recording.
            channels: two axes of an array are channels and samples, however many channels there are.
            dim: the number of leading dimensions that embeddings keep, see `short_dim`; None is all.
            dtype: `int8` quantizes embeddings, see `slap.core.compact.to_int8`; not the precision of the model.

        Raises:
            ValueError: the model was not trained for so few dimensions, or an unknown number type.
        """
        kept, found = self.short_dim(dim), recordings(audio, batch, channels)
        smaller = partial(compact, dim=kept, dtype=known_type(dtype))
        sizes = samples_of(self.backend, batch_seconds)
        items = embed(found, self.backend.encode_audio, self.sample_rate, *sizes)
        return (item if item.result is None else replace(item, result=smaller(item.result)) for item in items)

    def short_dim(self, dim: int | None) -> int:
        """Return the number of dimensions of embeddings that keep the leading `dim`; E for None.

        Numbers between those that the model was trained for (`matryoshka`) are allowed: the paper finds that quality
        changes smoothly between them (arXiv 2205.13147).

        Raises:
            ValueError: the model was not trained for so few dimensions, or has fewer.
        """
        whole = self.embedding_dim
        if dim is None or dim == whole:
            return whole
        trained = self.backend.leading_dims if isinstance(self.backend, Nested) else ()
        if not trained:
            raise UserError(
                f"the model was not trained with `matryoshka`, so {dim} of its {whole} dimensions are no embeddings; "
                "leave out dim, or train it with --model.objectives.contrastive.matryoshka"
            )
        if not trained[-1] <= dim <= whole:
            raise UserError(f"the model was trained for {trained[-1]} to {whole} dimensions; got dim {dim}")
        return dim

    def embed_audio(
        self,
        audio: Audio | Iterable[Audio],
        batch_seconds: float = BATCH_SECONDS,
        *,
        batch: bool = False,
        channels: bool = False,
        dim: int | None = None,
        dtype: EmbeddingType = "float32",
    ) -> Tensor:
        """Embed recordings: (n, E) on the CPU, float32 rows of length 1 or int8, in the order of the recordings.

        A silent recording has an embedding too, which says nothing about sounds, and a warning names it; for the
        arguments see `stream`. Of int8 rows, `slap.core.compact.from_int8` makes rows of length 1 before they are
        multiplied.

        Raises:
            AudioError: one of them cannot be used.
            ValueError: the model was not trained for so few dimensions, or an unknown number type.
        """
        found = self.stream(audio, batch_seconds, batch=batch, channels=channels, dim=dim, dtype=dtype)
        rows = results(in_order(found))
        return torch.stack(rows) if rows else compact(torch.empty(0, self.embedding_dim), self.short_dim(dim), dtype)

    def embed_text(
        self, texts: str | Sequence[str], *, dim: int | None = None, dtype: EmbeddingType = "float32"
    ) -> Tensor:
        """Embed texts: (m, E) on the CPU, float32 rows of length 1 or int8, as `embed_audio` does.

        Args:
            texts: m of them.
            dim: the number of leading dimensions that embeddings keep, see `short_dim`; None is all.
            dtype: `int8` quantizes embeddings, see `slap.core.compact.to_int8`.

        Raises:
            ValueError: an empty text, or one whose embedding is not finite, or as for `embed_audio`.
            TypeError: something else than text.
        """
        kept, texts = self.short_dim(dim), [texts] if isinstance(texts, str) else list(texts)
        found = self.encode_texts(texts)
        bad = [text for text, sound in zip(texts, sound_rows(found).tolist(), strict=True) if not sound]
        if bad:
            raise UserError(
                f"{len(bad)} of {len(texts)} texts have an embedding that is not finite, or zeros, e.g. {bad[0]!r}; "
                "are the model's weights whole?"
            )
        return compact(found, kept, dtype)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed texts as `embed_text` does, but leave numbers that are not finite to the caller, as evaluation does."""
        check_texts(texts)
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
