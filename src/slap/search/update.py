"""Updates of an index from its folder: new, changed, moved, copied and removed files; nothing is embedded twice.

E shared dimension.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from slap.audio.level import Level
from slap.audio.scan import Found, PassedOver, file_id, scan
from slap.core.compact import leading
from slap.core.errors import UserError
from slap.inference.embedding import tensors
from slap.inference.model import Model
from slap.inference.stream import BATCH_SECONDS, READERS, Span, StreamItem, WindowJob, run
from slap.search.contents import Contents, KnownContentError
from slap.search.metadata import Metadata
from slap.search.store import AT_ONCE, BadRow, State, Store, WindowRow

COMMIT_ROWS, COMMIT_SECONDS = 4096, 30.0
"""Embeddings are saved after so many windows or so many seconds: an interruption loses no more."""

Segments = list[tuple[float, float, Tensor]]
"""The windows of a file: start and end in seconds, and the embedding, (E,)."""


class UpdatePlan(NamedTuple):
    """The differences between a folder and its index.

    Attributes:
        read: files that must be read.
        gone: paths of files that are no longer there.
        same: number of the files that are as they were.
    """

    read: list[Found]
    gone: list[str]
    same: int


@dataclass
class UpdateReport:
    """The result of an update, as numbers of files.

    Attributes:
        added: files that were not there before.
        changed: files that have other content.
        moved: files that were elsewhere before.
        reused: files that are new or touched, but have the content of another file, or their own.
        removed: files that are no longer there.
        unchanged: files that were neither read nor embedded.
        seconds: seconds of audio that was embedded.
        bad: all files that could not be indexed, in this update or before.
        notes: paths of files that were indexed in this update, with words about them.
        passed: the files and folders of the folder that are no audio.
    """

    added: int = 0
    changed: int = 0
    moved: int = 0
    reused: int = 0
    removed: int = 0
    unchanged: int = 0
    seconds: float = 0.0
    bad: list[BadRow] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    passed: PassedOver = field(default_factory=PassedOver)

    @property
    def reasons(self) -> dict[str, int]:
        """The number of bad files for each reason."""
        return dict(Counter(row.reason for row in self.bad).most_common())


def compare(found: list[Found], known: dict[str, State], bad: dict[str, BadRow], retry: bool = False) -> UpdatePlan:
    """Compare a folder with its index.

    Args:
        found: the files of the folder.
        known: the files of the index.
        bad: the files that could not be indexed.
        retry: read these again even if they are as they were.
    """
    read, same, present = [], 0, set()
    for file in found:
        present.add(file.name)
        before = bad.get(file.name) or known.get(file.name)
        changed = before is None or (before.size, before.mtime_ns) != (file.size, file.mtime_ns)
        if changed or (retry and file.name in bad):
            read.append(file)
        else:
            same += 1
    return UpdatePlan(read, [path for path in (*known, *bad) if path not in present], same)


class Update:
    """One update of an index.

    Args:
        store: the index's tables.
        metadata: the index's.
        model: embeds the windows.
        workers: threads that decode.
        retry: read files again that could not be indexed.
        progress: called with the number of files done since the last call.
    """

    def __init__(
        self,
        store: Store,
        metadata: Metadata,
        model: Model,
        workers: int = READERS,
        retry: bool = False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.store, self.metadata, self.model = store, metadata, model
        self.progress = progress
        self.known, self.bad = store.files(), store.bad_files()
        passed = PassedOver()
        files = list(scan(Path(metadata.folder), passed.add))
        if not files:
            others = f", only {passed}" if passed else ""
            raise UserError(f"{metadata.folder} holds no audio files{others}; nothing was changed")
        self.plan = compare(files, self.known, self.bad, retry)
        self.report = UpdateReport(unchanged=self.plan.same, passed=passed)
        self._job = _job(model, metadata, workers)
        known = {state.hash for state in self.known.values()}
        self._contents = Contents(Path(metadata.folder), model.sample_rate, known)
        self._left = Counter(self.known[path].hash for path in self.plan.gone if path in self.known)
        self._rows: list[WindowRow] = []
        self._bad: list[BadRow] = []
        self._paths: list[str] = []
        self._saved = time.monotonic()

    def run(self) -> UpdateReport:
        """Do it all; what was done until an interruption is kept and not done again.

        Raises:
            KeyboardInterrupt: after all embeddings so far are saved.
        """
        try:
            reused = self._read(self.plan.read)
            self._save()
            self._read(self._reuse(reused), anew=True)
        finally:
            self._save()
        self.store.replace(self.plan.gone, [], [])
        self.report.removed = self._left.total()
        self.report.bad = list(self.store.bad_files().values())
        return self.report

    def _read(self, files: list[Found], anew: bool = False) -> list[Found]:
        """Read, embed and save files; return those whose content is known already, unless they are read anew."""
        reused = []
        for item in run((self._contents.stream(file, anew) for file in files), self._job):
            if isinstance(item.error, KnownContentError):
                reused.append(files[item.index])
            else:
                self._finish(files[item.index], item)
        return reused

    def _finish(self, file: Found, item: StreamItem[Segments]) -> None:
        """Note the windows of a file, or why it has none."""
        if item.result is None:
            self._note(file, [], (item.error.reason if item.error else "unreadable", str(item.error)))
        elif not item.result:
            self._note(file, [], ("silent", item.note if item.silent else "all of its windows are silent"))
        else:
            rows = [
                WindowRow(
                    file=file_id(file.path),
                    path=file.path,
                    duration=item.begins + item.seconds,
                    start=item.begins + start,
                    end=item.begins + end,
                    size=file.size,
                    mtime_ns=file.mtime_ns,
                    hash=self._contents.hashes[file.name],
                    model=self.metadata.model_name,
                    vector=leading(vector, self.metadata.embedding_dim).numpy(),
                )
                for start, end, vector in item.result
            ]
            self.report.seconds += item.seconds
            if item.note:
                self.report.notes.append((file.name, item.note))
            if file.path in self.known:
                self.report.changed += 1
            else:
                self.report.added += 1
            self._note(file, rows, None)

    def _reuse(self, files: list[Found]) -> list[Found]:
        """Give files the rows of others that have the same bytes; return those for which there are no such rows."""
        rest, hashes = [], self._contents.hashes
        for start in range(0, len(files), AT_ONCE):
            some = files[start : start + AT_ONCE]
            rows = self.store.rows_with([hashes[file.name] for file in some])
            for file in some:
                content = hashes[file.name]
                known = rows.get(content)
                if known is None:  # the other file is bad, or was changed meanwhile
                    rest.append(file)
                    continue
                name, size, mtime = file
                moved = [row._replace(file=file_id(name), path=name, size=size, mtime_ns=mtime) for row in known]
                self._note(file, moved, None)
                if self._left[content]:
                    self._left[content] -= 1
                    self.report.moved += 1
                else:
                    self.report.reused += 1
        return rest

    def _note(self, file: Found, rows: list[WindowRow], bad: tuple[str, str] | None) -> None:
        self._rows += rows
        if file.name in self.known or file.name in self.bad:
            self._paths.append(file.name)
        if bad is not None:
            self._bad.append(BadRow(file.name, file.size, file.mtime_ns, *bad))
        self.progress(1)
        if len(self._rows) >= COMMIT_ROWS or time.monotonic() - self._saved > COMMIT_SECONDS:
            self._save()

    def _save(self) -> None:
        self.store.replace(self._paths, self._rows, self._bad)
        self._rows, self._bad, self._paths, self._saved = [], [], [], time.monotonic()


def _job(model: Model, metadata: Metadata, workers: int) -> WindowJob[Tensor | None, Segments]:
    """Make the job that embeds the windows of files; windows that are silent, see `slap.audio.level`, are left out."""
    rate = model.sample_rate

    def embed(clips: Sequence[np.ndarray]) -> list[Tensor | None]:
        loud = [not Level().add(clip).silent for clip in clips]
        heard = tensors(list(compress(clips, loud)))
        found = model.backend.encode_audio(heard) if heard else torch.empty(0, model.embedding_dim)
        if not bool(found.isfinite().all()):
            raise UserError(f"{metadata.model} gives embeddings that are not finite; are the model's weights whole?")
        rows = iter(found)
        return [next(rows) if one else None for one in loud]

    def segments(parts: list[Tensor | None], spans: list[Span]) -> Segments:
        pairs = zip(spans, parts, strict=True)
        return [(start / rate, stop / rate, part) for (start, stop), part in pairs if part is not None]

    window, hop, batch = (round(seconds * rate) for seconds in (metadata.window, metadata.hop, BATCH_SECONDS))
    return WindowJob(embed, segments, rate, window, batch, hop, workers)
