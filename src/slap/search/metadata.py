"""The metadata of an index: the model that made it, its folder, its windows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from slap.core.compact import known_type
from slap.core.errors import UserError
from slap.core.files import atomic_write
from slap.core.units import EmbeddingType
from slap.inference.model import Model
from slap.model.network import Weights

FILE = "slap-index.json"
FORMAT = 3
"""Raised when older programs could no longer read an index."""

READ = (1, 2, FORMAT)
"""Formats that are read. In format 1 there are no `weights`, which were raw; before 3 no `dtype`, which was float32."""

WINDOW = 10.0
"""Seconds (our choice): the length of a clip in AudioCaps and AudioSet, on which such models are trained."""


@dataclass(frozen=True)
class Metadata:
    """The content of `slap-index.json`.

    Attributes:
        model: path of the model, absolute, or its name.
        model_name: the model's content hash; only its embeddings can be compared with those in the index.
        embedding_dim: E, dimensions of the embeddings in the index, which may be the leading ones of the model's.
        folder: the folder whose sounds are indexed, absolute.
        window: seconds of a window; shorter files are one window, themselves.
        hop: seconds from window to window.
        weights: the weights of the model's checkpoint, raw or ema, see `slap.load`.
        dtype: number type of the embeddings in the index, see `slap.core.compact`.
        trained: number of rows on which the approximate index was made, or 0.
        format: version of the format of the index.
    """

    model: str
    model_name: str
    embedding_dim: int
    folder: str
    window: float
    hop: float
    weights: Weights = "raw"
    dtype: EmbeddingType = "float32"
    trained: int = 0
    format: int = FORMAT

    @classmethod
    def of(
        cls,
        model: Model,
        path: str,
        folder: Path,
        window: float | None,
        hop: float | None,
        weights: Weights = "raw",
        dim: int | None = None,
        dtype: EmbeddingType = "float32",
    ) -> Metadata:
        """Make the metadata of a new index; for the arguments see the attributes, None is the default.

        Raises:
            ValueError: a window or a hop that the model or the windows do not allow; `dim` dimensions for which the
                model was not trained; an unknown number type.
        """
        window = min(WINDOW, model.max_seconds) if window is None else window
        hop = window / 2 if hop is None else hop
        if not 0.1 <= window <= model.max_seconds:
            raise UserError(f"--window is {window:g} s; this model takes 0.1 to {model.max_seconds:g} s in one pass")
        if not 0.1 <= hop <= window:
            raise UserError(
                f"--hop is {hop:g} s; at least 0.1 s and at most the window's {window:g} s leave nothing out"
            )
        kept = model.short_dim(dim)
        return cls(path, model.name, kept, str(folder), window, hop, weights, known_type(dtype))

    @classmethod
    def load(cls, index: Path) -> Metadata:
        """Read the metadata of an index.

        Raises:
            FileNotFoundError: there is no index.
            ValueError: it is damaged, or of a newer format.
        """
        path = index / FILE
        if not path.is_file():
            raise FileNotFoundError(f"{index} is no index of sounds; make one with `slap index MODEL FOLDER {index}`")
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if values["format"] in READ:
                return cls(**{**values, "format": FORMAT})
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error}); make the index anew with --rebuild") from error
        raise UserError(
            f"{path} has format {values['format']}, and this version of slap reads {' and '.join(map(str, READ))}"
        )

    def save(self, index: Path) -> None:
        """Write it, whole or not at all."""
        index.mkdir(parents=True, exist_ok=True)
        with atomic_write(index / FILE) as file:
            file.write(json.dumps(asdict(self), indent=2) + "\n")

    def updated(self, new: Metadata, asked: Mapping[str, float | str | None], relocate: bool) -> Metadata:
        """Return the metadata for an update of this index with the model and folder of `new`, if the two go together.

        Args:
            new: metadata of an index with this model and folder.
            asked: window, hop, dim and dtype as far as they were asked for, else None.
            relocate: allow another folder.

        Raises:
            ValueError: another model, folder, windows or embeddings than those the index was made with.
        """
        if new.model_name != self.model_name:
            raise UserError(
                f"the index was made by the model {self.model_name} (then at {self.model}), and {new.model} is "
                f"{new.model_name}; embeddings of two models cannot be compared. Name another index, or add --rebuild"
            )
        if new.folder != self.folder and not relocate:
            raise UserError(
                f"the index is of the folder {self.folder}, not of {new.folder}, and updating it would remove all of "
                "that. Name another index; or, if the folder was moved to there, add --relocate"
            )
        has = {
            "window": (self.window, "a window of {:g} s"),
            "hop": (self.hop, "a hop of {:g} s"),
            "dim": (self.embedding_dim, "embeddings of {} dimensions"),
            "dtype": (self.dtype, "embeddings of {} numbers"),
        }
        for option, (now, words) in has.items():
            if asked.get(option) not in (None, now):
                raise UserError(
                    f"the index has {words.format(now)}, and --{option} {asked[option]} was asked for; leave "
                    f"--{option} out, or add --rebuild"
                )
        return replace(self, model=new.model, folder=new.folder, weights=new.weights)
