"""Queries of an index: by text, by sound, or for sounds like one in it.

E shared dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from slap.audio.reader import AudioError
from slap.core.calibration import UNCALIBRATED, Calibration
from slap.core.compact import leading
from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.inference.load import load
from slap.inference.model import Model
from slap.inference.shipped import located
from slap.inference.stream import in_order, results
from slap.search.compose import compose
from slap.search.hits import Hit, SearchOptions, groups_of
from slap.search.limits import ALIKE, MOST
from slap.search.metadata import Metadata
from slap.search.store import Store, WindowMatch


class StaleIndexError(UserError):
    """An index that was rebuilt with other embeddings since it was opened."""


class Index:
    """An index and the model that made it.

    An open index stays with the model that it was opened with. After `slap index --rebuild` with another model it
    refuses to search; `reopened` is the new one.

    Args:
        folder: of the index.
        metadata: of the index.
        load: returns the model that made an index of some metadata; called when the model is first needed.
    """

    def __init__(self, folder: Path, metadata: Metadata, load: Callable[[Metadata], Model]) -> None:
        self.folder, self.metadata, self._load = folder, metadata, load
        self.store = Store(folder, metadata.embedding_dim, dtype=metadata.dtype)
        self._model: Model | None = None

    @classmethod
    def open(cls, folder: str | Path, model: str | None = None, device: str | None = None) -> Index:
        """Open an index.

        Args:
            folder: of the index.
            model: path of its model; default: the path that it had when the index was made.
            device: the device that the model computes on.

        Raises:
            FileNotFoundError: there is no index, or its model is gone.
            ValueError: the model is another one than the index was made by.
        """
        metadata = Metadata.load(Path(folder))
        return cls(Path(folder), metadata, lambda made: _load(made, model, device))

    @property
    def current(self) -> bool:
        """False if the index was rebuilt, relocated or moved to another path of the model since it was opened."""
        return replace(Metadata.load(self.folder), trained=0) == replace(self.metadata, trained=0)

    def reopened(self) -> Index:
        """Open the index as it is now; a model that is loaded is kept if it is still the one that made it."""
        new = Index(self.folder, Metadata.load(self.folder), self._load)
        if new.metadata.model_name == self.metadata.model_name:
            new._model = self._model
        return new

    @property
    def model(self) -> Model:
        """The model, loaded on first use."""
        if self._model is None:
            self._model = self._load(self.metadata)
        return self._model

    @property
    def calibration(self) -> Calibration | None:
        """The rule that turns the score of a text into a probability; None if there is none.

        A probability that is relative to other texts is none, as a query has no others. Nor have the leading dimensions
        of embeddings, whose cosines are others than those that were calibrated.
        """
        whole = self.metadata.embedding_dim == self.model.embedding_dim
        found = self.model.calibration if whole else None
        return None if found is None else found.of_texts

    def text(
        self, queries: Sequence[str], threshold: float | None = None, **options: Unpack[SearchOptions]
    ) -> list[list[Hit]]:
        """Find for each text the files whose sound is nearest, best first.

        Args:
            queries: texts.
            threshold: the least probability of a hit, 0 to 1, so that there may be fewer hits, or none; None is any.
            options: see `slap.search.hits.SearchOptions`.

        Raises:
            ValueError: there is a threshold, and the model has no probabilities, see `calibration`.
        """
        found = []
        for vector in self.embed_text(queries):
            hits = self.with_probabilities(self.nearest(vector.numpy(), **options))
            found.append(hits if threshold is None else self.likely(hits, threshold))
        return found

    def with_probabilities(self, hits: list[Hit]) -> list[Hit]:
        """Return the hits of a text with their probabilities, as far as the model has such."""
        rule = self.calibration
        if rule is None or not hits:
            return hits
        chances = rule.probabilities(torch.tensor([[hit.score for hit in hits]]))
        assert chances is not None
        return [replace(hit, probability=chance) for hit, chance in zip(hits, chances[0].tolist(), strict=True)]

    def likely(self, hits: list[Hit], threshold: float) -> list[Hit]:
        """Return the hits of a text that have at least a probability.

        Raises:
            ValueError: the threshold is out of range, or the model has no probabilities.
        """
        if not 0 <= threshold <= 1:
            raise UserError(f"a threshold is a probability from 0 to 1, got {threshold:g}")
        if self.calibration is None:
            raise UserError(f"a threshold needs a probability of each text by itself: {self._uncalibrated}")
        return [hit for hit in hits if hit.probability is not None and hit.probability >= threshold]

    @property
    def _uncalibrated(self) -> str:
        if self.metadata.embedding_dim != self.model.embedding_dim:
            return (
                f"the index keeps {self.metadata.embedding_dim} of the model's {self.model.embedding_dim} dimensions, "
                "whose cosines are not calibrated; index without --dim"
            )
        return UNCALIBRATED

    def audio(self, queries: Sequence[str | Path], **options: Unpack[SearchOptions]) -> list[list[Hit]]:
        """Find for each audio file the files whose sound is nearest, as `text` does.

        Raises:
            AudioError: a file cannot be used, or is silent.
        """
        return [self.nearest(vector.numpy(), **options) for vector in self._embedded(queries)]

    def composed(
        self,
        audio: Sequence[str | Path] = (),
        text: Sequence[str] = (),
        without: Sequence[str] = (),
        **options: Unpack[SearchOptions],
    ) -> list[Hit]:
        """Find the files nearest to sounds and texts together, and away from others; see `slap.search.compose`.

        Args:
            audio: audio files to be near to.
            text: texts to be near to.
            without: texts to be away from.
            options: see `slap.search.hits.SearchOptions`.

        Raises:
            ValueError: there is nothing to be near to, or the parts cancel each other.
            AudioError: a file cannot be used, or is silent.
        """
        if not audio and not text:
            raise UserError("a query needs a sound or a text to be near to; `without` alone finds anything else")
        plus = torch.cat([self._embedded(audio), self.embed_text(text)])
        return self.nearest(compose(plus, self.embed_text(without)).numpy(), **options)

    def like(
        self,
        file: str,
        start: Seconds,
        text: Sequence[str] = (),
        without: Sequence[str] = (),
        **options: Unpack[SearchOptions],
    ) -> list[Hit]:
        """Find the files that sound like a window of a file of the index, without this file.

        Args:
            file: id of the file.
            start: of the window; the nearest one is taken.
            text: texts to be near to as well, see `composed`.
            without: texts to be away from.
            options: see `slap.search.hits.SearchOptions`.

        Raises:
            KeyError: there is no such file.
            ValueError: the parts cancel each other.
        """
        rows = self.store.rows_of(file)
        if not rows:
            raise KeyError(file)
        vector = min(rows, key=lambda row: abs(row.start - start)).vector
        if text or without:
            plus = torch.cat([torch.from_numpy(vector)[None], self.embed_text(text)])
            vector = compose(plus, self.embed_text(without)).numpy()
        return self._nearest(vector, file, **options)

    def nearest(self, vector: np.ndarray, **options: Unpack[SearchOptions]) -> list[Hit]:
        """Find the files with the windows nearest to an embedding, (E,), one hit per file and its duplicates.

        Raises:
            ValueError: an option is out of range.
            StaleIndexError: the index was rebuilt with other embeddings since it was opened.
        """
        return self._nearest(vector, **options)

    def _nearest(
        self,
        vector: np.ndarray,
        left_out: str | None = None,
        top: int = 10,
        offset: int = 0,
        exact: bool = False,
        alike: float | None = ALIKE,
    ) -> list[Hit]:
        if not 1 <= top <= MOST or offset < 0 or top + offset > MOST:
            after = f" after {offset}" if offset else ""
            raise UserError(f"from 1 to {MOST} results can be asked for, not {top}{after}")
        last, total = offset + top, len(self.store)
        k = last + 1
        while True:
            k = min(k * 4, total)  # of the nearest windows several may be of one file
            matches = self._windows(vector, max(k, 1), exact)
            groups = groups_of((match for match in matches if match.row.file != left_out), alike)
            if len(groups) > last or k >= total:  # with one more, all copies of the last were seen
                return [group.hit(rank) for rank, group in enumerate(groups[offset:last], offset + 1)]

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts to search for, (n, E), with the dimensions that the index keeps."""
        return leading(self.model.embed_text(list(texts)), self.metadata.embedding_dim)

    def _embedded(self, queries: Sequence[str | Path]) -> Tensor:
        """Embed audio files to search for, (n, E).

        Raises:
            AudioError: a file cannot be used, or is silent.
        """
        found = in_order(self.model.stream(queries))
        silent = [item for item in found if item.silent]
        if silent:
            raise AudioError(f"{silent[0].name}: {silent[0].note}, so there is nothing to search for", "silent")
        rows = torch.stack(results(found)) if found else torch.empty(0, self.model.embedding_dim)
        return leading(rows, self.metadata.embedding_dim)

    def _windows(self, vector: np.ndarray, k: int, exact: bool) -> list[WindowMatch]:
        """Find the nearest windows, if all are of the model that the index was opened with."""
        try:
            matches = self.store.nearest(vector, k, exact)
        except (ValueError, RuntimeError) as error:  # LanceDB's, about vectors of another length
            if self.current:
                raise
            raise self._stale() from error
        if any(match.row.model != self.metadata.model_name for match in matches):
            raise self._stale()
        return matches

    def _stale(self) -> StaleIndexError:
        return StaleIndexError(
            f"{self.folder} was rebuilt since it was opened, by another model than {self.metadata.model_name} or with "
            "other embeddings, which cannot be compared with a query of this one; open it again (Index.reopened)"
        )


def _load(metadata: Metadata, path: str | None, device: str | None) -> Model:
    path = path or metadata.model
    found = located(path)
    if not found.exists():
        raise FileNotFoundError(f"the model that made the index is no longer at {path}; give its path with --model")
    # A folder, such as the exported checkpoint, holds one set of weights.
    model = load(path, device=device, weights="raw" if found.is_dir() else metadata.weights)
    if model.name != metadata.model_name:
        raise UserError(
            f"the index was made by the model {metadata.model_name}, and {path} is {model.name}; name the right one "
            "with --model, or make the index anew with `slap index --rebuild`"
        )
    return model
