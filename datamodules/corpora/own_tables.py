"""Your own tables: CSV or JSON lines with one row per audio file and caption, as for training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from slap.core.bad_clip import BadClip
from slap.core.errors import UserError
from slap.core.registry import register
from slap.datamodules.corpora.base import Corpus
from slap.datamodules.manifests.clip import Clip, ManifestError
from slap.datamodules.manifests.columns import Columns
from slap.datamodules.manifests.lines import Record
from slap.datamodules.manifests.tables import CSV_SUFFIXES, FIELD, JSON_SUFFIXES, clips_of, is_table, records_of


class Table(Corpus):
    """The base class of both kinds of tables.

    Args:
        root: a table, or a folder of tables.
        name: name of the corpus, with which ids begin.
        columns: columns whose names are not the known ones.
    """

    SUFFIXES: ClassVar[tuple[str, ...]]

    def __init__(self, root: Path, name: str | None = None, columns: Columns | None = None) -> None:
        super().__init__(root)
        self.name = name or (self.root.name.partition(".")[0] if self.root.is_file() else self.root.name)
        self.columns = columns
        self.tables = {} if self.root.is_file() else self._below()
        self._names: list[str] | None = None

    def splits(self) -> Sequence[str]:
        """Return the names of the tables in a folder; for one table, the values of its column `split`, or "all"."""
        if not self.root.is_file():
            return list(self.tables)
        if self._names is None:
            names = dict.fromkeys(record.get("split") for _, record in self._records(self.root))
            self._names = [str(name) for name in names if name is not None] or ["all"]
            if None in names and len(names) > 1:
                raise ManifestError(f"{self.root}: some rows have a `split` and some have none")
        return self._names

    def clips(self, split: str) -> Iterator[Clip]:
        """Yield the clips of a split, in the order of the table."""
        path = self.root if self.root.is_file() else self.tables[split]
        bad: list[BadClip] = []
        clips = clips_of(path, self._of_split(path, split), bad, path.parent)
        for faulty in bad:
            self.leave_out("no caption, or one that is no text", f"{faulty.where}: {faulty.detail}")
        for _, clip in clips:
            fields = clip.fields or [FIELD] * len(clip.captions)
            yield replace(clip, id=f"{self.name}/{clip.id.lstrip('/')}", fields=fields, corpus=self.name, split=split)

    def _of_split(self, path: Path, split: str) -> Iterator[tuple[int, Record]]:
        for line, record in self._records(path):
            if not self.root.is_file() or str(record.get("split", "all")) == split:
                yield line, record

    def _records(self, path: Path) -> Iterator[tuple[int, Record]]:
        return records_of(path, self.columns)

    def _below(self) -> dict[str, Path]:
        found = sorted(path for path in self.root.iterdir() if is_table(path.name, self.SUFFIXES) and path.is_file())
        if not found:
            raise FileNotFoundError(f"there is no table ({', '.join(self.SUFFIXES)}) in {self.root}")
        tables: dict[str, Path] = {}
        for path in found:
            suffix = next(suffix for suffix in self.SUFFIXES if is_table(path.name, (suffix,)))
            split = path.name[: -len(suffix)]
            if split in tables:
                raise UserError(f"{tables[split]} and {path} would both be the split {split!r}; rename one of them")
            tables[split] = path
        return tables


@register("csv")
class CSV(Table):
    """Your own CSV or TSV tables, with the columns `audio` and `caption`.

    ROOT is a folder with one table per split (`train.csv`, `val.csv`, any names), or one table, whose column `split`,
    if it has one, assigns clips to splits. The columns are those of a manifest for training, see
    `slap.datamodules.manifests.read`, and also `fold` (for cross-validation), `youtube` and `freesound` (the id of the
    source of the audio, to find overlaps). Paths start from the table's folder. A row without a caption is left out.

    Args:
        root: a table, or a folder of tables.
        name: name of the corpus, for ids and reports; None is that of ROOT.
        columns: columns whose names are not the known ones, e.g. '{audio: filepath, caption: title}'; null as the
            column says that there is none.
    """

    SUFFIXES: ClassVar[tuple[str, ...]] = CSV_SUFFIXES

    def __init__(self, root: Path, name: str | None = None, columns: Columns | None = None) -> None:
        super().__init__(root, name, columns)


@register("jsonl")
class JSONLines(Table):
    """Your own tables as JSON lines, with the keys `audio` and `caption`.

    As `csv`, but each line is a JSON object: `caption` may be a list, and `labels` an object of task and label.

    Args:
        root: a table, or a folder of tables.
        name: name of the corpus, for ids and reports; None is that of ROOT.
        columns: columns whose names are not the known ones, e.g. '{audio: filepath, caption: title}'; null as the
            column says that there is none.
    """

    SUFFIXES: ClassVar[tuple[str, ...]] = JSON_SUFFIXES

    def __init__(self, root: Path, name: str | None = None, columns: Columns | None = None) -> None:
        super().__init__(root, name, columns)
