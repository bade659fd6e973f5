"""From what a user names, folders of corpora and manifests, to the clips of each row of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from slap.core.errors import UserError
from slap.datamodules.manifests.columns import Columns
from slap.datamodules.manifests.hashes import hashed
from slap.datamodules.overlap import WAYS
from slap.evaluation.benchmarks import datasets
from slap.evaluation.data import Corpora, NoDataError, clips_of_benchmark, clips_of_manifests, kinds_of
from slap.evaluation.eval_set import Part
from slap.evaluation.overlap import overlap_warnings
from slap.evaluation.plan import EvalRow
from slap.evaluation.runner import Located
from slap.evaluation.tasks.base import Task, UnavailableError

StrPath = str | Path
DataSource = StrPath | Sequence[StrPath] | Mapping[str, StrPath | Mapping[str, StrPath]]
"""Folders of corpora, manifests, or either by name; see `sources_of`."""


@dataclass(frozen=True)
class Sources:
    """Folders and manifests that an evaluation takes its clips from.

    Attributes:
        roots: folders in which each corpus has a folder.
        folders: folders of single benchmarks or corpora, by name.
        manifests: manifests by name, and for each name by part; "test" is one of them.
    """

    roots: Sequence[Path] = ()
    folders: Mapping[str, Path] = field(default_factory=dict)
    manifests: Mapping[str, Mapping[Part, Path]] = field(default_factory=dict)


def sources_of(data: DataSource | Sources) -> Sources:
    """Sort what Python names into folders and manifests.

    A folder without a name holds a folder per corpus; a file is a manifest, whose name is the file's without its
    suffixes. By the name of a benchmark or corpus stands its folder, by any other name a manifest (any that training
    reads, shards included), or manifests by part: `{"train": ..., "val": ..., "test": ...}`.

    Raises:
        ValueError: two manifests have one name, or a name has no test clips.
        FileNotFoundError: there is no such folder or manifest.
    """
    if isinstance(data, Sources):
        return data
    if not isinstance(data, Mapping):
        paths = [Path(path) for path in ([data] if isinstance(data, StrPath) else data)]
        files = {path.name.partition(".")[0]: path for path in paths if not path.is_dir()}
        roots = [path for path in paths if path.is_dir()]
        if len(files) + len(roots) < len(paths):
            raise UserError(f"two manifests have the same name among {[*map(str, paths)]}; give {{name: manifest}}")
        return Sources(roots, {}, checked_manifests({name: {"test": path} for name, path in files.items()}, "data"))
    corpora = {name for dataset in datasets().values() for name in (dataset.name, dataset.corpus)}
    folders: dict[str, Path] = {}
    manifests: dict[str, dict[str, Path]] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            manifests[name] = {part: Path(path) for part, path in value.items()}
        elif name in corpora:
            folders[name] = Path(value)
        else:
            manifests[name] = {"test": Path(value)}
    return Sources((), folders, checked_manifests(manifests, "data"))


def sources_from_words(folders: Sequence[str], manifests: Sequence[str]) -> Sources:
    """Sort the words of the command line.

    Args:
        folders: FOLDER, or NAME=FOLDER.
        manifests: NAME=PATH, NAME/train=PATH or NAME/val=PATH.

    Raises:
        ValueError: a word has another form, the name is that of a benchmark, or a name has no test clips.
        FileNotFoundError: there is no such manifest.
    """
    pairs = [word.partition("=") for word in folders if "=" in word]
    found: dict[str, dict[str, Path]] = {}
    for word in manifests:
        name, equals, path = word.partition("=")
        name, _, part = name.partition("/")
        part = part or "test"
        if not equals or not name or not path or part not in get_args(Part):
            raise UserError(f"--manifest {word}: write NAME=PATH, NAME/train=PATH or NAME/val=PATH")
        found.setdefault(name, {})[part] = Path(path)
    return Sources(
        [Path(word) for word in folders if "=" not in word],
        {name: Path(folder) for name, _, folder in pairs},
        checked_manifests(found, "--manifest"),
    )


def checked_manifests(manifests: Mapping[str, Mapping[str, Path]], where: str) -> dict[str, dict[Part, Path]]:
    """Return manifests by name and part, after a check.

    Args:
        manifests: by name and part.
        where: name of the argument that they come from, for messages.

    Raises:
        ValueError: the name is that of a benchmark, a part is none, or a name has no test clips.
        FileNotFoundError: there is no such manifest.
    """
    for name, parts in manifests.items():
        if name in datasets():
            raise UserError(f"{where}: {name} is a benchmark with its own protocol; give the manifest another name")
        if unknown := set(parts) - set(get_args(Part)):
            raise UserError(f"{where}: {name} has the parts {sorted(unknown)}; valid are {', '.join(get_args(Part))}")
        for path in parts.values():
            if not path.exists():
                raise FileNotFoundError(f"{where}: there is no {path} for {name}")
        if "test" not in parts:
            raise UserError(f"{where}: {name} has no clips to test on; add {name}=PATH")
    return {name: {part: parts[part] for part in get_args(Part) if part in parts} for name, parts in manifests.items()}


class Locator:
    """Finds the clips of rows, each data set once.

    Args:
        sources: where clips are.
        tasks: all tasks, by name.
        work: the folder for manifests of corpora in their official layouts.
        train: manifests of training data, to warn of evaluated clips among them.
        overlap_by: how clips are compared with training data, see `slap.datamodules.overlap.WAYS`.
        workers: processes that read headers.
        columns: columns of tables whose names are not the known ones, see `read_manifest`.

    Raises:
        FileNotFoundError: a folder is not there.
        ValueError: `overlap_by` has an unknown way.
    """

    def __init__(
        self,
        sources: Sources,
        tasks: Mapping[str, type[Task]],
        work: Path,
        train: Sequence[Path] = (),
        overlap_by: Sequence[str] = ("id", "origin"),
        workers: int = 0,
        columns: Columns | None = None,
    ) -> None:
        self._corpora = Corpora(sources.roots, sources.folders, work / "manifests", workers)
        self._manifests, self._tasks, self._train = sources.manifests, tasks, train
        self._overlap_by, self._workers, self._columns = set(overlap_by), workers, columns
        if unknown := self._overlap_by - set(WAYS):
            raise UserError(f"overlap_by has {', '.join(sorted(unknown))}; clips are compared by {', '.join(WAYS)}")
        self._warnings: dict[tuple[Path, ...], list[str]] = {}

    def rows(self, row: EvalRow) -> Sequence[EvalRow]:
        """Return the rows that a row stands for: one for each kind of annotation, where its task is run so.

        Raises:
            ManifestError: the manifest cannot be used.
        """
        task = self._tasks.get(row.task)
        if task is None or not task.every_kind or row.dataset not in self._manifests:
            return [row]
        kinds = kinds_of(self._manifests[row.dataset]["test"], task.uses, row.label, self._columns)
        return [replace(row, use=use, label=label) for use, label in kinds] or [row]

    def locate(self, row: EvalRow) -> Located:
        """Return the clips of a row, and warnings about training data.

        Raises:
            UnavailableError: there are none.
        """
        task = self._tasks[row.task]
        try:
            if row.dataset in self._manifests:
                named = self._manifests[row.dataset]
                uses = task.uses if row.use is None else (row.use,)
                found, paths = clips_of_manifests(row.dataset, named, uses, row.label, self._columns)
            else:
                found, paths = clips_of_benchmark(self._corpora, datasets()[row.dataset], task.learns)
        except NoDataError as error:
            raise UnavailableError(str(error)) from error
        return Located(found, hashed(paths), self._overlap(tuple(paths)))

    def _overlap(self, paths: tuple[Path, ...]) -> list[str]:
        if paths not in self._warnings:
            self._warnings[paths] = overlap_warnings(self._train, paths, self._overlap_by, self._workers, self._columns)
        return self._warnings[paths]
