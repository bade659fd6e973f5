"""Reader of delimited text as spreadsheets and databases export it: commas, semicolons, tabs or bars between cells.

The header decides the separator: the one that gives the most known columns. A first line `sep=;`, as Excel writes and
reads it, decides it too. Rows and columns without content are no rows and columns.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.manifests.columns import ColumnNames, option
from slap.datamodules.manifests.lines import LONGEST_LINE, Record, text_lines

SEPARATORS = (",", ";", "\t", "|")
SAID = re.compile(r'"?sep=(.)"?[,;\t|]*\s*', re.IGNORECASE)


def csv_records(path: Path, names: ColumnNames, captioned: bool = True) -> Iterator[tuple[int, Record]]:
    """Yield the rows of a table as {known name: cell}, without empty cells, each with the number of its last line.

    Args:
        path: path of the table; with the ending .tsv, tabs separate its cells.
        names: known names of its columns.
        captioned: refuse a table without any column of captions or labels.

    Raises:
        ManifestError: the header names no audio, or the text is no table; names the line.
    """
    lines = (text for _, text in text_lines(path))
    header = next(lines, "")
    said = SAID.fullmatch(header)
    skipped = 1 if said else 0
    if said:
        header = next(lines, "")
    separator = said[1] if said else _separator(header, path, names)
    reader = csv.reader(chain([header], lines), strict=True, delimiter=separator)
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
    try:
        columns = [name.strip() for name in next(reader, [])]
        known = _known(path, reader.line_num + skipped, columns, names, captioned)
        for cells in reader:
            if any(map(str.strip, cells)):
                line = reader.line_num + skipped
                _check_count(f"{path}, line {line}", cells, columns, separator)
                yield line, {known[i]: cell for i, cell in enumerate(cells) if i in known and cell.strip()}
    except csv.Error as error:
        raise ManifestError(f"{path}, line {reader.line_num + skipped}: this is not CSV: {error}") from error


def _separator(header: str, path: Path, names: ColumnNames) -> str:
    if path.name.lower().endswith(".tsv"):
        return "\t"
    split = {separator: _cells(header, separator) for separator in SEPARATORS}
    return max(split, key=lambda separator: (names.known(split[separator]), len(split[separator])))


def _cells(header: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([header], delimiter=separator), [])
    except csv.Error:  # the reader of the rows reports it
        return []


def _known(path: Path, line: int, columns: list[str], names: ColumnNames, captioned: bool) -> dict[int, str]:
    """Return the known names of columns by their numbers."""
    where = f"{path}, line {line}"
    named = [name for name in columns if name]
    if len(set(named)) < len(named):
        raise ManifestError(f"{where}: two columns have the same name: {', '.join(columns)}")
    known = names.of(tuple(named), where)
    names.finish(named)
    captions = [name for name in known.values() if name.partition("_")[0] in ("caption", "label", "tags")]
    if "audio" not in known.values() or (captioned and not captions):
        raise ManifestError(
            f"{where}: the columns `audio` and `caption` (or caption_1, caption_2, ..., or labels in `label` or "
            f"`tags`) are needed; this file has {', '.join(named) or 'none'}. Rename them, or say which they are, e.g. "
            f"{option('audio', 'filepath')}"
        )
    return {number: known[name] for number, name in enumerate(columns) if name in known}


def _check_count(where: str, cells: list[str], columns: list[str], separator: str) -> None:
    if len(cells) != len(columns):
        shown = {",": "a comma", ";": "a semicolon", "\t": "a tab"}.get(separator, repr(separator))
        raise ManifestError(
            f"{where}: {len(cells)} cells for the {len(columns)} columns {', '.join(columns)}; a caption with {shown} "
            'stands in "quotes"'
        )
