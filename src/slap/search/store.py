"""The vectors of windows and where they come from, in LanceDB: exact search for few, an approximate index for many.

Vectors of int8 are always searched exactly, see `slap.search.int8`.

E shared dimension.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from slap.core.compact import from_int8, to_int8
from slap.core.errors import MissingDependencyError, UserError
from slap.core.units import EmbeddingType
from slap.search.int8 import Int8Windows
from slap.search.metadata import FILE

try:
    import lancedb
    import pyarrow as pa
except ImportError as error:
    raise MissingDependencyError(f"searching needs LanceDB: pip install 'slap-audio[search]' ({error})") from error

APPROXIMATE_FROM = 100_000
"""Windows from which on an approximate index is kept. Exact search of so many takes about 0.15 s on two cores."""

PARTITIONS, CANDIDATES = 50, 1000
"""Parts of the approximate index that a query looks into, and the rows that are compared exactly after it (at least;
10 k if that is more). `benchmarks/search.py` measures what they cost and find."""

REGROWN = 4
"""The approximate index is made anew when there are this many times more rows than when it was made."""

AT_ONCE = 500
"""Paths or hashes in one condition."""

KEPT = timedelta(hours=1)
"""Files of older states are removed after this time: a server may be reading them."""


class State(NamedTuple):
    """The state of a file when it was indexed, by which a change is seen."""

    size: int
    mtime_ns: int
    hash: str


class WindowRow(NamedTuple):
    """A window of a file. `file` is its id, and `vector`, (E,), its embedding, float32 of length 1.

    `start` and `end` of the window, and `duration`, the end of the file, are seconds on the clock of a player: in a
    video whose audio starts late they count from the begin of the video.
    """

    file: str
    path: str
    duration: float
    start: float
    end: float
    size: int
    mtime_ns: int
    hash: str
    model: str
    vector: np.ndarray


class BadRow(NamedTuple):
    """A file that could not be indexed, with the reason."""

    path: str
    size: int
    mtime_ns: int
    reason: str
    detail: str


class WindowMatch(NamedTuple):
    """A row that was found, with its cosine to the query."""

    score: float
    row: WindowRow


class Store:
    """The tables of an index.

    Args:
        index: its folder.
        dim: E.
        anew: forget what is there, whatever its E.
        dtype: number type of the vectors that are stored.

    Raises:
        ValueError: the tables that are there are of another E or number type.
    """

    def __init__(self, index: Path, dim: int, anew: bool = False, dtype: EmbeddingType = "float32") -> None:
        self.schema = _windows_schema(dim, dtype)
        database = lancedb.connect(index, read_consistency_interval=timedelta(0))
        how: dict[str, Any] = {"mode": "overwrite"} if anew else {"exist_ok": True}
        try:
            self.windows = database.create_table("windows", schema=self.schema, **how)
        except ValueError as error:
            raise UserError(
                f"{index} holds other embeddings than those of {dim} {dtype} numbers that {FILE} states, as after a "
                f"rebuild that was interrupted; make it anew with `slap index --rebuild` ({error})"
            ) from error
        self._int8 = Int8Windows(self.windows) if dtype == "int8" else None
        self.bad = database.create_table("bad", schema=_BAD_SCHEMA, **how)

    def __len__(self) -> int:
        """Count the windows."""
        return int(self.windows.count_rows())

    @property
    def version(self) -> int:
        """Grows with every change of the windows."""
        return int(self.windows.version)

    # -- files --------------------------------------------------------------------------------------------------------

    def files(self) -> dict[str, State]:
        """Return the states of the indexed files by path."""
        found: dict[str, State] = {}
        for batch in self.windows.search().select(["path", "size", "mtime_ns", "hash"]).to_batches():
            for row in batch.to_pylist():
                found[row["path"]] = State(row["size"], row["mtime_ns"], row["hash"])
        return found

    def bad_files(self) -> dict[str, BadRow]:
        """Return the files that could not be indexed, by path."""
        return {row["path"]: BadRow(**row) for row in self.bad.search().to_list()}

    def rows_of(self, file: str) -> list[WindowRow]:
        """Return the windows of a file by its id, in order of time; none if there is no such file."""
        return sorted(self._where("file", [file]), key=lambda row: row.start)

    def rows_with(self, hashes: Sequence[str]) -> dict[str, list[WindowRow]]:
        """Return, for each content that is known, the windows of one file that has it."""
        found: dict[str, list[WindowRow]] = {}
        for row in self._where("hash", hashes):
            rows = found.setdefault(row.hash, [])
            if not rows or rows[0].path == row.path:
                rows.append(row)
        return found

    def replace(self, paths: Iterable[str], rows: Sequence[WindowRow], bad: Sequence[BadRow]) -> None:
        """Replace all rows about some files.

        Interrupted in between it leaves some of the files out, which the next update then finds to be new.

        Args:
            paths: the files whose old rows are removed.
            rows: the windows of files, new ones included.
            bad: the files that could not be indexed.
        """
        paths = list(paths)
        for condition in _conditions("path", paths):
            self.windows.delete(condition)
            self.bad.delete(condition)
        if rows:
            self.windows.add(_table(rows, self.schema))
        if bad:
            self.bad.add(pa.Table.from_pylist([row._asdict() for row in bad], schema=_BAD_SCHEMA))

    def _where(self, column: str, values: Sequence[str]) -> Iterator[WindowRow]:
        for condition in _conditions(column, values):
            for batch in self.windows.search().where(condition).to_batches():
                yield from map(self._row, batch.select(list(WindowRow._fields)).to_pylist())

    def _row(self, row: dict[str, Any]) -> WindowRow:
        vector = np.asarray(row["vector"], dtype=np.float32)
        if self._int8 is not None:
            vector = from_int8(torch.from_numpy(vector)).numpy()
        return WindowRow(**{**row, "vector": vector})

    # -- search -------------------------------------------------------------------------------------------------------

    def nearest(self, vector: np.ndarray, k: int, exact: bool = False) -> list[WindowMatch]:
        """Find the k windows with the largest cosine, best first.

        Args:
            vector: (E,) of length 1.
            k: the number of windows, at most.
            exact: compare with every window, also where there is an approximate index.
        """
        if self._int8 is not None:
            found = self._int8.nearest(vector, k, list(WindowRow._fields))
            return [WindowMatch(score, self._row(row)) for score, row in found]
        query = self.windows.search(np.asarray(vector, dtype=np.float32), vector_column_name="vector")
        query = query.distance_type("dot").select([*WindowRow._fields, "_distance"]).limit(k)
        if exact:
            query = query.bypass_vector_index()
        else:
            query = query.nprobes(PARTITIONS).refine_factor(max(10, CANDIDATES // k))
        return [WindowMatch(1 - row.pop("_distance"), self._row(row)) for row in query.to_list()]

    @property
    def approximate(self) -> bool:
        """True if there is an approximate index."""
        return any(index.columns == ["vector"] for index in self.windows.list_indices())

    def optimize(self, trained: int) -> int:
        """Merge small files, remove old ones, and update the approximate index, or make it where it is due.

        Args:
            trained: rows on which the approximate index was made; 0 if there is none.

        Returns:
            the number of rows on which it was made now.
        """
        rows = len(self)
        if self._int8 is None and (
            rows >= max(APPROXIMATE_FROM, trained * REGROWN) or (rows >= APPROXIMATE_FROM and not self.approximate)
        ):
            from lancedb.index import BTree, IvfRq

            self.windows.create_index("vector", config=IvfRq(distance_type="dot"), replace=True)
            for column in ("file", "path", "hash"):
                self.windows.create_index(column, config=BTree(), replace=True)
            trained = rows
        self.windows.optimize(cleanup_older_than=KEPT)
        self.bad.optimize(cleanup_older_than=KEPT)
        return trained


def _windows_schema(dim: int, dtype: EmbeddingType) -> pa.Schema:
    text = [pa.field(name, pa.string(), nullable=False) for name in ("file", "path")]
    times = [pa.field(name, pa.float64(), nullable=False) for name in ("duration", "start", "end")]
    state = [pa.field(name, pa.int64(), nullable=False) for name in ("size", "mtime_ns")]
    hashes = [pa.field(name, pa.string(), nullable=False) for name in ("hash", "model")]
    vector = pa.list_(pa.int8() if dtype == "int8" else pa.float32(), dim)
    return pa.schema([*text, *times, *state, *hashes, pa.field("vector", vector, nullable=False)])


_BAD_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)


def _table(rows: Sequence[WindowRow], schema: pa.Schema) -> pa.Table:
    columns = {name: [getattr(row, name) for row in rows] for name in WindowRow._fields if name != "vector"}
    vectors = np.stack([row.vector for row in rows]).astype(np.float32)
    stored = schema.field("vector").type
    if stored.value_type == pa.int8():
        vectors = to_int8(torch.from_numpy(vectors)).numpy()
    vector = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), stored.list_size)
    return pa.Table.from_pydict({**columns, "vector": vector}, schema=schema)


def _conditions(column: str, values: Iterable[str]) -> Iterator[str]:
    """Yield SQL conditions that a column has one of the values, some values each."""
    rest = iter(values)
    while some := list(islice(rest, AT_ONCE)):
        quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in some)
        yield f"{column} IN ({quoted})"
