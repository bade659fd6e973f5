"""The table of `slap embed` from parts, byte by byte as one process writes it.

The last bits of an embedding depend on the batch that it was computed in, so batches must not depend on the number of
parts: inputs are embedded in groups by their places, and a part consists of whole groups. The files of a group, its
rows in the order of the inputs and a record beside them, appear when the group is complete; so an interrupted part goes
on with the next group, and no bit differs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from torch import Tensor

from slap.audio.sources import Input
from slap.core.files import atomic_write, read_json
from slap.core.parts import DonePart
from slap.inference.embedding_table import FAILED, NOTES, EmbeddingTable, write_rows
from slap.inference.stream import PORTION, StreamItem

HEAVY = 1 << 28
"""Bytes of files after which a group ends, so that an interruption costs little: 2 hours at 16 kHz and 16 bits."""

Embed = Callable[[Sequence[Input]], Iterable[StreamItem[Tensor]]]
"""A function that embeds some inputs, as `Model.stream`."""


def groups(items: Sequence[Input], start: int = 0) -> Iterator[tuple[int, list[Input]]]:
    """Yield the groups of inputs that share batches, each with the place of its first input.

    Args:
        items: the inputs.
        start: the place of the first one among all; a multiple of `PORTION`.
    """
    group: list[Input] = []
    size = 0
    for place, item in enumerate(items, start):
        if group and (place % PORTION == 0 or size >= HEAVY):
            yield place - len(group), group
            group, size = [], 0
        group.append(item)
        size += _size(item)
    if group:
        yield start + len(items) - len(group), group


def embed_part(table: EmbeddingTable, folder: Path, span: range, items: Sequence[Input], embed: Embed) -> Iterator[int]:
    """Embed the groups of a part that are not complete, and yield the number of inputs of each group.

    Args:
        table: the table that the part is of.
        folder: of the part.
        span: places of the part's inputs.
        items: all inputs.
        embed: see `Embed`.
    """
    for place, group in groups(items[span.start : span.stop], span.start):
        if not (folder / _name(place, "json")).exists():
            told = table.add_group(group, embed(group), folder / _name(place, "arrow"))
            with atomic_write(folder / _name(place, "json"), sync=False) as file:
                json.dump(told, file)
        yield len(group)


def merge_embedded(
    table: EmbeddingTable, parts: Sequence[DonePart]
) -> tuple[int, list[tuple[str, str]], list[tuple[str, str]]]:
    """Write the table from all parts, in little memory.

    Returns:
        The number of rows; ids of inputs that failed, with errors; and ids of inputs that were embedded, with notes.
    """
    records = [path for part in parts for path in sorted(part.folder.glob(_name("*", "json")))]
    rows = write_rows(table.out, table.schema, map(_rows, records))
    told = {name: [(key, text) for path in records for key, text in read_json(path)[name]] for name in (FAILED, NOTES)}
    return rows, told[FAILED], told[NOTES]


def _rows(record: Path) -> pa.Table:
    with pa.memory_map(str(record.with_suffix(".arrow"))) as file:
        return pa.ipc.open_file(file).read_all()


def _name(place: int | str, kind: str) -> str:
    return f"group-{place if isinstance(place, str) else f'{place:012}'}.{kind}"


def _size(item: Input) -> int:
    try:
        return Path(item.audio.path).stat().st_size
    except (OSError, ValueError):  # reading it says why it cannot be used
        return 0
