"""The table that `slap embed` writes, and the parts that it grows from.

E shared dimension. Columns: `id`, `path`, `start` and `duration` (seconds; of the segment that was asked for, null for
a whole file), `seconds` (of audio that was read), `size` and `mtime_ns` of the file, `embedding` (a list of E float32,
or int8, see `slap.core.compact`). The schema's metadata hold the name of the model.

While work goes on, rows lie in a folder beside the table, in Arrow files that appear whole or not at all. So work that
is interrupted is not lost, several processes can write, and putting the table together takes little memory.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from slap.audio.sources import Input
from slap.core.errors import UserError
from slap.core.files import FileStamp, atomic_write
from slap.core.units import EmbeddingType
from slap.inference.stream import StreamItem

ROWS, SECONDS = 2048, 20.0
"""A part is written when it has so many rows, or after so many seconds."""

FIELDS = {
    "id": pa.string(),
    "path": pa.string(),
    "start": pa.float64(),
    "duration": pa.float64(),
    "seconds": pa.float64(),
    "size": pa.int64(),
    "mtime_ns": pa.int64(),
}
NUMBERS: dict[EmbeddingType, pa.DataType] = {"float32": pa.float32(), "int8": pa.int8()}
STATE = ("path", "start", "duration", "size", "mtime_ns")
"""The columns by which an input is known to be as it was."""

MODEL = b"slap.model"

FAILED, NOTES = "failed", "notes"
"""Names of the files, beside the parts, that list what could not be used, and what there is to say of the rest."""


OWN = re.compile(rf"[01]-\d{{20}}-\d+-\d+\.arrow(\..+\.part)?|({FAILED}|{NOTES})-\d+\.jsonl")
"""Names of the files in the folder of parts."""


def state_of(item: Input) -> dict[str, object]:
    """Return the values of `STATE` for an input now; a file that is not there has the size -1."""
    audio = item.audio
    try:
        stamp = FileStamp.of(audio.path)
    except OSError:
        stamp = FileStamp(-1, -1)
    return dict(zip(STATE, (audio.path, audio.start, audio.duration, *stamp), strict=True))


class EmbeddingTable:
    """The rows of a table in the making.

    Args:
        out: the table, a .parquet file.
        model: name of the model.
        dim: E, or the number of leading dimensions that embeddings keep.
        process: rank of this process; each writes parts of its own.
        dtype: number type of the embeddings.
    """

    def __init__(self, out: Path, model: str, dim: int, process: int = 0, dtype: EmbeddingType = "float32") -> None:
        self.out, self.folder, self.process = out, out.with_name(f"{out.name}.parts"), process
        self.dim, self.dtype = dim, dtype
        metadata = {MODEL: model.encode(), b"slap.dim": str(dim).encode()}
        fields = [*FIELDS.items(), ("embedding", pa.list_(NUMBERS[dtype], dim))]
        self.schema = pa.schema(fields, metadata=metadata)
        self._rows: list[dict[str, object]] = []
        self._told: dict[str, list[tuple[str, str]]] = {FAILED: [], NOTES: []}
        self._written = time.monotonic()

    def prepare(self, overwrite: bool) -> None:
        """Make the table's folder, and forget an older table if that is asked for; what failed is tried again.

        Raises:
            ValueError: the folder of the parts holds other things, or the table to forget is none.
        """
        self.out.parent.mkdir(parents=True, exist_ok=True)
        others = sorted(path.name for path in self._there() if not OWN.fullmatch(path.name))
        if others:
            raise UserError(
                f"{self.folder}, where parts of the table are kept while it is made, holds {others[0]}; name another "
                "file as --out, or move that folder"
            )
        if overwrite:
            if self.out.exists():
                _model_of(self.out, _opened(self.out).schema_arrow)
            self.out.unlink(missing_ok=True)
            self._remove_parts()
        for failed in self.folder.glob(f"{FAILED}-*.jsonl"):
            failed.unlink(missing_ok=True)

    def done(self) -> dict[str, dict[str, object]]:
        """Return, by id, the state of the inputs that this model embedded before, in the table and in parts.

        Raises:
            ValueError: the table is of another model, or no table of embeddings.
        """
        found: dict[str, dict[str, object]] = {}
        if self.out.exists():
            file = _opened(self.out)
            self._check(file.schema_arrow)
            for batch in file.iter_batches(columns=["id", *STATE]):
                found |= _states(batch)
        for table in self._tables():
            for batch in table.select(["id", *STATE]).to_batches():
                found |= _states(batch)
        return found

    def add_all(self, items: list[Input], found: Iterable[StreamItem[Tensor]], progress: Callable[[], object]) -> None:
        """Add the results of inputs while they come; what is held is written by and by, the rest by `flush`.

        Args:
            items: the inputs.
            found: their embeddings or errors.
            progress: called after each.
        """
        for result in found:
            item = items[result.index]
            if result.result is None:
                self._told[FAILED].append((item.id, str(result.error)))
            else:
                self._add(item, result.seconds, result.result)
            if result.note:
                self._told[NOTES].append((item.id, result.note))
            progress()

    def _add(self, item: Input, seconds: float, embedding: Tensor) -> None:
        self._rows.append(_row(item, seconds, embedding))
        if len(self._rows) >= ROWS or time.monotonic() - self._written > SECONDS:
            self.flush()

    def add_group(
        self, items: list[Input], found: Iterable[StreamItem[Tensor]], path: Path
    ) -> dict[str, list[tuple[str, str]]]:
        """Write the rows of some inputs, in their order, to an Arrow file; return what there is to tell, by name."""
        results = sorted(found, key=lambda result: result.index)
        with atomic_write(path, "wb", sync=False) as file, pa.ipc.new_file(file, self.schema) as writer:
            rows = [_row(items[one.index], one.seconds, one.result) for one in results if one.result is not None]
            writer.write_table(pa.Table.from_pylist(rows, self.schema))
        failed = [(items[one.index].id, str(one.error)) for one in results if one.result is None]
        return {FAILED: failed, NOTES: [(items[one.index].id, one.note) for one in results if one.note]}

    def flush(self) -> None:
        """Write the rows, errors and notes that are held."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._rows:
            self._part(pa.Table.from_pylist(self._rows, self.schema))
            self._rows = []
        for name, pairs in self._told.items():
            if pairs:
                with (self.folder / f"{name}-{self.process}.jsonl").open("a", encoding="utf-8") as file:
                    file.write("".join(json.dumps(pair) + "\n" for pair in pairs))
            pairs.clear()
        self._written = time.monotonic()

    def merge(self, items: Iterable[Input]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Put the table together, in the order of the inputs, and remove the parts.

        Returns:
            ids of inputs that failed, with errors; and ids of inputs that were embedded, with notes.
        """
        self.flush()
        failed, notes = self._all_told(FAILED), self._all_told(NOTES)
        if self.out.exists():  # its rows become parts, which can be read from anywhere without being held
            for batch in _opened(self.out).iter_batches(ROWS):
                self._part(pa.Table.from_batches([batch]).cast(self.schema), oldest=True)
        tables = list(self._tables())
        whole = pa.concat_tables(tables) if tables else self.schema.empty_table()
        place = {name: i for i, name in enumerate(whole["id"].to_pylist())}  # the newest row of an id stands last
        bad = dict(failed)
        order = [place[item.id] for item in items if item.id in place and item.id not in bad]
        write_rows(self.out, self.schema, (whole.take(order[at : at + ROWS]) for at in range(0, len(order), ROWS)))
        del whole, tables
        self._remove_parts()
        return failed, notes

    def _there(self) -> list[Path]:
        return [*self.folder.iterdir()] if self.folder.exists() else []

    def _remove_parts(self) -> None:
        """Remove the parts, and their folder unless it holds other things."""
        for path in self._there():
            if OWN.fullmatch(path.name):
                path.unlink()
        if self.folder.exists() and not self._there():
            self.folder.rmdir()

    def _check(self, schema: pa.Schema) -> None:
        found = _model_of(self.out, schema)
        if found != self.schema.metadata[MODEL]:
            raise UserError(
                f"{self.out} holds embeddings of another model ({found.decode()}, this one is "
                f"{self.schema.metadata[MODEL].decode()}); name another file, or --overwrite it"
            )
        column, wanted = schema.field("embedding").type, self.schema.field("embedding").type
        if column != wanted:
            raise UserError(
                f"{self.out} holds embeddings of type {column}, and {wanted} was asked for (--dim, --embedding-dtype); "
                "name another file, or --overwrite it"
            )

    def _part(self, table: pa.Table, oldest: bool = False) -> None:
        name = f"{'0' if oldest else '1'}-{time.time_ns():020}-{self.process}-{os.getpid()}"
        path = self.folder / f"{name}.arrow"
        with atomic_write(path, "wb", sync=False) as file, pa.ipc.new_file(file, self.schema) as writer:
            writer.write_table(table)

    def _tables(self) -> Iterator[pa.Table]:
        """Yield the parts of this model, the oldest first, mapped from the disk."""
        for path in sorted(self.folder.glob("*.arrow")):
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            if table.schema.equals(self.schema, check_metadata=True):
                yield table

    def _all_told(self, name: str) -> list[tuple[str, str]]:
        lines = [
            json.loads(line)
            for path in sorted(self.folder.glob(f"{name}-*.jsonl"))
            for line in path.read_text(encoding="utf-8").splitlines()
        ]
        return list(dict(map(tuple, lines)).items())  # a name twice counts once


def write_rows(out: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    """Write a table whose bytes depend on its rows alone, not on the pieces that they come in.

    Returns:
        The number of rows.
    """
    total, held = 0, schema.empty_table()
    with atomic_write(out, "wb") as file, pq.ParquetWriter(file, schema) as writer:
        for table in tables:
            held = pa.concat_tables([held, table])
            while len(held) >= ROWS:
                writer.write_table(held.slice(0, ROWS).combine_chunks())
                total, held = total + ROWS, held.slice(ROWS)
        if len(held):
            writer.write_table(held.combine_chunks())
    return total + len(held)


def _row(item: Input, seconds: float, embedding: Tensor) -> dict[str, object]:
    return {"id": item.id, **state_of(item), "seconds": seconds, "embedding": embedding.tolist()}


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is no parquet file ({error}); name another file, or remove it") from error


def _model_of(path: Path, schema: pa.Schema) -> bytes:
    """Return the name of the model whose embeddings a table has.

    Raises:
        ValueError: it is no table of embeddings.
    """
    found = (schema.metadata or {}).get(MODEL)
    if found is None or "embedding" not in schema.names:
        raise UserError(f"{path} is no table of `slap embed`; name another file, or remove it")
    return bytes(found)


def _states(batch: pa.RecordBatch) -> dict[str, dict[str, object]]:
    return {row.pop("id"): row for row in batch.to_pylist()}


@dataclass(frozen=True)
class EmbedPlan:
    """The inputs that must be embedded, and the others.

    Attributes:
        todo: inputs that are new or have changed.
        done: the number of the others.
    """

    todo: list[Input]
    done: int


def embed_plan(items: list[Input], known: dict[str, dict[str, object]]) -> EmbedPlan:
    """Find the inputs that are new or have changed since they were embedded."""
    todo = [item for item in items if known.get(item.id) != state_of(item)]
    return EmbedPlan(todo, len(items) - len(todo))
