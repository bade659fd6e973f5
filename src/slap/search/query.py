"""Queries of an index: by text, by sound, or for sounds like one in it.

E shared dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from slap.audio.reader import AudioError
from slap.core.errors import UserError
from slap.inference.load import load
from slap.inference.model import Model
from slap.inference.shipped import located
from slap.inference.stream import in_order, results
from slap.search.compose import compose
from slap.search.metadata import Metadata
from slap.search.store import Store, WindowMatch, WindowRow

MOST = 1000
"""Files that may be asked for at once."""


class StaleIndexError(UserError):
    """An index that was rebuilt by another model since it was opened."""


@dataclass(frozen=True)
class Hit:
    """A file that was found, by its best window.

    Attributes:
        rank: from 1.
        score: cosine of the window and the query.
        id: names the file without its path.
        path: below the indexed folder.
        start: of the window, seconds on the clock of a player.
        end: likewise.
        duration: the end of the file, likewise.
    """

    rank: int
    score: float
    id: str
    path: str
    start: float
    end: float
    duration: float


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
        self.store = Store(folder, metadata.embedding_dim)
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

    def text(self, queries: Sequence[str], top: int = 10, exact: bool = False) -> list[list[Hit]]:
        """Find for each text the files whose sound is nearest, best first.

        Args:
            queries: texts.
            top: number of files per query.
            exact: compare with every window, also where there is an approximate index.
        """
        return self._search(self.model.embed_text(list(queries)), top, exact)

    def audio(self, queries: Sequence[str | Path], top: int = 10, exact: bool = False) -> list[list[Hit]]:
        """Find for each audio file the files whose sound is nearest, as `text` does.

        Raises:
            AudioError: a file cannot be used, or is silent.
        """
        return self._search(self._embedded(queries), top, exact)

    def composed(
        self,
        audio: Sequence[str | Path] = (),
        text: Sequence[str] = (),
        without: Sequence[str] = (),
        top: int = 10,
        exact: bool = False,
    ) -> list[Hit]:
        """Find the files nearest to sounds and texts together, and away from others; see `slap.search.compose`.

        Args:
            audio: audio files to be near to.
            text: texts to be near to.
            without: texts to be away from.
            top: number of files.
            exact: as of `text`.

        Raises:
            ValueError: there is nothing to be near to, or the parts cancel each other.
            AudioError: a file cannot be used, or is silent.
        """
        if not audio and not text:
            raise UserError("a query needs a sound or a text to be near to; `without` alone finds anything else")
        plus = torch.cat([self._embedded(audio), self.model.embed_text(list(text))])
        return self.nearest(compose(plus, self.model.embed_text(list(without))).numpy(), top, exact)

    def like(
        self, file: str, start: float, top: int = 10, text: Sequence[str] = (), without: Sequence[str] = ()
    ) -> list[Hit]:
        """Find the files that sound like a window of a file of the index, without this file.

        Args:
            file: id of the file.
            start: of the window, seconds; the nearest one is taken.
            top: number of files.
            text: texts to be near to as well, see `composed`.
            without: texts to be away from.

        Raises:
            KeyError: there is no such file.
            ValueError: the parts cancel each other.
        """
        rows = self.store.rows_of(file)
        if not rows:
            raise KeyError(file)
        vector = min(rows, key=lambda row: abs(row.start - start)).vector
        if text or without:
            plus = torch.cat([torch.from_numpy(vector)[None], self.model.embed_text(list(text))])
            vector = compose(plus, self.model.embed_text(list(without))).numpy()
        hits = [hit for hit in self.nearest(vector, top + 1) if hit.id != file]
        return [Hit(rank, *_values(hit)) for rank, hit in enumerate(hits[:top], 1)]

    def nearest(self, vector: np.ndarray, top: int = 10, exact: bool = False) -> list[Hit]:
        """Find the files with the windows nearest to an embedding, (E,), one hit per file.

        Raises:
            ValueError: `top` is out of range.
            StaleIndexError: the index was rebuilt by another model since it was opened.
        """
        if not 1 <= top <= MOST:
            raise UserError(f"from 1 to {MOST} results can be asked for, not {top}")
        total, k = len(self.store), top
        while True:
            k = min(k * 4, total)  # of the nearest windows several may be of one file
            best = _best_of_files(self._windows(vector, max(k, 1), exact))
            if len(best) >= top or k >= total:
                return [_hit(rank, match) for rank, match in enumerate(best[:top], 1)]

    def _embedded(self, queries: Sequence[str | Path]) -> Tensor:
        """Embed audio files to search for, (n, E).

        Raises:
            AudioError: a file cannot be used, or is silent.
        """
        found = in_order(self.model.stream(queries))
        silent = [item for item in found if item.silent]
        if silent:
            raise AudioError(f"{silent[0].name}: {silent[0].note}, so there is nothing to search for", "silent")
        return torch.stack(results(found)) if found else torch.empty(0, self.metadata.embedding_dim)

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
            f"{self.folder} was rebuilt since it was opened, by another model than {self.metadata.model_name}, and "
            "embeddings of two models cannot be compared; open it again (Index.reopened)"
        )

    def _search(self, vectors: Tensor, top: int, exact: bool) -> list[list[Hit]]:
        return [self.nearest(vector, top, exact) for vector in vectors.numpy()]


def _best_of_files(matches: Iterable[WindowMatch]) -> list[WindowMatch]:
    best: dict[str, WindowMatch] = {}
    for match in matches:
        best.setdefault(match.row.file, match)
    return list(best.values())


def _hit(rank: int, match: WindowMatch) -> Hit:
    row: WindowRow = match.row
    return Hit(rank, match.score, row.file, row.path, row.start, row.end, row.duration)


def _values(hit: Hit) -> tuple[float, str, str, float, float, float]:
    return hit.score, hit.id, hit.path, hit.start, hit.end, hit.duration


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
