"""Bring an index up to date with its folder: what is new, changed, moved, copied or gone; nothing is embedded twice.

W windows of a batch, E shared dimension.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from slap.audio.scan import Found, file_id, scan
from slap.inference.model import Model
from slap.search.embedding import Embedding, Finished
from slap.search.metadata import Metadata
from slap.search.parallel import interleave
from slap.search.reading import Bad, Item, Known, Reader
from slap.search.store import AT_ONCE, BadRow, State, Store, WindowRow

COMMIT_ROWS, COMMIT_SECONDS = 4096, 30.0
"""What is embedded is saved after so many windows or so long: an interruption loses no more."""

AHEAD = 64
"""Windows that wait for the model, decoded."""


class UpdatePlan(NamedTuple):
    """What differs between a folder and its index."""

    read: list[Found]
    gone: list[str]
    same: int


@dataclass
class UpdateReport:
    """What an update did, in files.

    Attributes:
        added: were not there before.
        changed: have other content.
        moved: were elsewhere before.
        reused: are new or touched, but have the content of another file, or their own.
        removed: no longer there.
        unchanged: neither read nor embedded.
        seconds: of audio that was embedded.
        bad: all files that are not in the index, also those found earlier.
    """

    added: int = 0
    changed: int = 0
    moved: int = 0
    reused: int = 0
    removed: int = 0
    unchanged: int = 0
    seconds: float = 0.0
    bad: list[BadRow] = field(default_factory=list)

    @property
    def reasons(self) -> dict[str, int]:
        """How many files are bad for each reason."""
        return dict(Counter(row.reason for row in self.bad).most_common())


def compare(found: list[Found], known: dict[str, State], bad: dict[str, BadRow], retry: bool = False) -> UpdatePlan:
    """Which files must be read, which are gone, and how many are as they were.

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
        rate: Hz, the model's.
        workers: threads that decode.
        retry: read files again that could not be indexed.
        progress: called with the number of files done since the last call.
    """

    def __init__(
        self,
        store: Store,
        metadata: Metadata,
        model: Model,
        workers: int = 2,
        retry: bool = False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.store, self.metadata, self.model, self.workers = store, metadata, model, workers
        self.progress = progress
        self.known, self.bad = store.files(), store.bad_files()
        files = list(scan(Path(metadata.folder)))
        if not files:
            raise ValueError(f"{metadata.folder} holds no audio files; nothing was changed")
        self.plan = compare(files, self.known, self.bad, retry)
        self.report = UpdateReport(unchanged=self.plan.same)
        self._left = Counter(self.known[path].hash for path in self.plan.gone if path in self.known)
        self._rows: list[WindowRow] = []
        self._bad: list[BadRow] = []
        self._paths: list[str] = []
        self._saved = time.monotonic()

    def run(self) -> UpdateReport:
        """Do it all; what was done until an interruption is kept and not done again.

        Raises:
            KeyboardInterrupt: after what was embedded until then is saved.
        """
        claims: dict[str, object] = {state.hash: state for state in self.known.values()}
        folder, window, hop = Path(self.metadata.folder), self.metadata.window, self.metadata.hop
        reader = Reader(folder, self.model.sample_rate, window, hop, claims)
        sources = (partial(reader, file) for file in self.plan.read)
        try:
            reused = self._consume(interleave(sources, self.workers, AHEAD))
            self._save()
            self._reuse(reused, reader)
        finally:
            self._save()
        self.store.replace(self.plan.gone, [], [])
        self.report.removed = self._left.total()
        self.report.bad = list(self.store.bad_files().values())
        return self.report

    def _consume(self, items: Iterator[Item]) -> list[Known]:
        """Embed and save what is read; what is known already is returned."""
        reused = []
        embedding = Embedding(self.model)
        for item in items:
            if isinstance(item, Known):
                reused.append(item)
            else:
                self._finish(embedding.add(item))
        self._finish(embedding.flush())
        return reused

    def _finish(self, finished: list[Finished]) -> None:
        for whole, windows in finished:
            file = whole.file
            if isinstance(whole, Bad):
                self._note(file, [], whole)
                continue
            state = (file.size, file.mtime_ns, whole.hash, self.metadata.model_name)
            rows = [
                WindowRow(file_id(file.path), file.path, whole.duration, start, end, *state, vector)
                for start, end, vector in windows
            ]
            self.report.seconds += whole.duration
            if file.path in self.known:
                self.report.changed += 1
            else:
                self.report.added += 1
            self._note(file, rows, None)

    def _reuse(self, items: list[Known], reader: Reader) -> None:
        """Give files the rows of others that have the same bytes."""
        for start in range(0, len(items), AT_ONCE):
            some = items[start : start + AT_ONCE]
            rows = self.store.rows_with([item.hash for item in some])
            for item in some:
                file, known = item.file, rows.get(item.hash)
                if known is None:  # the other file is bad, or was changed meanwhile
                    self._consume(reader(file, anew=True))
                    continue
                name, size, mtime = file
                moved = [row._replace(file=file_id(name), path=name, size=size, mtime_ns=mtime) for row in known]
                self._note(file, moved, None)
                if self._left[item.hash]:
                    self._left[item.hash] -= 1
                    self.report.moved += 1
                else:
                    self.report.reused += 1

    def _note(self, file: Found, rows: list[WindowRow], bad: Bad | None) -> None:
        self._rows += rows
        if file.name in self.known or file.name in self.bad:
            self._paths.append(file.name)
        if bad is not None:
            self._bad.append(BadRow(file.name, file.size, file.mtime_ns, bad.reason, bad.detail))
        self.progress(1)
        if len(self._rows) >= COMMIT_ROWS or time.monotonic() - self._saved > COMMIT_SECONDS:
            self._save()

    def _save(self) -> None:
        self.store.replace(self._paths, self._rows, self._bad)
        self._rows, self._bad, self._paths, self._saved = [], [], [], time.monotonic()
