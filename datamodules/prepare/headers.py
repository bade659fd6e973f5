"""Reader of the headers of many audio files, in parallel, in order, that can continue after an interruption.

Headers are kept in a journal, one line per file in the order of the files. A later reading of the same files takes from
it the headers of all files with the same size and time of modification, without opening them again. In parts, files are
read for journals that stay, see `slap.datamodules.prepare.parts`.
"""

from __future__ import annotations

import json
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

from slap.audio.decoders import Header, measure
from slap.audio.errors import AudioError

T = TypeVar("T")

LineOf = Callable[[str], dict[str, Any]]
"""A function that returns a journal's line for the path of a file."""

BATCH = 64  # files per task of a process
FEW = 1024  # files; below this, starting processes takes longer than reading

KINDS: dict[str, Literal["missing", "unreadable", "truncated", "empty"]] = {
    "absent": "missing",
    "truncated": "truncated",
    "empty": "empty",
}
"""The kind of fault for each reason of an error in reading, see `slap.core.bad_clip`; any other is unreadable."""


@dataclass(frozen=True)
class Fault:
    """The reason why a file has no usable header.

    Attributes:
        kind: kind of fault that `slap prepare` counts.
        detail: message for people.
    """

    kind: Literal["missing", "unreadable", "truncated", "empty"]
    detail: str


def read_header(path: str) -> Header | Fault:
    """Read the header of an audio file in any format that training reads, with the true length, see `measure`."""
    try:
        if Path(path).stat().st_size == 0:
            return Fault("empty", f"{path} is a file of 0 bytes")
        return measure(path)
    except FileNotFoundError:
        return Fault("missing", f"there is no file {path}")
    except AudioError as error:
        return Fault(KINDS.get(error.reason, "unreadable"), str(error))
    except (OSError, ValueError) as error:  # ValueError: NUL in its name
        return Fault("unreadable", str(error))


def read_headers(
    items: Iterable[T], path_of: Callable[[T], str], journal: Path, workers: int, line_of: LineOf | None = None
) -> Iterator[tuple[T, Header | Fault]]:
    """Yield the header of each item's file, in order.

    Args:
        items: any objects that have a file each.
        path_of: returns the path of an item's file.
        journal: path of the journal; one from an interrupted reading is continued. The caller removes it.
        workers: number of processes that read; 0 reads in this one.
        line_of: makes the journal's line of a path, in any process; None is `header_line`.

    Raises:
        RuntimeError: a process died, e.g. for lack of memory.
    """
    items = iter(items)
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a+b") as file:
        line_of = line_of or header_line
        yield from _replayed(file, items, path_of, line_of)
        few = list(islice(items, FEW))
        for item, line in _read(chain(few, items), path_of, workers if len(few) == FEW else 0, line_of):
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()  # a process that is killed loses nothing
            yield item, parsed(line)


def _replayed(
    file: BinaryIO, items: Iterator[T], path_of: Callable[[T], str], line_of: LineOf
) -> Iterator[tuple[T, Header | Fault]]:
    """Yield the headers of the first items from a journal, and truncate it after the last line that fits."""
    file.seek(0)
    good = 0
    held: list[T] = []
    for raw in file:
        try:
            line = json.loads(raw)
            path, stamp = line["path"], line["stamp"]
        except (ValueError, KeyError, TypeError):
            break  # torn by the interruption
        item = next(items, None)
        if item is None:
            break
        if path != path_of(item) or not raw.endswith(b"\n"):
            held.append(item)
            break
        good += len(raw)
        # A file that was bad, or has changed, is looked at again.
        unchanged = {"frames", "note"} <= line.keys() and stamp == _stamp(path)
        yield item, parsed(line) if unchanged else read_header(path)
    file.truncate(good)
    file.seek(good)
    for item in held:
        line = line_of(path_of(item))
        file.write(json.dumps(line).encode() + b"\n")
        yield item, parsed(line)


def _read(
    items: Iterator[T], path_of: Callable[[T], str], workers: int, line_of: LineOf
) -> Iterator[tuple[T, dict[str, Any]]]:
    """Yield items with the journal lines of their files, read by a number of processes."""
    if workers < 1:
        for item in items:
            yield item, line_of(path_of(item))
        return
    # Spawned processes, since this one has threads.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_ignore_interrupts)
    waiting: deque[tuple[list[T], Future[list[dict[str, Any]]]]] = deque()
    try:
        while True:
            while len(waiting) < 2 * workers + 2 and (batch := list(islice(items, BATCH))):
                waiting.append((batch, pool.submit(_lines, line_of, [path_of(item) for item in batch])))
            if not waiting:
                return
            batch, future = waiting.popleft()
            yield from zip(batch, future.result(), strict=True)
    except BrokenProcessPool as error:
        raise RuntimeError(
            f"a reading process died, perhaps of one of the files from {path_of(batch[0])} on; what was read is kept, "
            "and with `--workers 0` the same command shows where it ends"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends the pool


def _lines(line_of: LineOf, paths: list[str]) -> list[dict[str, Any]]:
    return [line_of(path) for path in paths]


def header_line(path: str) -> dict[str, Any]:
    """Return the journal line of a file."""
    stamp = _stamp(path)  # before the file is read: a change in between is then seen as one
    return {"path": path, "stamp": stamp, **vars(read_header(path))}


def parsed(line: dict[str, Any]) -> Header | Fault:
    """Return the header, or the fault, on a journal's line."""
    if "frames" in line:
        return Header(line["frames"], line["rate"], line["channels"], note=line["note"])
    return Fault(line["kind"], line["detail"])


def _stamp(path: str) -> list[int] | None:
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]
