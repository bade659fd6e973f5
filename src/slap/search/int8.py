"""Exact search of int8 embeddings: LanceDB stores them, but compares none with a query.

All int8 embeddings of an index are held in memory, E bytes per window, and each is compared with every query. Products
of int8 numbers are summed without error, so the cosines of stored embeddings are exact.

N windows, E dimensions.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch

from slap.core.compact import to_int8

BLOCK = 32_768
"""Windows that are multiplied at once, as float32."""


class Int8Windows:
    """The int8 embeddings of a table, read again when the table has changed.

    Args:
        table: LanceDB's, with a column `vector` of int8.
    """

    def __init__(self, table: Any) -> None:
        self.table = table
        self._reading = threading.Lock()
        self._held: tuple[int, np.ndarray, np.ndarray, np.ndarray] | None = None

    def nearest(self, vector: np.ndarray, k: int, columns: list[str]) -> list[tuple[float, dict[str, Any]]]:
        """Return the k rows with the largest cosines, best first, each with its cosine.

        Args:
            vector: (E,) of length 1; it is quantized as the embeddings were.
            k: the number of rows, at most.
            columns: columns of the rows.
        """
        while True:
            version, ids, embeddings, lengths = self._read()
            cosines = _cosines(vector, embeddings, lengths)
            best = np.argsort(-cosines, kind="stable")[:k]
            rows = self._rows(ids[best].tolist(), columns)
            if len(rows) == len(best):
                return [(float(cosines[at]), rows[int(ids[at])]) for at in best]
            if self.table.version == version:
                raise RuntimeError(f"{len(best) - len(rows)} rows of the table cannot be read")

    def _rows(self, ids: list[int], columns: list[str]) -> dict[int, dict[str, Any]]:
        if not ids:
            return {}
        found = self.table.take_row_ids(ids).select(columns).with_row_id().to_list()
        return {row.pop("_rowid"): row for row in found}

    def _read(self) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
        """Return the version of the table, ids of its rows, (N,), the embeddings, (N, E) int8, and lengths, (N,)."""
        with self._reading:
            version = int(self.table.version)
            if self._held is None or self._held[0] != version:
                dim = self.table.schema.field("vector").type.list_size
                ids, parts = [np.empty(0, np.int64)], [np.empty((0, dim), np.int8)]
                for batch in self.table.search().select(["vector"]).with_row_id(True).to_batches():
                    ids.append(np.asarray(batch["_rowid"], dtype=np.int64))
                    parts.append(np.asarray(batch["vector"].flatten()).reshape(-1, dim))
                embeddings = np.concatenate(parts)
                self._held = (version, np.concatenate(ids), embeddings, _lengths(embeddings))
            return self._held


def _lengths(embeddings: np.ndarray) -> np.ndarray:
    """Compute the lengths of int8 embeddings, (N, E), as (N,) float32."""
    found = np.empty(len(embeddings), np.float32)
    for start in range(0, len(embeddings), BLOCK):
        found[start : start + BLOCK] = np.linalg.norm(embeddings[start : start + BLOCK].astype(np.float32), axis=1)
    return found


def _cosines(vector: np.ndarray, embeddings: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Compute the cosines of a query, (E,), and int8 embeddings, (N, E), as (N,) float32."""
    query = to_int8(torch.from_numpy(np.asarray(vector, dtype=np.float32))).numpy().astype(np.float32)
    found = np.empty(len(embeddings), np.float32)
    for start in range(0, len(embeddings), BLOCK):
        found[start : start + BLOCK] = embeddings[start : start + BLOCK].astype(np.float32) @ query
    cosines: np.ndarray = found / np.maximum(lengths * np.linalg.norm(query), np.finfo(np.float32).tiny)
    return cosines
