"""Reader of the lists that corpora come with: CSV files with known columns."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from slap.datamodules.manifests.clip import ManifestError

csv.field_size_limit(2**24)  # some published captions and tag lists exceed the default, 128 KiB


def first_of(root: Path, *names: str) -> Path:
    """Return the first of several paths below a folder at which a file exists; the first path if none does."""
    return next((root / name for name in names if (root / name).is_file()), root / names[0])


def rows(
    path: Path,
    columns: Sequence[str],
    *,
    header: bool = True,
    encoding: str = "utf-8-sig",
    comment: str | None = None,
    skip_space: bool = False,
    delimiter: str = ",",
) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file as {column: cell}. Cells are exact: spaces in them are kept.

    Args:
        path: path of the file.
        columns: with a header, the required columns; without, the names of all columns in order.
        header: True if the first line names the columns.
        encoding: encoding of the text.
        comment: lines that begin with this text are ignored.
        skip_space: True if spaces after a comma belong to the separator.
        delimiter: separator of cells.

    Raises:
        FileNotFoundError: there is no such file.
        ManifestError: a column is missing, a row has another number of cells, or the text has another encoding; names
            the line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}, which is part of the corpus")
    with path.open(encoding=encoding, newline="") as file:
        lines = (line for line in file if not (comment and line.startswith(comment)))
        reader = csv.reader(lines, skipinitialspace=skip_space, delimiter=delimiter)
        try:
            names = next(reader, []) if header else list(columns)
            if absent := [name for name in columns if name not in names]:
                raise ManifestError(
                    f"{path}, line 1: the column {', '.join(absent)} is missing; there are {', '.join(names) or 'none'}"
                )
            for cells in reader:
                if cells and len(cells) != len(names):
                    raise ManifestError(
                        f"{path}, row {reader.line_num}: {len(cells)} cells for the {len(names)} columns "
                        f"{', '.join(names)}"
                    )
                if cells:
                    yield dict(zip(names, cells, strict=True))
        except UnicodeDecodeError as error:
            raise ManifestError(f"{path}, after row {reader.line_num}: this is not {encoding} text: {error}") from error
        except csv.Error as error:
            raise ManifestError(f"{path}, row {reader.line_num}: this is not CSV: {error}") from error
