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
from slap.datamodules.manifests.tables import Record, clips_of, csv_records, json_records

ORIGINS = ("youtube", "freesound")


class Table(Corpus):
    """The base class of both kinds of tables.

    Args:
        root: a table, or a folder of tables.
        name: name of the corpus, with which ids begin.
    """

    SUFFIXES: ClassVar[tuple[str, ...]]

    def __init__(self, root: Path, name: str | None = None) -> None:
        super().__init__(root)
        self.name = name or (self.root.name.partition(".")[0] if self.root.is_file() else self.root.name)
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
        rows: dict[int, Record] = {}
        bad: list[BadClip] = []
        clips = clips_of(path, self._kept(path, split, rows), bad)
        for faulty in bad:
            self.leave_out("no caption, or one that is no text", f"{faulty.where}: {faulty.detail}")
        for line, clip in clips:
            row = rows[line]
            fold = row.get("fold")
            if fold is not None and not str(fold).strip().isdigit():
                raise ManifestError(f"{path}, line {line}: `fold` must be a whole number, got {fold!r}")
            yield replace(
                clip,
                id=f"{self.name}/{clip.id}",
                audio=path.parent / clip.audio,
                fields=["caption"] * len(clip.captions),
                corpus=self.name,
                split=split,
                fold=None if fold is None else int(fold),
                origin={source: str(row[source]).strip() for source in ORIGINS if source in row},
            )

    def _kept(self, path: Path, split: str, rows: dict[int, Record]) -> Iterator[tuple[int, Record]]:
        """Yield the rows of a split, and store in `rows` the columns that a clip does not hold."""
        for line, record in self._records(path):
            if self.root.is_file() and str(record.get("split", "all")) != split:
                continue
            rows[line] = {name: record[name] for name in ("fold", *ORIGINS) if name in record}
            yield line, record

    def _records(self, path: Path) -> Iterator[tuple[int, Record]]:
        raise NotImplementedError

    def _below(self) -> dict[str, Path]:
        found = sorted(path for path in self.root.iterdir() if path.name.endswith(self.SUFFIXES) and path.is_file())
        if not found:
            raise FileNotFoundError(f"there is no table ({', '.join(self.SUFFIXES)}) in {self.root}")
        tables: dict[str, Path] = {}
        for path in found:
            split = next(path.name.removesuffix(suffix) for suffix in self.SUFFIXES if path.name.endswith(suffix))
            if split in tables:
                raise UserError(f"{tables[split]} and {path} would both be the split {split!r}; rename one of them")
            tables[split] = path
        return tables


@register("csv")
class CSV(Table):
    """Your own CSV tables, with the columns `audio` and `caption`.

    ROOT is a folder with one table per split (`train.csv`, `val.csv`, any names), or one table, whose column `split`,
    if it has one, assigns clips to splits. The columns are those of a manifest for training, see
    `slap.datamodules.manifests.read`, and also `fold` (for cross-validation), `youtube` and `freesound` (the id of the
    source of the audio, to find overlaps). Paths start from the table's folder. A row without a caption is left out.

    Args:
        root: a table, or a folder of tables.
        name: name of the corpus, for ids and reports; None is that of ROOT.
    """

    SUFFIXES: ClassVar[tuple[str, ...]] = (".csv",)

    def __init__(self, root: Path, name: str | None = None) -> None:
        super().__init__(root, name)

    def _records(self, path: Path) -> Iterator[tuple[int, Record]]:
        return csv_records(path)


@register("jsonl")
class JSONLines(Table):
    """Your own tables as JSON lines, with the keys `audio` and `caption`.

    As `csv`, but each line is a JSON object: `caption` may be a list, and `labels` an object of task and label.

    Args:
        root: a table, or a folder of tables.
        name: name of the corpus, for ids and reports; None is that of ROOT.
    """

    SUFFIXES: ClassVar[tuple[str, ...]] = (".jsonl", ".jsonl.gz")

    def __init__(self, root: Path, name: str | None = None) -> None:
        super().__init__(root, name)

    def _records(self, path: Path) -> Iterator[tuple[int, Record]]:
        for line, record in json_records(path):
            if "recording" in record or "tracks" in record:
                raise ManifestError(
                    f"{path}, line {line}: this is a Lhotse cut; name the file itself as a manifest for training"
                )
            yield line, record
